# SPDX-License-Identifier: Apache-2.0
"""Files on the web as servers deliver them: redirects in raw UTF-8, and images that are labelled as pages."""

from __future__ import annotations

import contextlib
import socket
import time
from urllib.parse import quote

import pytest

from airflow_provider_wan.api.errors import WanUrlProbeError, WanValidationError
from airflow_provider_wan.api.network import FROM_ENVIRONMENT
from airflow_provider_wan.media.fetch import ResultHosts, open_result
from airflow_provider_wan.media.source import MediaSource, SourceMissingError, SourceUnavailableError
from airflow_provider_wan.media.url_probe import UrlKind, UrlProbe
from airflow_provider_wan.s3.presign import PresignError, probe_url
from dev.testkit.media_files import picture
from dev.testkit.scripted_server import WireServer
from dev.testkit.web_server import WebServer


def read_source(url: str) -> bytes:
    return MediaSource.parse(url).read(lambda: None, 2_000_000, "source", "")


def test_a_redirect_whose_location_is_raw_utf_8_is_followed(web_server: WebServer) -> None:
    raw = "/ü/bär%20.jpg".encode()
    web_server.add(quote(raw, safe="/%"), picture())
    url = web_server.add("/a.jpg", b"", 302, Location=raw.decode("latin-1"))

    UrlProbe("http://127.0.0.1:1").check("img_url", url, UrlKind.IMAGE)

    assert read_source(url) == picture()
    with open_result(url, ResultHosts(api_base_url="http://127.0.0.1:1")) as result:
        assert b"".join(result.pieces) == picture()


@pytest.mark.parametrize("length", ["Content-Length: 1000000\r\n", ""], ids=["length", "no length"])
def test_a_source_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.source.MAX_READ_SECONDS", 1.0)

    def drip(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + picture())
        with contextlib.suppress(OSError):
            for _ in range(60):
                time.sleep(0.1)
                connection.sendall(b"x")

    with WireServer([drip]) as server:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="takes longer than 1 s"):
            read_source(server.url)
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize("location", ["http://127.0.0.1:99999/a.jpg", "http://[bad/a.jpg", "http://a..b/", "/\xff.jpg"])
def test_a_redirect_to_what_is_no_url_is_an_error_that_names_the_address(
    web_server: WebServer, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "internal.example.com")
    url = web_server.add("/a.jpg", b"", 302, Location=location) + "?signature=secret"
    with pytest.raises(WanUrlProbeError, match="http://") as probed:
        UrlProbe("http://127.0.0.1:1").check("img_url", url, UrlKind.IMAGE)
    with pytest.raises(SourceMissingError, match="http://") as read:
        read_source(url)
    with pytest.raises(PresignError, match="http://") as presigned:
        probe_url(url, 1, FROM_ENVIRONMENT)
    assert not any("secret" in str(raised.value) for raised in (probed, read, presigned))


@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=UTF-8"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_that_is_served_as_a_page_is_read(web_server: WebServer, kind: str, media_type: str) -> None:
    data = picture(kind=kind)

    assert read_source(web_server.add("/image.php", data, Content_Type=media_type)) == data


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "image/jpeg"),
        (b"<div>Log in</div>", "text/html"),
    ],
)
def test_a_page_is_refused_as_a_source_by_its_bytes(web_server: WebServer, data: bytes, media_type: str) -> None:
    with pytest.raises(WanValidationError, match="is a web page, and not a file"):
        read_source(web_server.add("/photo.jpg", data, Content_Type=media_type))
