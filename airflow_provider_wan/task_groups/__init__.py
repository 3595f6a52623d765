# SPDX-License-Identifier: Apache-2.0
"""Task groups: several operators in one line."""
