# SPDX-License-Identifier: Apache-2.0
"""deploy/check_job.py without a database. With one, the cluster and the container tests wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "deploy" / "check_job.py"


def test_a_database_that_cannot_be_reached_is_unhealthy_and_its_password_stays_hidden() -> None:
    url = "postgresql+psycopg2://airflow:hidden@127.0.0.1:1/airflow"
    env = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "HOSTNAME": "triggerer-1"}
    done = subprocess.run([sys.executable, CHECK, "TriggererJob"], env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "The database can't be reached.\n")
    assert "hidden" not in done.stdout
