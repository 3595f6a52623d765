# SPDX-License-Identifier: Apache-2.0
"""The gallery: the clips of the ledger as pages of Airflow's UI. It reads; nothing in it can spend."""
