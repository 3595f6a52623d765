# SPDX-License-Identifier: Apache-2.0
"""The request-queue API, without Airflow."""
