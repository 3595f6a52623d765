# SPDX-License-Identifier: Apache-2.0
"""When and how to look at requests that wait."""
