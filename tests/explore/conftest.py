# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

if "AIRFLOW_HOME" not in os.environ:  # before Airflow is imported: it writes its configuration there
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

import pytest


@pytest.fixture(autouse=True)
def _silent() -> Iterator[Any]:
    """Silence the logs of tens of thousands of simulated failures."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
