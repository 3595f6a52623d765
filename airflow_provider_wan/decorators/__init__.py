# SPDX-License-Identifier: Apache-2.0
"""Decorators of the TaskFlow API."""
