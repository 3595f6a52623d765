# SPDX-License-Identifier: Apache-2.0
"""A server on a raw socket that breaks connections in every way."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from dev.testkit.tcp_server import TcpServer


@dataclass
class Seen:
    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


Script = Callable[[socket.socket], None]


@dataclass
class WireServer(TcpServer):
    """
    Play one script per connection, repeating the last one, and record what it received.

    :param reads: whether it reads a request before it plays its script.
    :param tls: speak TLS with this context.
    """

    scripts: list[Script]
    reads: bool = True
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    _served: int = field(default=0, init=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api"

    def _handle(self, connection: socket.socket) -> None:
        script = self.scripts[min(self._served, len(self.scripts) - 1)]
        self._served += 1
        with connection:
            connection.settimeout(10)
            if self.tls is not None:
                try:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                except (OSError, ssl.SSLError):
                    return
            if self.reads and script is not reset_at_once:
                self.seen.append(read_request(connection))
            script(connection)


def read_request(connection: socket.socket) -> Seen:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    seen = Seen(head.decode(), body)
    length = int(seen.headers.get("content-length", 0))
    while len(seen.body) < length:
        seen.body += connection.recv(65536)
    return seen


def reset_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


reset_after_request: Script = lambda connection: reset_at_once(connection)  # noqa: E731


def close_after_request(_: socket.socket) -> None:
    pass


def half_a_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")


def half_a_body(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"request_id": "r1", "sta')


def broken_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense")


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")


def never_answers(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)


def broken_gzip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")


def answers(status: int, body: object, *headers: str) -> Script:
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", "Connection: close", *headers]
    if not any(line.lower().startswith("content-type:") for line in headers):
        lines.append("Content-Type: application/json")

    def script(connection: socket.socket) -> None:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    return script


ACCEPTED = answers(200, {"request_id": "r1", "status": "queued"})
