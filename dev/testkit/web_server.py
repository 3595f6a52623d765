# SPDX-License-Identifier: Apache-2.0
"""A web server that answers as a test says, honours ranges, and keeps what it was asked for."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What lies at a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    range_status: int | None = None


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    sent: int = 0


class WebServer:
    """Serves :attr:`pages` by path; a query string is not part of it."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        pages, asked = self.pages, self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
                asked.append(seen)
                page = pages.get(self.path.partition("?")[0], Page(status=404))
                body, status, headers = page.body, page.status, dict(page.headers)
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if wanted and page.range_status is not None:
                    body, status = b"", page.range_status
                elif wanted and page.ranges and status == 200:
                    low, high = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
                    headers["Content-Range"] = f"bytes {low}-{high}/{len(body)}"
                    body, status = body[low : high + 1], 206
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for at in range(0, len(body), 16384):
                    try:
                        self.wfile.write(body[at : at + 16384])
                    except OSError:
                        return
                    seen.sent = at + 16384

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, path: str, body: bytes = b"", status: int = 200, *, ranges: bool = True, **headers: str) -> str:
        """Put a page there, and return its URL."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = Page(body, status, named, ranges)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
