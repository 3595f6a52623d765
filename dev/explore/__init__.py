# SPDX-License-Identifier: Apache-2.0
"""Model exploration of the ledger: random histories of processes that die at random moments."""
