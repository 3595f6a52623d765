# SPDX-License-Identifier: Apache-2.0
"""A server before the sandbox whose responses are silent, drip, or ask for an absurd pause."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dev.testkit.scripted_server import answers, read_request
from dev.testkit.tcp_server import TcpServer

Fault = Callable[["FaultyFront", socket.socket], None]


@dataclass
class FaultyFront(TcpServer):
    """Forward all requests to a server, unless a fault is set for their kind.

    :param upstream: port of the API on 127.0.0.1.
    :param results: port of its result host, whose addresses in responses are replaced by this server's.
    :param faults: by kind: ``submit``, ``poll`` (of a request or the list) or ``result``.
    """

    upstream: int = 0
    results: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    #: Kinds of the requests that arrived.
    seen: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        super().__exit__(*error)

    def _handle(self, connection: socket.socket) -> None:
        threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            request = read_request(connection)
            method, path, _ = request.head.split("\r\n", 1)[0].split(" ")
            kind = "submit" if method == "POST" else "poll" if "/requests" in path else "result"
            self.seen.append(kind)
            if (fault := self.faults.get(kind)) is not None:
                fault(self, connection)
                return
            lines = [line for line in request.head.split("\r\n") if not line.lower().startswith("connection:")]
            port = self.results if kind == "result" else self.upstream
            with socket.create_connection(("127.0.0.1", port), 10) as upstream:
                upstream.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + request.body)
                response = b"".join(iter(lambda: upstream.recv(65536), b""))
            # Both ports have five digits, so the length stays.
            there, here = f"127.0.0.1:{self.results}".encode(), f"127.0.0.1:{self.port}".encode()
            connection.sendall(response.replace(there, here) if len(there) == len(here) else response)


def silent(front: FaultyFront, connection: socket.socket) -> None:
    """Send nothing."""
    front.ended.wait(60)


def drip_head(front: FaultyFront, connection: socket.socket) -> None:
    """Send the head of a response, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    _drip(front, connection)


def drip_body(front: FaultyFront, connection: socket.socket) -> None:
    """Send the body of a response, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    _drip(front, connection)


def hint(status: int, retry_after: str) -> Fault:
    """Return a fault that refuses, and asks for a pause."""
    script = answers(status, {"error": "Upstream capacity temporarily exhausted"}, f"Retry-After: {retry_after}")
    return lambda _, connection: script(connection)


def _drip(front: FaultyFront, connection: socket.socket) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not front.ended.wait(0.2):
        connection.sendall(b" ")
