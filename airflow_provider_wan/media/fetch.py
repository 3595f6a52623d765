# SPDX-License-Identifier: Apache-2.0
"""Opens a result's URL: only where it may lead, never with a key, and in words of our own when it fails.

A result URL is given by the API and fetched by us, often from within a private network: so it is not trusted.
Errors name it without its query string, which may be a signature.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3

from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import WanResultError, WanResultGoneError, WanResultRefusedError
from airflow_provider_wan.api.network import NetworkSettings, call_within, describe_connection_error
from airflow_provider_wan.api.redaction import public_url

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0  # between two pieces, not for the whole
CHUNK_BYTES = 1024 * 1024
_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (403, 404, 410)
_ENCODINGS = ("gzip", "x-gzip", "deflate")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REMEDY = "add the host to result_hosts of the task or of [wan] in Airflow's configuration if it is right"
_CONNECTION_REMEDY = "add the host to result_hosts of the connection if it is right"


class BrokenDownloadError(WanResultError):
    """The download broke, or the host was not able to answer: another try may do."""


class ResultNotFoundError(BrokenDownloadError, WanResultGoneError):
    """HTTP 403, 404 or 410: gone, or not there yet, or not there for this moment."""


@dataclass(frozen=True)
class ResultHosts:
    """Where a result may lie.

    :param allowed: the connection's host names, with a port or without, ``*.example.com`` for all below one. Empty: any
        public host; redirects then stay on the host where they begin.
    :param api_base_url: where the API is. Private addresses are fine for results when they are for the API.
    :param network: TLS, proxy and bypass.
    :param required: such lists of a task or the deployment. A result has to be in each of them; only these lists permit
        a private address.
    """

    allowed: tuple[str, ...] = ()
    api_base_url: str = ""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    required: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def from_config(cls, config: WanConfig) -> ResultHosts:
        """Return where the results of a connection may lie.

        :param config: the connection within the limits of task and deployment.
        """
        return cls(config.result_hosts, config.base_url, config.network, config.required_hosts)

    def check(self, url: str) -> None:
        """Refuse a URL from which a result must not be fetched.

        :param url: the URL.
        :raises WanResultRefusedError: if it must not be fetched.
        """
        parts = _split_url(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise WanResultRefusedError(f"The result's URL {_shorten(url)!r} is neither http nor https")
        if parts.username or parts.password:
            raise WanResultRefusedError(f"The result's URL on {parts.hostname} holds a user name")
        for listed in self._lists:
            if not _is_listed(parts, listed):
                raise WanResultRefusedError(
                    f"The result is on {parts.netloc}, which is not among result_hosts ({', '.join(listed)}): "
                    f"{_REMEDY if listed in self.required else _CONNECTION_REMEDY}"
                )
        if not self.required and (fault := find_address_fault(url, self.api_base_url, self.network)):
            raise WanResultRefusedError(f"The result's host {parts.hostname} has {fault}: {_REMEDY}")

    def check_redirect(self, start: str, target: str) -> None:
        """Refuse a redirect to another host that is not allowed expressly.

        :param start: URL of the result.
        :param target: URL of the redirect.
        :raises WanResultRefusedError: if it must not be followed.
        """
        self.check(target)
        here, there = _split_url(start), _split_url(target)
        if here.scheme == "https" and there.scheme == "http":
            raise WanResultRefusedError(f"{here.hostname} redirects the result from https to http")
        if not self._lists and (here.hostname != there.hostname or _odd_port(here) != _odd_port(there)):
            raise WanResultRefusedError(
                f"{here.netloc} redirects the result to another host, {there.netloc}: {_REMEDY}"
            )

    @property
    def _lists(self) -> tuple[tuple[str, ...], ...]:
        return (*self.required, *((self.allowed,) if self.allowed else ()))


def find_address_fault(url: str, api_base_url: str, network: NetworkSettings) -> str | None:
    """Return what is wrong with the addresses of a URL's host: link-local, or private while the API's are public.

    :param url: http(s) URL.
    :param api_base_url: where the API is.
    :param network: if the deployment has a proxy for the URL, that looks the name up, and decides.
    :returns: ``None`` if nothing is wrong, or the name has no address.
    """
    if not network.proxy and network.find_proxy(url):
        return None
    addresses = _addresses(urlsplit(url).hostname or "")
    if any(address.is_link_local for address in addresses):
        return "a link-local address"
    if all(address.is_global for address in addresses):
        return None
    api = _addresses(urlsplit(api_base_url).hostname or "")
    return None if api and not any(address.is_global for address in api) else "a private address"


@dataclass(frozen=True)
class Download:
    """An open result.

    :param source_url: where it comes from, without a query string.
    :param length: bytes that the host announces; ``None`` when it does not say.
    :param pieces: the bytes, to be taken once. :class:`BrokenDownloadError` when the connection breaks.
    """

    source_url: str
    length: int | None
    pieces: Iterator[bytes]


@contextmanager
def open_result(url: str, hosts: ResultHosts, deadline: float | None = None) -> Iterator[Download]:
    """Open a result's URL, following redirects where they may lead.

    :param url: as the API gives it.
    :param hosts: where it may lie.
    :param deadline: Unix seconds after which the download is broken off.
    :raises WanResultRefusedError: when it must not be fetched.
    :raises WanResultGoneError: when the host no longer has it (403, 404, 410).
    :raises BrokenDownloadError: when another try may do.
    """
    hosts.check(url)
    at = url
    for _ in range(_MAX_REDIRECTS + 1):
        # Each has its own session: another URL may have another proxy, and must not see the cookies of this one.
        with hosts.network.open_session(at) as session:
            response = _get(session, at, deadline)
            with response, break_off(response, deadline):
                if response.status_code not in _REDIRECTS:
                    _check_status(response, at)
                    decodes = response.headers.get("Content-Encoding", "").strip().lower() in _ENCODINGS
                    length = "" if decodes else response.headers.get("Content-Length", "")
                    pieces = _pieces(response, at, decodes)
                    yield Download(public_url(at), int(length) if length.isdigit() else None, pieces)
                    return
                target = _resolve_location(at, response.headers.get("Location", ""))
        hosts.check_redirect(url, target)
        at = target
    raise WanResultRefusedError(f"{public_url(url)} redirects more than {_MAX_REDIRECTS} times")


def _get(session: requests.Session, url: str, deadline: float | None) -> requests.Response:
    # No compression: it makes a video no smaller, and hides its length. Some hosts compress nevertheless.
    read_timeout = READ_TIMEOUT if deadline is None else min(READ_TIMEOUT, max(1.0, deadline - time.time()))
    limit = CONNECT_TIMEOUT + READ_TIMEOUT if deadline is None else max(1.0, deadline - time.time()) + 1.0
    headers = {"Accept-Encoding": "identity", "User-Agent": "airflow-provider-wan"}
    try:
        return call_within(
            lambda: session.get(
                url, headers=headers, stream=True, allow_redirects=False, timeout=(CONNECT_TIMEOUT, read_timeout)
            ),
            limit,
        )
    except (requests.RequestException, TimeoutError) as error:
        reason: str | None = describe_connection_error(error)
    except ValueError:
        reason = None  # requests reads the address of a redirect that it does not follow
    # Not in the except clause: the chained error holds the URL with its query string.
    if reason is None:
        raise WanResultError(
            f"{public_url(url)} redirects to what is not a URL. The clip is paid for: a retry asks the API for its "
            "address again, and pays nothing"
        )
    raise BrokenDownloadError(f"{public_url(url)} can't be reached ({reason})")


@contextmanager
def break_off(response: requests.Response, deadline: float | None) -> Iterator[None]:
    """End the reading of a response at the deadline, however slowly the peer sends."""
    shutdown = getattr(response.raw, "shutdown", None)
    if deadline is None or shutdown is None:
        yield
        return

    def end() -> None:
        with suppress(Exception):
            shutdown()

    timer = threading.Timer(max(0.0, deadline - time.time()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _split_url(url: str) -> SplitResult:
    """Split a URL of the API or of a redirect.

    :raises WanResultError: if it is no URL.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
        return parts
    except ValueError as error:
        reason = str(error)
    raise WanResultError(
        f"The result's address {_shorten(url)!r} is not a URL ({reason}). The clip is paid for: a retry asks the API "
        "for its address again, and pays nothing"
    )


def join_location(base: str, location: str) -> str:
    """Return the target of a redirect.

    :param base: URL that redirects.
    :param location: its header ``Location``. Python decodes headers as Latin-1; servers write UTF-8.
    :raises ValueError: if the target is not a URL.
    """
    target = urljoin(base, location.encode("latin-1").decode())
    urlsplit(target).port  # noqa: B018 - reading it checks it
    return target


def _resolve_location(base: str, location: str) -> str:
    try:
        return join_location(base, location)
    except ValueError:
        return location  # which is refused in its own words


def _shorten(url: str) -> str:
    """Return the beginning of an address without its query: it may hold a whole file."""
    return url.partition("?")[0].rpartition("@")[2][:200]


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    message = f"{public_url(url)} answers {status}"
    # A proxy that has changed the response answers 203; a whole range is the whole file.
    if status in (200, 203) or (status == 206 and _is_whole(response.headers.get("Content-Range", ""))):
        return
    if status in _GONE:
        raise ResultNotFoundError(
            f"{message}: the clip can't be downloaded now. It is paid for: a retry asks the API for its address again, "
            "and pays nothing. Only if that fails for a day is it lost; a new idempotency_key then makes it again, and "
            "pays again"
        )
    if status in _PASSING:
        raise BrokenDownloadError(f"{message}. The clip is paid for: a retry downloads it again and pays nothing")
    raise WanResultError(
        f"{message}. The clip is paid for: open its address in the service's console, then retry, which pays nothing"
    )


def _is_whole(content_range: str) -> bool:
    match = re.fullmatch(r"bytes 0-(\d{1,18})/(\d{1,18})", content_range.strip())
    return match is not None and int(match[1]) + 1 == int(match[2])


def _pieces(response: requests.Response, url: str, decodes: bool) -> Iterator[bytes]:
    got = 0
    try:
        while piece := response.raw.read(CHUNK_BYTES, decode_content=decodes):
            got += len(piece)
            yield piece
        return
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = describe_connection_error(error)
    raise BrokenDownloadError(f"{public_url(url)}: the download broke after {got} bytes ({reason})")


def _is_listed(parts: SplitResult, listed: tuple[str, ...]) -> bool:
    """Return whether a list has the host of these parts of a URL."""
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    host = parts.hostname or ""
    for entry in listed:
        wanted = urlsplit(f"//{entry.lower()}")
        if wanted.port not in (None, port):
            continue
        name = wanted.hostname or ""
        if host == name or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def _odd_port(parts: SplitResult) -> int | None:
    return None if parts.port == _DEFAULT_PORTS.get(parts.scheme) else parts.port


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if not host:
        return []
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return []  # the connection will fail in its own words
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]
