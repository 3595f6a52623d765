# SPDX-License-Identifier: Apache-2.0
"""Measurements of the provider; ``make bench`` runs them all."""
