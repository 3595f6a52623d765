# SPDX-License-Identifier: Apache-2.0
"""A real S3 for the whole session, a sandbox of the API, and a host of results with faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_wan.sandbox import SandboxServer
from dev.seaweed import SeaweedFS
from dev.testkit.result_host import ResultHost
from dev.testkit.s3_folder import BUCKET, Folder


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    with SeaweedFS() as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture
def folder(seaweed: SeaweedFS, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", seaweed.airflow_connection())
    return Folder(seaweed.client(), f"test-{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def host() -> Iterator[ResultHost]:
    with ResultHost() as server:
        yield server


@pytest.fixture
def wan_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point ``wan_default`` at a base URL."""

    def connect(base_url: str, key: str, **extra: Any) -> None:
        value = {"conn_type": "wan", "host": base_url, "password": key, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", json.dumps(value))

    return connect


@pytest.fixture
def sandbox(wan_connection: Callable[..., None]) -> Iterator[SandboxServer]:
    with SandboxServer(api_key="integration-key", speed=2000, seed=3, render="tiny") as server:
        wan_connection(server.base_url, server.api_key)
        yield server
