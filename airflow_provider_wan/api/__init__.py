# SPDX-License-Identifier: Apache-2.0
"""The wan2.6-i2v request-queue API, without Airflow."""
