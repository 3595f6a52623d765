# SPDX-License-Identifier: Apache-2.0
"""Exits with 0 if this host's job of a type has sent a heartbeat lately: the health check of docker-compose.yml.

``airflow jobs check`` decides the same, and loads all of Airflow for it, which takes seconds of CPU each time.
"""

from __future__ import annotations

import os
import sys

import psycopg2

QUERY = """
    SELECT max(latest_heartbeat) FROM job
    WHERE job_type = %s AND hostname = %s AND state = 'running' AND latest_heartbeat > now() - interval '30 seconds'
"""


def main(job_type: str) -> str | None:
    """Return why the job is not healthy; None if it is.

    :param job_type: for example ``TriggererJob``.
    """
    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2:", "postgresql:", 1)
    hostname = os.environ["HOSTNAME"]  # as in deploy/config/cluster_host.py
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError:
        return "The database can't be reached."  # the error's text may have the URL
    try:
        with connection.cursor() as cursor:
            cursor.execute(QUERY, (job_type, hostname))
            row = cursor.fetchone()
    finally:
        connection.close()
    if row is None or row[0] is None:
        return f"No {job_type} of {hostname} has sent a heartbeat in the last 30 seconds."
    print(f"{job_type} of {hostname}: heartbeat at {row[0]:%H:%M:%S %Z}")
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
