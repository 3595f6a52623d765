# SPDX-License-Identifier: Apache-2.0
"""A host of results with scripted responses, over a real socket."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Play = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    path: str
    headers: dict[str, str]


@dataclass
class ResultHost:
    """Respond to each path with its plays, in turn; the last one is repeated.

    :param plays: what to do at each path.
    :param seen: the calls so far.
    """

    plays: dict[str, list[Play]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                owner.seen.append(Seen(self.path, {name.lower(): value for name, value in self.headers.items()}))
                plays = owner.plays.get(path, [status(404)])
                (plays.pop(0) if len(plays) > 1 else plays[0])(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # broken connections are intended

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str = "/clip.mp4?X-Signature=secret", name: str = "127.0.0.1") -> str:
        return f"http://{name}:{self._server.server_port}{path}"

    def play(self, *plays: Play, path: str = "/clip.mp4") -> str:
        self.plays[path] = list(plays)
        return self.url(f"{path}?X-Signature=secret")


def body(data: bytes, kind: str = "video/mp4", *, repeated: tuple[bytes, int] = (b"", 0)) -> Play:
    """Send a good response: the data, and then one chunk repeatedly."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        piece, times = repeated
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data) + len(piece) * times))
        handler.end_headers()
        handler.wfile.write(data)
        for _ in range(times):
            handler.wfile.write(piece)

    return play


def status(code: int, text: bytes = b"", **headers: str) -> Play:
    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return play


def redirect(target: str) -> Play:
    return status(302, Location=target)


def _send_part(handler: BaseHTTPRequestHandler, data: bytes, sent: int) -> None:
    """Announce the full length, and send a part."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:sent])
    handler.wfile.flush()


def cut(data: bytes, sent: int, *, reset: bool = False) -> Play:
    """Announce the full length, send a part, and end the connection, optionally by a reset."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        _send_part(handler, data, sent)
        handler.close_connection = True
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return play


def stall(data: bytes, sent: int) -> Play:
    """Send a part, and then nothing until the client gives up."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        _send_part(handler, data, sent)
        handler.rfile.read(1)
        handler.close_connection = True

    return play


def unannounced(data: bytes) -> Play:
    """Send no length; the end of the connection ends the body."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return play
