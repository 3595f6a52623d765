# SPDX-License-Identifier: Apache-2.0
"""Real processes, real sockets, real stores: at once, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_provider_wan.ledger import EntryState, open_store
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.s3_folder import BUCKET

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def api():
    with SandboxServer(api_key="ledger-key", speed=60, seed=5, render="none") as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def ledger(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/ledger", {}, None
    seaweed = request.getfixturevalue("seaweed")
    settings = {"S3_ENDPOINT": seaweed.endpoint_url, "S3_KEY": seaweed.access_key, "S3_SECRET": seaweed.secret_key}
    return f"s3://{BUCKET}/{secrets.token_hex(4)}", settings, seaweed.client


@pytest.fixture
def ask(api, ledger):
    """Start a process that asks for the clip as soon as a line is written to it; none outlives the test."""
    uri, settings, _ = ledger
    started = []

    def start(task, attempt=1):
        process = subprocess.Popen(
            [sys.executable, "-m", "dev.testkit.submit_process", uri, api.base_url, api.api_key, task, str(attempt)],
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


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def answer_of(process):
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return json.loads(told.splitlines()[-1])


def test_of_ten_processes_that_ask_for_one_clip_one_pays_and_all_get_it(api, ask):
    processes = [ask(f"dag/run{n}/clip/-1") for n in range(10)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    answers = [answer_of(process) for process in processes]
    assert len({answer["request_id"] for answer in answers}) == 1
    assert sum(answer["paid_now"] for answer in answers) == 1
    assert len(api.charges()) == 1


def test_a_process_killed_at_any_moment_and_tried_again_pays_once(api, ask, ledger):
    rng = random.Random(11)
    for attempt in range(1, 9):
        process = ask("dag/run/clip/-1", attempt)
        assert process.stdout.readline() == "ready\n"
        go(process)
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.wait()
    last = ask("dag/run/clip/-1", 9)
    go(last)
    told = answer_of(last)
    assert [charge["request_id"] for charge in api.charges()] == [told["request_id"]]
    uri, _, client = ledger
    (held,) = open_store(uri, s3_client=client).entries()
    assert (held.entry.state, held.entry.request_id) == (EntryState.SUCCEEDED, told["request_id"])
