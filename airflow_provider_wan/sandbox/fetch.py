# SPDX-License-Identifier: Apache-2.0
"""Gets a request's image and audio from their URLs, and checks them as the service does."""

from __future__ import annotations

import io
import time
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from PIL import Image

MEGABYTE = 1024 * 1024
IMAGE_BYTES = 10 * MEGABYTE
AUDIO_BYTES = 15 * MEGABYTE
MIN_SIDE, MAX_SIDE = 360, 2000
SIDES = f"each side must be {MIN_SIDE} to {MAX_SIDE} pixels"
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
DOWNLOAD_FAILED = "Failed to download media"
_LOCAL = ("127.0.0.1", "localhost", "::1")


class MediaError(Exception):
    """The image or the audio can't be used; the message is what the failed request says."""


def download(url: str, seconds: float, limit: int) -> bytes:
    """The bytes behind a URL.

    :param seconds: time-out of the whole download.
    :param limit: the largest size in bytes.
    :raises MediaError: when it can't be had in time, or is larger.
    """
    deadline = time.monotonic() + seconds
    handlers = [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in _LOCAL else []
    request = urllib.request.Request(url, headers={"User-Agent": "wan-sandbox"})
    data = io.BytesIO()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as answer:
            while piece := answer.read(256 * 1024):
                data.write(piece)
                if data.tell() > limit:
                    raise MediaError(f"The media is larger than {limit // MEGABYTE} MB")
                if time.monotonic() > deadline:
                    raise MediaError(DOWNLOAD_FAILED)
    except (OSError, ValueError) as problem:
        raise MediaError(DOWNLOAD_FAILED) from problem
    return data.getvalue()


def read_image(data: bytes) -> Image.Image:
    """The picture, as RGB.

    :raises MediaError: when it breaks one of the contract's rules.
    """
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
            raise MediaError(f"The image is {width}x{height}: {SIDES}")
        alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        if image.format == "PNG" and alpha:
            raise MediaError("The image is a PNG with an alpha channel, which is not supported")
        return image.convert("RGB")
    except bombs as problem:
        raise MediaError(f"The image is too large: {SIDES}") from problem
    except (OSError, ValueError, SyntaxError) as problem:
        raise MediaError("The image could not be decoded: JPEG, PNG, BMP or WEBP is expected") from problem
