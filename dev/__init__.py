# SPDX-License-Identifier: Apache-2.0
"""Tools for working on the provider: a local stack of real parts, the demo and the contact sheet.

Nothing here is part of the wheel.
"""
