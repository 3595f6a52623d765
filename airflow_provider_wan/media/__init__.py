# SPDX-License-Identifier: Apache-2.0
"""Images, audio and video: what the API takes, and whether what it gives is whole. Knows nothing of Airflow."""
