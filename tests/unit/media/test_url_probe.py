# SPDX-License-Identifier: Apache-2.0
"""What is found out about a URL before a clip is paid for, over real sockets."""

from __future__ import annotations

import io
import socket

import pytest
from PIL import Image, PngImagePlugin

from airflow_provider_wan.api.errors import WanUrlProbeError, WanValidationError
from airflow_provider_wan.media import url_probe, web
from airflow_provider_wan.media.source import MediaSource
from airflow_provider_wan.media.url_probe import MAX_HEAD_BYTES, UrlKind, UrlProbe
from airflow_provider_wan.media.web import suggest_direct_url
from dev.testkit.media_files import mp3, noise, picture, wav
from dev.testkit.scripted_server import WireServer, never_answers
from dev.testkit.web_server import WebServer

HTML = b"<!DOCTYPE html><html><title>Dropbox</title></html>"


def probe(url: str, kind: UrlKind = UrlKind.IMAGE, name: str = "img_url", api: str = "http://127.0.0.1:1") -> None:
    UrlProbe(api).check(name, url, kind)


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (400, 400), colour) for colour in ("red", "green")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def png_with_a_long_text(length: int) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "x" * length)
    return picture(kind="PNG", pnginfo=texts)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        picture(),
        picture(kind="PNG"),
        picture(kind="BMP"),
        picture(kind="WEBP"),
        picture(kind="WEBP", lossless=True),
        picture(kind="WEBP", exif=b"Exif\0\0"),
        picture(kind="JPEG", progressive=True, exif=b"Exif\0\0" + b"\0" * 60_000),
        png_with_a_long_text(100_000),
        png_with_a_long_text(2 * MAX_HEAD_BYTES),  # its pixels can't be known
    ],
    ids=["jpeg", "png", "bmp", "webp", "lossless", "extended", "metadata", "text", "long-text"],
)
def test_an_image_that_the_api_accepts_passes(web_server: WebServer, data: bytes, ranges: bool) -> None:
    probe(web_server.add("/a", data, ranges=ranges))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (picture(300, 400), "300×400 pixels.*360 to 2000"),
        (picture(2001, 400, "PNG"), "2001×400 pixels"),
        (picture(359, 400, "WEBP"), "359×400"),
        (picture(359, 400, "WEBP", lossless=True), "359×400"),
        (picture(kind="PNG", mode="RGBA"), "PNG with alpha"),
        (picture(kind="GIF", mode="P"), "a GIF.*must be a JPEG"),
        (picture(kind="TIFF"), "a TIFF"),
        (animated_webp(), "an animation.*one image"),
        (noise(1900, 1900, "BMP"), "10830054 bytes.*at most 10000000"),
        (b"%PDF-1.7", "a PDF"),
        (b"", "is empty"),
        (picture()[:100], "broken or cut off"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "broken or cut off"),
        (b'{"error": "no"}', "unknown type"),
    ],
)
def test_an_image_that_the_api_does_not_accept_is_refused(web_server: WebServer, data: bytes, rule: str) -> None:
    url = web_server.add("/folder/a.jpg", data)
    with pytest.raises(WanValidationError, match=f"^img_url='{url}.*(?s:.*){rule}"):
        probe(f"{url}?X-Amz-Signature=c0ffee")


def test_only_the_first_bytes_are_fetched(web_server: WebServer) -> None:
    data = picture() + bytes(9_000_000)
    with_ranges, without = web_server.add("/a", data), web_server.add("/b", data, ranges=False)

    probe(with_ranges)
    probe(without)

    assert web_server.asked[0].headers["range"] == f"bytes=0-{MAX_HEAD_BYTES - 1}"
    assert [each.sent < len(data) for each in web_server.asked] == [True, True]


@pytest.mark.parametrize("status", [400, 416])
def test_a_host_that_refuses_ranges_is_asked_without(web_server: WebServer, status: int) -> None:
    url = web_server.add("/a", picture())
    web_server.pages["/a"].range_status = status
    probe(url)
    assert ["range" in each.headers for each in web_server.asked] == [True, False]


@pytest.mark.parametrize("media_type", ["text/html; charset=utf-8", "image/jpeg", ""])
def test_a_page_is_known_by_its_bytes_whatever_type_it_claims(web_server: WebServer, media_type: str) -> None:
    with pytest.raises(WanValidationError, match="is a web page, and not the file of an image"):
        probe(web_server.add("/photo.jpg", HTML, Content_Type=media_type))


def test_a_page_without_a_doctype_is_known_by_its_type(web_server: WebServer) -> None:
    url = web_server.add("/photo.jpg", b"<head><title>Log in</title>", Content_Type="text/html")
    with pytest.raises(WanValidationError, match="is a web page"):
        probe(url)


def test_a_redirect_to_a_login_is_seen_and_no_signature_is_shown(web_server: WebServer) -> None:
    login = web_server.add("/login", HTML, Content_Type="text/html").replace("127.0.0.1", "localhost")
    url = web_server.add("/a.jpg", b"", 302, Location=f"{login}?token=secret")
    with pytest.raises(WanValidationError) as caught:
        probe(f"{url}?X-Amz-Signature=c0ffee")
    assert "redirected to localhost:" in str(caught.value)
    assert "c0ffee" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_redirect_to_the_file_is_followed(web_server: WebServer) -> None:
    web_server.add("/b.jpg", picture())
    probe(web_server.add("/a.jpg", b"", 302, Location="/b.jpg"))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_url_that_is_refused_names_the_switch(web_server: WebServer, status: int) -> None:
    with pytest.raises(WanValidationError, match=rf"a.jpg answers {status}.*probe_urls=False"):
        probe(web_server.add("/a.jpg", b"", status))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_host_that_does_not_answer_now_may_answer_a_retry(web_server: WebServer, status: int) -> None:
    with pytest.raises(WanUrlProbeError, match=f"answers {status}.*Nothing was paid.*probe_urls=False") as caught:
        probe(web_server.add("/a.jpg", b"", status))
    assert caught.value.retryable


def test_a_host_that_can_not_be_reached_names_the_switch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WanUrlProbeError, match=r"can't be reached.*probe_urls=False") as caught:
        probe(f"http://127.0.0.1:{port}/a.jpg?Signature=c0ffee")
    assert "c0ffee" not in str(caught.value)


def test_a_loop_of_redirects_ends(web_server: WebServer) -> None:
    with pytest.raises(WanUrlProbeError, match="redirects more than 5 times"):
        probe(web_server.add("/a.jpg", b"", 302, Location="/a.jpg"))


def test_a_silent_host_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_probe, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(url_probe, "_TIMEOUT", (1.0, 1.0))
    with WireServer([never_answers]) as silent, pytest.raises(WanUrlProbeError, match="takes longer than"):
        probe(silent.url)


def test_a_private_address_is_refused_unless_the_api_has_one_too(web_server: WebServer) -> None:
    url = web_server.add("/a.jpg", picture())
    with pytest.raises(WanValidationError, match=r"has a private address.*probe_urls=False"):
        probe(url, api="https://93.184.216.34/api")
    with pytest.raises(WanValidationError, match="has a link-local address"):
        probe("http://169.254.169.254/latest/meta-data/")
    assert web_server.asked == []


@pytest.mark.parametrize("data", [wav(5), mp3(4), mp3(4, headless=True)])
def test_a_sound_passes(web_server: WebServer, data: bytes) -> None:
    probe(web_server.add("/a", data), UrlKind.AUDIO, "audio_url")


@pytest.mark.parametrize("data", [picture(), HTML, b"OggS" + bytes(100), wav(1000)])
def test_what_is_no_sound_or_too_large_is_refused(web_server: WebServer, data: bytes) -> None:
    with pytest.raises(WanValidationError, match="audio_url"):
        probe(web_server.add("/a", data), UrlKind.AUDIO, "audio_url")


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (b"\0\0\0\x18ftypmp42", True),
        (b"\x1aE\xdf\xa3....", True),
        (b"any other", True),
        (picture(), False),
        (HTML, False),
    ],
)
def test_a_video_is_refused_only_if_it_is_something_else(web_server: WebServer, data: bytes, passes: bool) -> None:
    url = web_server.add("/a", data)
    if passes:
        probe(url, UrlKind.VIDEO, "first_clip")
        return
    with pytest.raises(WanValidationError, match="first_clip"):
        probe(url, UrlKind.VIDEO, "first_clip")


@pytest.mark.parametrize(
    ("url", "suggestion"),
    [
        ("https://www.dropbox.com/scl/fi/abc/cat.jpg?rlkey=x&dl=0", "dl=1"),
        ("https://drive.google.com/file/d/1AbC/view?usp=sharing", "uc?export=download&id=1AbC"),
        ("https://drive.google.com/open?id=1AbC", "uc?export=download&id=1AbC"),
        ("https://accounts.google.com/signin", "anyone who has the link"),
        ("https://company.sharepoint.com/:i:/g/x", "download=1"),
        ("https://github.com/o/r/blob/main/cat.jpg", "raw.githubusercontent.com"),
        ("https://example.com/gallery/cat", "without a login"),
        ("https://notdropbox.com/cat", "without a login"),
    ],
)
def test_a_share_page_comes_with_its_remedy(url: str, suggestion: str) -> None:
    assert suggestion in suggest_direct_url(url)


def test_the_remedy_of_a_share_page_is_in_the_error(web_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(web._SHARE_PAGES, "127.0.0.1", "put dl=1 into the address")
    url = web_server.add("/cat.jpg", HTML, Content_Type="text/html")
    with pytest.raises(WanValidationError, match="put dl=1"):
        probe(url)
    with pytest.raises(WanValidationError, match="put dl=1"):
        MediaSource.parse(url).read(lambda: None, 1000, "source", "")
