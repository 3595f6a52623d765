# SPDX-License-Identifier: Apache-2.0
"""One stack for all system tests: SeaweedFS, the sandbox, and Airflow's scheduler, Dag processor, triggerer and API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.sandbox import SandboxServer
from dev import leaks
from dev.stack import ROOT, Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness

DAGS = (
    *("wan_image_to_video", "wan_single_clip", "wan_manifest_batch"),
    *("blocking_clip", "patient_clip", "many_clips", "quick_clips", "batch_of_clips", "company_clip", "limited_clips"),
)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the stack with the example Dags, the tests' Dags and an empty bucket; at the end, no secret lies about."""
    options = {"triggerer": {"job_heartbeat_sec": "2", "triggerer_health_check_threshold": "15"}}
    folders = {"dags": ROOT / "dags", "tests": Path(__file__).with_name("dags")}
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, dags=folders, speed=12, airflow_options=options) as stack:
        stack.s3_client().create_bucket(Bucket=BUCKET)
        stack.wait_for_dags(*DAGS)
        yield stack
        assert find_leaks(stack) == []


def find_leaks(stack: Stack) -> list[leaks.Leak]:
    """Search the database, all logs and the ledger for what all tests together have given to Airflow and the API."""
    keys = {"the API key": stack.api_key, "the S3 secret key": stack.s3_keys[1]}
    prompts = {each["payload"].get("prompt") for each in stack.sandbox_admin("accepted")["accepted"]}
    secrets = leaks.Secrets(keys, {f"the prompt {each}": each for each in prompts if each}, frozenset({"ingest"}))
    found = leaks.scan_database(stack.home.database, stack.home.fernet_key, secrets)
    return found + leaks.scan_files([stack.logs, stack.home.logs, stack.home.path / "wan-ledger"], secrets)


@pytest.fixture(scope="session")
def harness(stack: Stack) -> AirflowHarness:
    return AirflowHarness(stack)


@pytest.fixture(scope="session")
def s3(stack: Stack) -> Any:
    return stack.s3_client()


@pytest.fixture
def api(stack: Stack) -> Iterator[SandboxServer]:
    """Start a sandbox for these tests only, so that its charges are theirs."""
    # It shares a process with the tests, whose load must not look like a dead image host.
    with SandboxServer(render="tiny", speed=4, run_sigma=0.2, queue_sigma=0.2, fetch_seconds=180) as sandbox:
        stack.airflow.put_connection("wan_money", conn_type="wan", host=sandbox.base_url, password=sandbox.api_key)
        yield sandbox
