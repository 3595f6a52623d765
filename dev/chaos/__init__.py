# SPDX-License-Identifier: Apache-2.0
"""Services die and the API fails while clips are made: ``make chaos``."""
