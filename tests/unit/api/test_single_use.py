# SPDX-License-Identifier: Apache-2.0
"""The connection of the paid POST, over real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_wan.api import client as client_module
from airflow_provider_wan.api import errors
from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.request import I2VRequest
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer
from dev.testkit.tcp_server import unreachable_address

REQUEST = I2VRequest("https://images.example.com/cat.jpg", prompt="a cat")


def build_client(url: str) -> WanClient:
    return WanClient(WanConfig(api_key="tests-key-1f9d3b", base_url=url))


@pytest.fixture
def unreachable() -> Iterator[tuple[str, int]]:
    """Return an address that never accepts connections."""
    with unreachable_address() as address:
        yield address


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)


def test_connecting_sends_no_byte_of_the_request() -> None:
    with WireServer([wire.ACCEPTED]) as server:
        prepared = build_client(server.url).prepare_submission(REQUEST)
        time.sleep(0.1)
        assert server.seen == []
        assert prepared.send(5.0).request_id == "r1"
        assert len(server.seen) == 1
        prepared.close()


def test_eleven_dead_addresses_share_one_connect_deadline(
    monkeypatch: pytest.MonkeyPatch, unreachable: tuple[str, int]
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT", 2.5)
    with WireServer([wire.ACCEPTED]) as server:
        alive = ("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
        _resolve_to(monkeypatch, *[unreachable] * 5, alive)
        started = time.monotonic()
        assert build_client("http://api.example.com/api").submit(REQUEST).request_id == "r1"
        assert time.monotonic() - started < 3.0
    _resolve_to(monkeypatch, *[unreachable] * 11)
    started = time.monotonic()
    with pytest.raises(errors.WanConnectError):
        build_client("http://api.example.com/api").submit(REQUEST)
    assert time.monotonic() - started < 4.0


def test_a_name_lookup_that_hangs_ends_at_the_connect_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: time.sleep(5))
    started = time.monotonic()
    with pytest.raises(errors.WanConnectError, match="ConnectTimeout"):
        build_client("http://api.example.com/api").submit(REQUEST)
    assert time.monotonic() - started < 1.0


def test_a_connection_that_was_closed_before_the_request_was_sent_proves_that_nothing_was_accepted() -> None:
    with WireServer([wire.close_after_request, wire.ACCEPTED], reads=False) as server:
        prepared = build_client(server.url).prepare_submission(REQUEST)
        time.sleep(0.2)
        with pytest.raises(errors.WanConnectError, match="closed before"):
            prepared.send(5.0)
        prepared.close()
        assert server.seen == []


def drip(part: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        until = time.monotonic() + 10
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while time.monotonic() < until:
                connection.sendall(part)
                time.sleep(0.1)
        except OSError:
            pass

    return script


@pytest.mark.parametrize(
    "part",
    [b"X-Slow: 1\r\n", b"a", b"Content-Length: 100000\r\n\r\n"],
    ids=["headers", "one long header", "body"],
)
def test_a_dripping_response_is_cut_off_at_the_deadline_and_in_doubt(part: bytes) -> None:
    with WireServer([drip(part)]) as server:
        prepared = build_client(server.url).prepare_submission(REQUEST)
        started = time.monotonic()
        with pytest.raises(errors.WanInDoubtError):
            prepared.send(0.6)
        assert time.monotonic() - started < 1.5
        prepared.close()


def test_what_a_peer_does_not_read_is_cut_off_at_the_deadline_and_does_not_leave_later() -> None:
    received: list[bytes] = []

    def reads_late(connection: socket.socket) -> None:
        time.sleep(1.0)
        try:
            while data := connection.recv(1 << 20):
                received.append(data)
        except OSError:
            received.append(b"reset")

    big = I2VRequest("https://images.example.com/" + "x" * 8_000_000, prompt="a cat")
    with WireServer([reads_late], reads=False) as server:
        prepared = build_client(server.url).prepare_submission(big)
        with pytest.raises(errors.WanInDoubtError):
            prepared.send(0.4)
        prepared.close()
    assert received[-1] == b"reset"
    assert sum(map(len, received)) < 8_000_000


def test_informational_responses_are_skipped_and_a_compressed_one_is_read() -> None:
    import gzip

    body = gzip.compress(b'{"request_id": "r1", "status": "queued"}')

    def answer(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    with WireServer([answer]) as server:
        assert build_client(server.url).submit(REQUEST).request_id == "r1"


def test_a_plain_proxy_gets_the_absolute_address_and_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with WireServer([wire.ACCEPTED]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:secret@").removesuffix("/api"))
        assert build_client("http://api.example.com/queue").submit(REQUEST).request_id == "r1"
    (seen,) = proxy.seen
    assert seen.head.startswith("POST http://api.example.com/queue/requests HTTP/1.1")
    assert seen.headers["host"] == "api.example.com"
    assert seen.headers["proxy-authorization"].startswith("Basic ")


def test_a_tunnel_is_made_before_the_request_and_its_refusal_proves_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with WireServer([wire.answers(403, {})]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.removesuffix("/api"))
        with pytest.raises(errors.WanConnectError):
            build_client("https://api.example.com/queue").submit(REQUEST)
    (seen,) = proxy.seen
    assert seen.head.startswith("CONNECT api.example.com:443 HTTP/1.")
