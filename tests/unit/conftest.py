# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dev.testkit.web_server import WebServer

KEY = "key-0123456789abcdef"


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set up the connection ``wan_default`` of a base URL, in the environment."""

    def set_up(base_url: str = "https://api.example.com/queue", *, key: Any = KEY, extra: Any = None) -> None:
        value = {"conn_type": "wan", "host": base_url, "password": key, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", json.dumps(value))

    return set_up


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    """A web server of this test's own."""
    server = WebServer()
    yield server
    server.close()
