# SPDX-License-Identifier: Apache-2.0
"""Keeps Airflow's files out of the home folder, whichever test imports it first."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
