# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for the wan2.6-i2v image-to-video request-queue API."""

__version__ = "0.1.0"
