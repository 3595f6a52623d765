# SPDX-License-Identifier: Apache-2.0
"""A connection that is made first and then carries exactly one request.

The paid POST needs it. A scan for a lost POST counts from the recorded intent, so between the intent and the first byte
there must be no name lookup, no dead address, no handshake and no reconnection.

``requests`` and ``urllib3`` make the connection, with their proxies and certificates; ``h11`` speaks HTTP over it, so
that one deadline covers the request and the whole response, however slowly that drips.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import h11

from airflow_provider_wan.api.network import call_within, describe_connection_error
from airflow_provider_wan.api.wire import MAX_BODY, MAX_HEAD, HttpRequest, HttpResponse, TransportError

if TYPE_CHECKING:
    import requests

_CHUNK = 64 * 1024
_MIN_ADDRESS_TIMEOUT = 0.2


class SingleUseConnection:
    """An open connection, and the serialized request that will be sent over it.

    :param connection: urllib3's connection, connected.
    :param data: the request as bytes.
    """

    def __init__(self, connection: Any, data: bytes) -> None:
        self._connection = connection
        self._socket: Any = connection.sock
        self._data = data

    @classmethod
    def open(
        cls, session: requests.Session, request: HttpRequest, auth: Callable[..., Any], timeout: float
    ) -> SingleUseConnection:
        """Connect, through all addresses of the host, a proxy and TLS, within one deadline.

        :param session: the session whose proxies and certificates apply.
        :param request: the request.
        :param auth: adds the credentials to the prepared request.
        :param timeout: seconds for everything.
        :raises TransportError: if there is no connection; no byte of the request was sent.
        """
        import requests

        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        if request.content_type:
            headers["Content-Type"] = request.content_type
        try:
            prepared = session.prepare_request(
                requests.Request(
                    request.method,
                    request.url,
                    params=request.params or None,
                    data=request.body,
                    headers=headers,
                    auth=auth,
                )
            )
            url = str(prepared.url)
            settings = session.merge_environment_settings(url, {}, True, None, None)
            adapter: Any = session.get_adapter(url)
            pool = adapter.get_connection_with_tls_context(
                prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
            )
            adapter.cert_verify(pool, url, settings["verify"], settings["cert"])
            connection = pool._new_conn()
            tunnel = pool.proxy is not None and url.lower().startswith("https:")
            data = _serialize(prepared, adapter.request_url(prepared, settings["proxies"]), pool, tunnel)
        except (requests.RequestException, OSError, ValueError) as error:
            raise TransportError(type(error).__name__, sent=False) from None

        def connect() -> None:
            connection.timeout = max(timeout / _count_addresses(connection), _MIN_ADDRESS_TIMEOUT)
            if tunnel:
                pool._prepare_proxy(connection)
            if connection.sock is None:
                connection.connect()

        _connect_within(timeout, connect, connection)
        return cls(connection, data)

    def send(self, timeout: float) -> HttpResponse:
        """Send the request, once, and receive the response.

        :param timeout: seconds until the last byte of the response.
        :raises TransportError: if no complete response was received.
        """
        deadline = time.monotonic() + timeout
        if _is_closed(self._socket):
            raise TransportError("the connection was closed before the request was sent", sent=False)
        try:
            # What has not left when this process ends, or gives up, must not leave later.
            _set_option(self._socket, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                _set_option(self._socket, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(int(timeout * 1000), 1))
            self._socket.settimeout(max(timeout, 0.001))
            self._socket.sendall(self._data)
            response = self._receive(deadline)
            _set_option(self._socket, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        except TransportError:
            raise
        except (OSError, h11.ProtocolError, zlib.error, ValueError) as error:
            name = "ReadTimeout" if isinstance(error, TimeoutError) else type(error).__name__
            raise TransportError(name, sent=True) from None
        return response

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _receive(self, deadline: float) -> HttpResponse:
        parser = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        # The parser has to know that a request is out; its bytes are those of `_serialize`.
        parser.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        status, headers, body = 0, dict[str, str](), bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError
                self._socket.settimeout(remaining)
                parser.receive_data(self._socket.recv(_CHUNK))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise TransportError(f"a response of over {MAX_BODY} bytes", sent=True)
            elif isinstance(event, h11.EndOfMessage):
                return HttpResponse(status, headers, _decode(bytes(body), headers.get("content-encoding", "")))
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError


def _serialize(prepared: requests.PreparedRequest, target: str, pool: Any, tunnel: bool) -> bytes:
    from urllib.parse import urlsplit

    body = prepared.body or b""
    body = body.encode() if isinstance(body, str) else bytes(body)
    headers = {"Host": urlsplit(str(prepared.url)).netloc.rpartition("@")[2]}
    if pool.proxy is not None and not tunnel:
        headers |= dict(pool.proxy_headers or {})
    headers |= {
        str(name): value if isinstance(value, str) else value.decode() for name, value in prepared.headers.items()
    }
    writer = h11.Connection(our_role=h11.CLIENT)
    parts = (
        writer.send(h11.Request(method=str(prepared.method), target=target, headers=list(headers.items()))),
        writer.send(h11.Data(body)),
        writer.send(h11.EndOfMessage()),
    )
    return b"".join(part or b"" for part in parts)


def _count_addresses(connection: Any) -> int:
    try:
        return len(socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)) or 1
    except OSError:
        return 1


def _connect_within(timeout: float, connect: Callable[[], None], connection: Any) -> None:
    """Connect before the deadline, or close the connection, whenever it comes about."""
    abandoned = threading.Event()

    def close() -> None:
        with contextlib.suppress(Exception):
            connection.close()

    def run() -> None:
        try:
            connect()
        except BaseException:
            close()
            raise
        if abandoned.is_set():
            close()

    try:
        call_within(run, timeout)
    except TimeoutError:
        abandoned.set()
        close()
        raise TransportError("ConnectTimeout", sent=False) from None
    except BaseException as error:
        raise TransportError(describe_connection_error(error), sent=False) from None


def _is_closed(sock: Any) -> bool:
    """Return whether the peer has closed the connection, or speaks unasked, before the request was sent."""
    try:
        sock.settimeout(0)
        if isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket):
            sock.recv(1, socket.MSG_PEEK)
        else:
            sock.read(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except (OSError, ValueError):
        return True
    return True


def _set_option(sock: Any, level: int, name: int, value: Any) -> None:
    # TLS inside TLS, by a proxy that is reached by https, is no socket itself.
    while not isinstance(sock, socket.socket):
        sock = sock.socket
    sock.setsockopt(level, name, value)


def _decode(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, MAX_BODY)
    return body
