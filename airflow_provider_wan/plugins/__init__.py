# SPDX-License-Identifier: Apache-2.0
"""Plugins for Airflow's UI."""
