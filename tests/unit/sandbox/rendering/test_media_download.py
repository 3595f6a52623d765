# SPDX-License-Identifier: Apache-2.0
"""Images and audio are fetched and validated by the contract."""

from __future__ import annotations

import io
import socket
import struct
import time
import wave
import zlib

import numpy as np
import pytest
from PIL import Image

from airflow_provider_wan.sandbox.rendering.animation import output_size
from airflow_provider_wan.sandbox.rendering.media_download import MediaError, download, read_image
from airflow_provider_wan.sandbox.rendering.sound import RATE, read_audio
from dev.testkit.sandbox import ImageServer, encoded, picture


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_each_documented_image_format_is_read(kind: str) -> None:
    assert read_image(encoded(picture(400, 360), kind)).size == (400, 360)


@pytest.mark.parametrize(("width", "height"), [(359, 800), (800, 359), (2001, 800), (800, 2001)])
def test_an_image_outside_360_to_2000_pixels_is_refused_with_its_size(width: int, height: int) -> None:
    with pytest.raises(MediaError, match=f"{width}x{height}"):
        read_image(encoded(Image.new("RGB", (width, height))))


@pytest.mark.parametrize(("width", "height"), [(360, 2000), (2000, 360)])
def test_an_image_at_the_edge_of_the_rule_is_read(width: int, height: int) -> None:
    assert read_image(encoded(Image.new("RGB", (width, height)))).size == (width, height)


def test_a_png_with_alpha_is_refused_and_one_without_is_not() -> None:
    with pytest.raises(MediaError, match="alpha"):
        read_image(encoded(Image.new("RGBA", (400, 400)), "PNG"))
    read_image(encoded(Image.new("L", (400, 400)), "PNG"))


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", encoded(picture())[:5000]])
def test_what_is_no_whole_image_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError, match="could not be decoded"):
        read_image(data)


def test_a_decompression_bomb_is_refused_without_being_decoded() -> None:
    bomb = _png_header(30_000, 30_000)
    begun = time.process_time()
    with pytest.raises(MediaError, match="360 to 2000"):
        read_image(bomb)
    assert time.process_time() - begun < 0.2


def _png_header(width: int, height: int) -> bytes:
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def test_media_that_is_missing_too_large_or_silent_can_not_be_downloaded(image_server: ImageServer) -> None:
    there = image_server.add("/there", b"x" * 1000)
    assert download(there, 5, 1000) == b"x" * 1000
    with pytest.raises(MediaError, match="larger than 0 MB"):
        download(there, 5, 999)
    with pytest.raises(MediaError, match="Failed to download media"):
        download(there + "-not", 5, 1000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(MediaError, match="Failed to download media"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/x", 0.2, 1000)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("image", "resolution", "size"),
    [
        ((750, 1000), "720P", (816, 1104)), ((1280, 720), "720P", (1280, 720)), ((1000, 1000), "720P", (960, 960)),
        ((1600, 900), "1080P", (1920, 1072)), ((360, 2000), "720P", (400, 2256)),
    ],
)  # fmt: skip
def test_a_clip_has_the_pixel_count_of_its_resolution_and_the_aspect_of_its_image(
    image: tuple[int, int], resolution: str, size: tuple[int, int]
) -> None:
    assert output_size(*image, resolution) == size


def recording(seconds: float, rate: int = 16_000) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
        file.writeframes(tone.astype("<i2").tobytes())
    return data.getvalue()


def test_audio_is_cut_to_the_clip_or_followed_by_silence() -> None:
    cut = read_audio(recording(8), 5)
    assert cut.shape == (2, 5 * RATE)
    assert abs(cut[:, -RATE:]).max() > 0.1
    filled = read_audio(recording(3), 5)
    assert filled.shape == (2, 5 * RATE)
    assert abs(filled[:, : 2 * RATE]).max() > 0.1
    assert abs(filled[:, -RATE:]).max() == 0


@pytest.mark.parametrize("seconds", [2, 31])
def test_audio_outside_3_to_30_seconds_is_refused(seconds: float) -> None:
    with pytest.raises(MediaError, match="3 to 30 s"):
        read_audio(recording(seconds), 5)


def test_a_text_file_is_no_audio() -> None:
    with pytest.raises(MediaError, match="WAV or MP3"):
        read_audio(b"this is not sound\n" * 100, 5)
