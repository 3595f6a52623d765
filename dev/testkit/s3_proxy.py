# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of a real S3 that refuses what other stores and policies refuse."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class S3Proxy:
    """Forwards each request, unless a rule refuses it.

    :param port: port of the real S3 on 127.0.0.1.
    :param required: headers without which no object is written, with their values.
    :param may_list: whether a missing key is answered with 404, not 403.
    :param may_read: whether objects may be read and looked up at all.
    :param conditional: whether conditional writes are implemented.
    :param checksums: whether the headers of checksums are known.
    :param weak_etags: whether ETags are weakened, as by a proxy that compresses, and so no condition holds on one.
    :param capitals: whether names of headers begin with capitals, as those of every proxy that is written in Go.
    :param delay: seconds before each response.
    """

    def __init__(
        self,
        port: int,
        *,
        required: dict[str, str] | None = None,
        may_list: bool = True,
        may_read: bool = True,
        conditional: bool = True,
        checksums: bool = True,
        weak_etags: bool = False,
        capitals: bool = False,
        delay: float = 0.0,
    ) -> None:
        self.refused: list[str] = []
        self.writes: list[dict[str, str]] = []
        self.parts: list[dict[str, str]] = []
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("expect", "").lower() == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                body = self.rfile.read(int(headers.get("content-length") or 0))
                proxy.seen.append(f"{self.command} {self.path}")
                is_part = "partNumber=" in self.path or "uploadId=" in self.path
                if self.command == "PUT" and is_part:
                    proxy.parts.append(headers)
                if self.command == "PUT" and "/" in self.path.strip("/") and not is_part:
                    proxy.writes.append(headers)
                    if any(headers.get(name) != value for name, value in (required or {}).items()):
                        return self.refuse(403, "AccessDenied")
                time.sleep(delay)
                if weak_etags and headers.get("if-match", "").startswith("W/"):
                    return self.refuse(412, "PreconditionFailed")
                if not may_read and self.command in ("GET", "HEAD"):
                    return self.refuse(403, "AccessDenied")
                if not conditional and self.command == "PUT" and {"if-match", "if-none-match"} & set(headers):
                    return self.refuse(501, "NotImplemented")
                if not checksums and any(name.startswith(("x-amz-checksum", "x-amz-sdk-ch")) for name in headers):
                    return self.refuse(400, "InvalidArgument")
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                # Unchanged: the request is signed.
                sent = {name: value for name, value in self.headers.items() if name.lower() not in ("expect",)}
                upstream.request(self.command, self.path, body, sent)
                answer = upstream.getresponse()
                content = answer.read()
                if not may_list and answer.status == 404:
                    upstream.close()
                    return self.refuse(403, "AccessDenied")
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if weak_etags and name.lower() == "etag":
                        value = f"W/{value}"
                    if capitals:
                        name = name.title()
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                upstream.close()
                return None

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def refuse(self, status: int, code: str) -> None:
                proxy.refused.append(f"{self.command} {status}")
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Address of the S3 API."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
