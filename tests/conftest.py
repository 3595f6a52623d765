# SPDX-License-Identifier: Apache-2.0
"""Keeps Airflow's files out of the home folder, whichever test imports it first, and lets no test delay another."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def forget_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget run times and rates of requests, so that one test's clips do not delay another's."""
    from airflow_provider_wan.polling import hub, throttle

    monkeypatch.setattr(hub, "_runtime_stats", {})
    monkeypatch.setattr(throttle, "_rate_limiters", {})
