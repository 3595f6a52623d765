# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

KEY = "key-0123456789abcdef"


@pytest.fixture
def connection(monkeypatch):
    """Set up the connection ``wan_default`` of a base URL, in the environment."""

    def set_up(base_url="https://api.example.com/queue", *, key=KEY, extra=None):
        value = {"conn_type": "wan", "host": base_url, "password": key, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", json.dumps(value))

    return set_up
