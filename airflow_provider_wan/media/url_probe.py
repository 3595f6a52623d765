# SPDX-License-Identifier: Apache-2.0
"""Probes URLs that the API is to fetch, before a clip is paid for: their type, size and pixels by their first bytes.

A share page, an expired link or an image of the wrong size would be accepted, and fail minutes later, or be paid for.
"""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

import requests
import urllib3

from airflow_provider_wan.api.errors import WanUrlProbeError, WanValidationError
from airflow_provider_wan.api.network import NetworkSettings, call_within, describe_connection_error
from airflow_provider_wan.api.redaction import public_url
from airflow_provider_wan.media.audio import MAX_AUDIO_BYTES
from airflow_provider_wan.media.fetch import break_off
from airflow_provider_wan.media.image import (
    CONTENT_TYPES,
    MAX_IMAGE_BYTES,
    ImageInfo,
    describe_content,
    find_violation,
    open_image,
)
from airflow_provider_wan.media.web import PrivateAddressError, WebError, is_web_page, open_url, suggest_direct_url

#: Seconds for a whole probe: name look-up, redirects and first bytes.
PROBE_SECONDS = 20.0
#: Bytes that are read at most, to find the size of an image behind long metadata.
MAX_HEAD_BYTES = 1024 * 1024
_PIECE_BYTES = 32 * 1024
_TIMEOUT = (5.0, 10.0)
_SWITCH = "probe_urls=False skips this check"
_ADAPT = 'S3ToWanOperator and WanImageToVideoOperator adapt it (fit="resize"), and so does a batch if it is on S3'
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_NO_RANGES = (400, 416)


class UrlKind(StrEnum):
    """Kind of file that a URL must lead to."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


#: What the URLs of a clip's files must lead to, by the arguments' names.
KINDS = {
    "img_url": UrlKind.IMAGE,
    "audio_url": UrlKind.AUDIO,
    "last_frame": UrlKind.IMAGE,
    "first_clip": UrlKind.VIDEO,
}


@dataclass(frozen=True)
class UrlProbe:
    """Probes URLs; safe to use from several threads.

    :param api_base_url: where the API is. A private address is refused if the API's is public: it can't fetch it.
    :param network: TLS, proxy and bypass.
    """

    api_base_url: str
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def check(self, name: str, url: str, kind: UrlKind, deadline: float | None = None) -> None:
        """Fetch the first bytes at a URL, and check them against the API's rules.

        What can't be found out from them, such as the pixels behind a very long header, is not a fault.

        :param name: name of the argument, for the error.
        :param url: http(s) URL.
        :param kind: what it must lead to.
        :param deadline: Unix seconds after which it is given up.
        :raises WanValidationError: if the API can't use what is there.
        :raises WanUrlProbeError: if there is no answer now.
        """
        seconds = PROBE_SECONDS if deadline is None else min(PROBE_SECONDS, max(1.0, deadline - time.time()))
        until = time.time() + seconds
        try:
            head = call_within(lambda: self._fetch_head(name, url, kind, until), seconds)
        except TimeoutError:
            reason = f"{public_url(url)} takes longer than {seconds:.0f} s"
            raise WanUrlProbeError(_describe_failure(reason)) from None
        _check_type(name, head, kind)
        limit = {UrlKind.IMAGE: MAX_IMAGE_BYTES, UrlKind.AUDIO: MAX_AUDIO_BYTES}.get(kind)
        if limit is not None and head.size is not None and head.size > limit:
            remedy = _ADAPT if kind is UrlKind.IMAGE else "Save it as MP3"
            raise WanValidationError(name, f"{head.location}: {head.size} bytes", f"at most {limit} bytes", remedy)

    def _fetch_head(self, name: str, url: str, kind: UrlKind, until: float) -> _Head:
        reason = ""
        try:
            for headers in ({"Range": f"bytes=0-{MAX_HEAD_BYTES - 1}"}, {}):
                with (
                    open_url(
                        url, self.network, timeout=_TIMEOUT, headers=headers, api_base_url=self.api_base_url
                    ) as response,
                    break_off(response, until),
                ):
                    if response.status_code not in _NO_RANGES or not headers:
                        _check_status(name, response, url)
                        return _read_head(response, url, kind)
        except PrivateAddressError as error:
            remedy = f"Put the file where the API can fetch it. If the API finds it at another address, {_SWITCH}"
            raise WanValidationError(name, public_url(url), f"the API can't fetch it: {error}", remedy) from None
        except WebError as error:
            reason = str(error)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason = f"{public_url(url)} broke off ({describe_connection_error(error)})"
        raise WanUrlProbeError(_describe_failure(reason))


@dataclass(frozen=True)
class _Head:
    """The first bytes of a file.

    :param data: the bytes.
    :param location: where they were found, without a query string.
    :param page: the same with its query string, to find out what page it is.
    :param size: size of the file in bytes; ``None`` if the host does not say.
    :param content_type: media type that the host gives.
    """

    data: bytes = field(repr=False)
    location: str
    page: str = field(repr=False)
    size: int | None
    content_type: str


def _read_head(response: requests.Response, url: str, kind: UrlKind) -> _Head:
    encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    data = b""
    while len(data) < MAX_HEAD_BYTES and (piece := response.raw.read(_PIECE_BYTES, decode_content=True)):
        data += piece
        if kind is not UrlKind.IMAGE or _knows_enough(data):
            break
    location = public_url(response.url)
    if urlsplit(location).netloc != urlsplit(url).netloc:
        location = f"{public_url(url)} (redirected to {urlsplit(location).netloc})"
    size = None if encoded else _parse_size(response)
    return _Head(data, location, response.url, size, response.headers.get("Content-Type", ""))


def _parse_size(response: requests.Response) -> int | None:
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isascii() and total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _check_status(name: str, response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    message = f"{public_url(response.url)} answers {status}"
    if status in _TRANSIENT:
        raise WanUrlProbeError(_describe_failure(message))
    remedy = f"{suggest_direct_url(response.url)}. If only this worker is refused, {_SWITCH}"
    raise WanValidationError(name, public_url(url), f"can't be fetched: {message}", remedy)


def _describe_failure(reason: str) -> str:
    return f"A URL that the API is to fetch can't be probed: {reason}. Nothing was paid. {_SWITCH}"


# --- types --------------------------------------------------------------------------------------
def _check_type(name: str, head: _Head, kind: UrlKind) -> None:
    description = describe_content(head.data)
    if is_web_page(head.data, head.content_type):
        raise WanValidationError(
            name, head.location, f"is a web page, and not the file of {_ARTICLES[kind]}", suggest_direct_url(head.page)
        )
    if not head.data:
        raise WanValidationError(name, head.location, "is empty", "Provide the whole file")
    match kind:
        case UrlKind.IMAGE:
            _check_image(name, head)
        case UrlKind.AUDIO:
            if not _is_audio(head.data):
                raise WanValidationError(name, f"{head.location}: {description}", "must be a WAV or an MP3")
        case UrlKind.VIDEO:
            known = description == "a video" or head.data.startswith((b"\x1aE\xdf\xa3", b"RIFF"))
            if not known and "unknown type" not in description:
                raise WanValidationError(name, f"{head.location}: {description}", "must be a video")


_ARTICLES = {UrlKind.IMAGE: "an image", UrlKind.AUDIO: "a sound", UrlKind.VIDEO: "a video"}


def _check_image(name: str, head: _Head) -> None:
    try:
        info = _inspect_head(head.data, name)
    except WanValidationError as error:
        if len(head.data) >= MAX_HEAD_BYTES and _is_accepted_type(head.data):
            return  # a header that is longer than what is read
        value = f"{head.location}: {error.value}"
        raise WanValidationError(name, value, error.rule, error.remedy.replace(_RESIZE, _ADAPT)) from None
    if info.frames > 1:
        raise WanValidationError(name, f"{head.location}: an animation", "must be one image", _ADAPT)
    if violation := find_violation(info, tuple(CONTENT_TYPES)):
        value, rule = violation
        raise WanValidationError(name, f"{head.location}: {value}", rule, _ADAPT)


_RESIZE = 'Set fit="resize" to have it adapted'
_WEBP = re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL)


def _inspect_head(data: bytes, name: str) -> ImageInfo:
    """Return the properties of an image, from its first bytes.

    :raises WanValidationError: if it is no image that the API accepts, or its header is longer.
    """
    if not _WEBP.match(data):
        return open_image(data, name).info
    # Pillow needs the whole of a WEBP.
    if len(data) < 30:
        raise WanValidationError(name, "a broken WEBP", "is broken or cut off", "Provide the whole file")
    frames, variant = 1, data[12:16]
    if variant == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        frames = 2 if data[20] & 0x02 else 1
    elif variant == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    return ImageInfo("WEBP", CONTENT_TYPES["WEBP"], width, height, False, len(data), "", frames)


def _knows_enough(data: bytes) -> bool:
    """Return whether more bytes would add no information."""
    try:
        _inspect_head(data, "")
    except WanValidationError:
        return not _is_accepted_type(data)
    return True


def _is_accepted_type(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")) or _WEBP.match(data) is not None


def _is_audio(data: bytes) -> bool:
    is_wav = data.startswith(b"RIFF") and data[8:12] == b"WAVE"
    is_mpeg = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2  # layer III
    return is_wav or is_mpeg or data.startswith(b"ID3")
