# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy: it tunnels TLS, or inspects it with certificates of a private CA, as companies do."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dev.testkit.tcp_server import TcpServer
from dev.testkit.tls import PrivateCA

Address = tuple[str, int]


@dataclass
class ForwardProxy(TcpServer):
    """A proxy in threads of this process.

    :param ca: inspect TLS with certificates of this CA; ``None`` tunnels it.
    :param resolve: where a host and port really are; the proxy connects there, in clear text if it inspects.
    :param port: port to listen on; 0 for any.
    :param tls: speak TLS with the clients by this context, as a proxy at an ``https://`` address does.
    """

    ca: PrivateCA | None = None
    resolve: Callable[[str, int], Address] = lambda host, port: (host, port)
    port: int = 0
    tls: ssl.SSLContext | None = None
    #: Targets of the requests that arrived, ``host:port`` for CONNECT and an absolute URL otherwise.
    seen: list[str] = field(default_factory=list)
    #: Request lines that were read inside inspected TLS connections.
    inspected: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _handle(self, connection: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(connection,), daemon=True).start()

    def _accept(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._forward(self.tls.wrap_socket(connection, server_side=True) if self.tls else connection)

    def _forward(self, client: socket.socket) -> None:
        with client:
            head = _read_head(client)
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            self.seen.append(target)
            if method != "CONNECT":
                parts = urlsplit(target)
                where = self.resolve(parts.hostname or "", parts.port or 80)
                with socket.create_connection(where, 10) as upstream:
                    path = target.split("/", 3)[3] if target.count("/") > 2 else ""
                    upstream.sendall(head.replace(target.encode(), b"/" + path.encode(), 1))
                    _pump(client, upstream)
                return
            host, _, port = target.rpartition(":")
            where = self.resolve(host.strip("[]"), int(port))
            with socket.create_connection(where, 10) as upstream:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if self.ca is None:
                    _pump(client, upstream)
                    return
                context = self.ca.server_context(host.strip("[]"))
                with context.wrap_socket(client, server_side=True) as plain:
                    _pump(plain, upstream, self._on_inspected)

    def _on_inspected(self, data: bytes) -> None:
        line = data.split(b"\r\n", 1)[0]
        if line.endswith(b"HTTP/1.1"):
            self.inspected.append(line.decode())


def _read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def _pump(client: Any, upstream: socket.socket, on_request: Callable[[bytes], None] = lambda _: None) -> None:
    """Copy bytes both ways until one side closes."""
    while True:
        pending = getattr(client, "pending", int)()
        readable = [client] if pending else select.select([client, upstream], [], [], 60)[0]
        if not readable:
            return
        for source in readable:
            data = source.recv(65536)
            if not data:
                return
            if source is client:
                on_request(data)
            (upstream if source is client else client).sendall(data)
