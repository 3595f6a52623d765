# SPDX-License-Identifier: Apache-2.0
"""Opens the user's own http(s) URLs: each redirect through its own proxy, and an error names no query string."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import SplitResult, parse_qsl, urlsplit

import requests

from airflow_provider_wan.api.network import NetworkSettings, call_within, describe_connection_error
from airflow_provider_wan.api.redaction import public_url
from airflow_provider_wan.media.fetch import find_address_fault, join_location
from airflow_provider_wan.media.image import describe_content

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class WebError(Exception):
    """There is no response. The message names the URL without its query string."""


class PrivateAddressError(WebError):
    """The URL leads to an address that is not public, and the API is."""


@contextmanager
def open_url(
    url: str,
    network: NetworkSettings,
    *,
    timeout: tuple[float, float],
    headers: Mapping[str, str] | None = None,
    api_base_url: str | None = None,
) -> Iterator[requests.Response]:
    """Open a URL, and yield the response after all redirects, whatever its status; its ``url`` is the last one.

    :param url: http(s) URL.
    :param network: TLS, proxy and bypass. A client certificate is for the API only, and is not presented.
    :param timeout: seconds for the connection, and between two pieces of the response.
    :param headers: more headers.
    :param api_base_url: where the API is, to refuse addresses that it can't reach; ``None``: all are allowed.
    :raises WebError: if there is no response.
    """
    network = replace(network, client_cert=None, client_key=None)
    sent = {"Accept-Encoding": "identity", "User-Agent": "airflow-provider-wan", **(headers or {})}
    at = url
    for _ in range(_MAX_REDIRECTS + 1):
        if urlsplit(at).scheme not in ("http", "https"):
            raise WebError(f"{public_url(url)} redirects to something else than http or https")
        if api_base_url is not None and (fault := find_address_fault(at, api_base_url, network)):
            raise PrivateAddressError(f"{public_url(at)} has {fault}")
        # Each has its own session: another URL may have another proxy, and must not see the cookies of this one.
        with network.open_session(at) as session, _get(session, at, sent, timeout) as response:
            if response.status_code not in _REDIRECTS or not response.headers.get("Location"):
                yield response
                return
            try:
                at = join_location(at, response.headers["Location"])
            except ValueError:
                raise WebError(f"{public_url(url)} redirects to what is not a URL") from None
    raise WebError(f"{public_url(url)} redirects more than {_MAX_REDIRECTS} times")


def _get(
    session: requests.Session, url: str, headers: Mapping[str, str], timeout: tuple[float, float]
) -> requests.Response:
    try:
        return call_within(
            lambda: session.get(url, headers=dict(headers), stream=True, allow_redirects=False, timeout=timeout),
            sum(timeout),
        )
    except (requests.RequestException, TimeoutError, ValueError) as error:
        reason = describe_connection_error(error)
    # Not in the except clause: the chained error holds the URL with its query string.
    raise WebError(f"{public_url(url)} can't be reached ({reason})")


def is_web_page(data: bytes, content_type: str) -> bool:
    """Return whether a response is a web page, by its bytes: servers label any file as text/html.

    :param data: the content, or its beginning.
    :param content_type: media type that the server gives.
    """
    is_markup = b"\0" not in data[:512] and b"<" in data[:512]
    return describe_content(data) == "an HTML page" or (is_markup and "html" in content_type.lower())


def suggest_direct_url(url: str) -> str:
    """Return how to get the address of the file from that of a page that shows it.

    :param url: URL of a web page.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    for domain, suggestion in _SHARE_PAGES.items():
        if host == domain or host.endswith("." + domain):
            return suggestion if domain != "drive.google.com" else _suggest_drive_url(parts)
    return "Give the address of the file itself, which answers with its bytes and without a login"


def _suggest_drive_url(parts: SplitResult) -> str:
    """Return the address of a file on Google Drive, which a share page's path or query names."""
    segments = parts.path.split("/")
    file_id = segments[3] if segments[1:3] == ["file", "d"] and len(segments) > 3 else ""
    file_id = file_id or dict(parse_qsl(parts.query)).get("id", "") or "<id>"
    return f"Share it with anyone who has the link, and use https://drive.google.com/uc?export=download&id={file_id}"


_SHAREPOINT = "Share it with anyone who has the link, and add download=1 to the address"
_SHARE_PAGES = {
    "dropbox.com": "It is a share page: put dl=1 into the address, instead of dl=0",
    "drive.google.com": "",
    "photos.google.com": "It is an album's page: download the picture, and put it on S3",
    "photos.app.goo.gl": "It is an album's page: download the picture, and put it on S3",
    "accounts.google.com": "It asks for a login: share the file with anyone who has the link",
    "sharepoint.com": _SHAREPOINT,
    "onedrive.live.com": _SHAREPOINT,
    "1drv.ms": _SHAREPOINT,
    "github.com": "Use the address that its button Raw opens, on raw.githubusercontent.com",
    "huggingface.co": "Use /resolve/ instead of /blob/ in the address",
    "imgur.com": "Use the address of the picture itself, on i.imgur.com",
    "wikimedia.org": "Use the address of the original file, on upload.wikimedia.org",
    "wikipedia.org": "Use the address of the original file, on upload.wikimedia.org",
}
