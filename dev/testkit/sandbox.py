# SPDX-License-Identifier: Apache-2.0
"""A sandbox on a clock of its own, a client of a running sandbox, and a server of images."""

from __future__ import annotations

import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import requests
from PIL import Image

from airflow_provider_wan.sandbox.config import RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.responses import SandboxResponse
from airflow_provider_wan.sandbox.server.thread import SandboxServer

KEY = "sandbox-key"
MODEL = "wan2.6-i2v"
START = 1_800_000_000.0
PAYLOAD = {"img_url": "https://images.example/cat.jpg", "resolution": "720P", "duration": 5}


class ManualClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


class SandboxHarness:
    """A core on a manual clock, and the calls that tests make."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.events: list[dict[str, Any]] = []
        settings = {"queue_sigma": 0.0, "run_sigma": 0.0, **options}
        config = SandboxConfig(render=RenderMode.NONE, **settings)
        self.core = SandboxCore(config, clock=self.clock, sink=self.events.append)

    def call(self, method: str, path: str, value: object = None, **headers: str) -> SandboxResponse:
        path, _, query = path.partition("?")
        params = dict(pair.split("=") for pair in query.split("&")) if query else {}
        sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        body = b"" if value is None else json.dumps(value).encode()
        return self.core.handle(method, path, params, sent, body)

    def submit(self, **payload: Any) -> SandboxResponse:
        return self.call("POST", "/requests", {"model": MODEL, "payload": {**PAYLOAD, **payload}})

    def submit_id(self, **payload: Any) -> str:
        return str(self.submit(**payload).json()["request_id"])

    def get(self, request_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/requests/{request_id}").json())

    def listed(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.call("GET", f"/requests{query}").json()["requests"])

    def wait(self, seconds: float) -> None:
        self.clock.time += seconds


def picture(width: int = 750, height: int = 1000) -> Image.Image:
    """Draw soft color gradients with sharp discs, whose motion is visible."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = [127 + 90 * np.sin(x / (40 + 17 * band) + band) * np.cos(y / (55 - 9 * band)) for band in range(3)]
    image = Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))
    for left, top, color in ((0.2, 0.2, (250, 230, 40)), (0.6, 0.5, (20, 30, 160)), (0.3, 0.7, (220, 40, 40))):
        disc = Image.new("RGB", (width // 5, width // 5), color)
        image.paste(disc, (int(left * width), int(top * height)))
    return image


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


class ImageServer:
    """A web server for files in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, path: str, data: bytes) -> str:
        self.files[path] = data
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class SandboxClient:
    """A plain HTTP client of a running sandbox."""

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
