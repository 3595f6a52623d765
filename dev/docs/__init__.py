# SPDX-License-Identifier: Apache-2.0
"""The documentation as data, and its parts that are generated from the code."""
