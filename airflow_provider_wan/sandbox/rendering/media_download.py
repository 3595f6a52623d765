# SPDX-License-Identifier: Apache-2.0
"""Download and validation of a request's image and audio, as the service does them."""

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
    """The image or the audio is unusable; the message becomes the reason of the failed request."""


def download(url: str, seconds: float, limit: int) -> bytes:
    """Download a URL.

    :param seconds: timeout of the whole download.
    :param limit: maximum size in bytes.
    :raises MediaError: if the download fails, takes too long or is too large.
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
    """Decode and validate the image.

    :returns: the image, RGB.

    :raises MediaError: if it violates the contract.
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
