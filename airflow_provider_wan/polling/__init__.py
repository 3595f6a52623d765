# SPDX-License-Identifier: Apache-2.0
"""When and how to poll requests that are waited for, without Airflow."""
