# SPDX-License-Identifier: Apache-2.0
"""deploy/init.py: its messages if S3 can't be used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

INIT = Path(__file__).parents[3] / "deploy" / "init.py"


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    settings = {"S3_REGION": "us-east-1", "S3_ACCESS_KEY": "access", "S3_SECRET_KEY": "hidden", "WAN_BUCKET": "clips"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("deploy_init", INIT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Refusing(BaseHTTPRequestHandler):
    """An S3 that does not know the keys."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def refusing_s3() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_s3_that_cannot_be_reached_is_reported_in_a_sentence(
    init: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:1")

    with pytest.raises(init.InitError, match=r"S3 \(http://127.0.0.1:1\) cannot be reached: .* Check S3_ENDPOINT"):
        init.make_bucket()


def test_an_endpoint_that_is_no_url_is_reported_in_a_sentence(
    init: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "s3:8333")

    with pytest.raises(init.InitError, match="Check S3_ENDPOINT"):
        init.make_bucket()


def test_keys_that_are_refused_are_reported_in_a_sentence_without_the_secret(
    init: ModuleType, monkeypatch: pytest.MonkeyPatch, refusing_s3: str
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", refusing_s3)

    with pytest.raises(
        init.InitError, match="does not let the bucket clips be used: HeadBucket was answered with 403"
    ) as caught:
        init.make_bucket()

    assert "hidden" not in str(caught.value)
