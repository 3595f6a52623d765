# SPDX-License-Identifier: Apache-2.0
"""Real processes, sockets and stores: processes run concurrently, and are killed at any moment."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.ledger import EntryState, open_store
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.history import find_violations
from dev.testkit.s3_folder import BUCKET

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def api() -> Iterator[Any]:
    with SandboxServer(api_key="ledger-key", speed=60, seed=5, render="none") as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "file":
        return f"file://{tmp_path}/ledger", {}, None
    seaweed = request.getfixturevalue("seaweed")
    settings = {"S3_ENDPOINT": seaweed.endpoint_url, "S3_KEY": seaweed.access_key, "S3_SECRET": seaweed.secret_key}
    return f"s3://{BUCKET}/{secrets.token_hex(4)}", settings, seaweed.client


@pytest.fixture
def start_submit(api: Any, ledger: Any) -> Iterator[Any]:
    """Return a function that starts a process, which submits once a line is written to it."""
    uri, settings, _ = ledger
    started = []

    def start(task: Any, try_number: int = 1) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-m", "dev.testkit.submit_process", uri, api.base_url, api.api_key, task, str(try_number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **settings},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process: Any) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def read_result(process: Any) -> Any:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return json.loads(output.splitlines()[-1])


def test_one_of_ten_processes_pays_for_a_clip_and_all_get_it(api: Any, start_submit: Any) -> None:
    processes = [start_submit(f"dag/run{n}/clip/-1") for n in range(10)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    results = [read_result(process) for process in processes]
    assert len({result["request_id"] for result in results}) == 1
    assert sum(result["paid_now"] for result in results) == 1
    assert len(api.charges()) == 1


def test_a_process_killed_at_any_moment_and_retried_pays_once(api: Any, start_submit: Any, ledger: Any) -> None:
    rng = random.Random(11)
    for attempt in range(1, 9):
        process = start_submit("dag/run/clip/-1", attempt)
        assert process.stdout.readline() == "ready\n"
        go(process)
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.wait()
    last = start_submit("dag/run/clip/-1", 9)
    go(last)
    result = read_result(last)
    assert [charge["request_id"] for charge in api.charges()] == [result["request_id"]]
    uri, _, client = ledger
    (stored,) = open_store(uri, s3_client=client).entries()
    assert (stored.entry.state, stored.entry.request_id) == (EntryState.SUCCEEDED, result["request_id"])
    assert find_violations(api.accepted(), api.charges(), [stored.entry], dump={}) == []
