# SPDX-License-Identifier: Apache-2.0
"""Helpers that tests, benchmarks and development programs share."""
