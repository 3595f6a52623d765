# SPDX-License-Identifier: Apache-2.0
"""The shared rate in real stores, and from a connection to its requests."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanNotFoundError
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.shared_rate import SharedRate
from airflow_provider_wan.ledger.stores.base import DocumentStore
from airflow_provider_wan.polling import throttle
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.s3_folder import BUCKET, Folder


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, folder: Folder, tmp_path: Path) -> DocumentStore:
    if request.param == "file":
        return open_store(f"file://{tmp_path}/limits")
    return open_store(f"s3://{BUCKET}/{secrets.token_hex(4)}", s3_client=lambda: folder.client)


def test_no_two_processes_are_given_the_same_slot(store: DocumentStore) -> None:
    def reserve(_: int) -> list[float]:
        rate = SharedRate(store, "limits/account")
        return [slot for _ in range(8) for slot in rate._reserve_in_store(2, 0.05)]

    with ThreadPoolExecutor(4) as pool:
        slots = sorted(slot for found in pool.map(reserve, range(4)) for slot in found)
    assert len(slots) == 64
    assert min(after - before for before, after in pairwise(slots)) > 0.0499


async def test_workers_and_triggers_of_a_connection_reserve_their_requests_in_its_store(
    sandbox: SandboxServer,
    folder: Folder,
    wan_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "_rate_limiters", {})
    prefix = secrets.token_hex(4)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_LIMITS", os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
    limits = f"s3://aws_limits@{BUCKET}/{prefix}"
    wan_connection(sandbox.base_url, sandbox.api_key, limits_uri=limits, status_requests_per_second=50)
    hook = WanHook()
    with pytest.raises(WanNotFoundError):
        hook.get_request("0" * 36)
    key = f"{prefix}/limits/{hook.config.account.id}.json"

    def read_next() -> float:
        body: Any = folder.client.get_object(Bucket=BUCKET, Key=key)["Body"]
        return float(json.load(body)["next_at"])

    first = read_next()
    assert abs(first - time.time()) < 60.0
    with pytest.raises(WanNotFoundError):
        await WanHook().aget_request("0" * 36)
    assert read_next() > first
