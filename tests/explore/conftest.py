# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

if "AIRFLOW_HOME" not in os.environ:  # before Airflow is imported: it writes its configuration there
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

import pytest

from dev.explore.seams import logs_collected


@pytest.fixture(autouse=True)
def _silent() -> Iterator[Any]:
    """Keep the logs of tens of thousands of simulated failures in their worlds, which are searched for secrets."""
    with logs_collected():
        yield
