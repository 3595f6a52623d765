# SPDX-License-Identifier: Apache-2.0
"""A plain client of a running sandbox."""

from __future__ import annotations

import time
from typing import Any

import requests

from airflow_provider_wan.sandbox.server import SandboxServer
from sandbox.conftest import MODEL, PAYLOAD


class Caller:
    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {server.api_key}"}

    def call(self, method: str, path: str, value: object = None, timeout: float = 10) -> requests.Response:
        url = self.server.base_url + path
        return requests.request(method, url, json=value, headers=self.headers, timeout=timeout)

    def submit(self, timeout: float = 10, **payload: Any) -> requests.Response:
        value = {"model": MODEL, "payload": {**PAYLOAD, **payload}}
        return self.call("POST", "/requests", value, timeout)

    def submit_id(self, **payload: Any) -> str:
        return str(self.submit(**payload).json()["request_id"])

    def finished(self, request_id: str, seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            record: dict[str, Any] = self.call("GET", f"/requests/{request_id}").json()
            if record["status"] in ("success", "failed", "cancelled"):
                return record
            assert time.monotonic() < deadline, record
            time.sleep(0.05)

    def fetch(self, url: str) -> bytes:
        answer = requests.get(url, timeout=10)
        assert answer.status_code == 200, answer
        return answer.content

    def download(self, record: dict[str, Any]) -> bytes:
        return self.fetch(record["outcome"]["media_urls"][0]["url"])
