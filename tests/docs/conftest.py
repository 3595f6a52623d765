# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from airflow_provider_wan.sandbox import SandboxServer

KEY = "key-0123456789abcdef"


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxServer]:
    """A sandbox that makes no files."""
    with SandboxServer(api_key=KEY, speed=60, render="none") as server:
        yield server


@pytest.fixture
def account(sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> SandboxServer:
    """The sandbox behind the connection ``wan_default``."""
    value = {"conn_type": "wan", "host": sandbox.base_url, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", json.dumps(value))
    return sandbox


def run_dag_test(dag_id: str, environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """Run ``airflow dags test`` in a folder. :return: its output. :raises AssertionError: if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "dags", "test", dag_id, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    return output
