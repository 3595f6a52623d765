# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider that turns images into videos with the request-queue API of GMI Cloud."""

__version__ = "0.1.0"
