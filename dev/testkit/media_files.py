# SPDX-License-Identifier: Apache-2.0
"""Real pictures, sounds and videos for tests."""

from __future__ import annotations

import io
import struct
import tempfile
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def picture(width: int = 800, height: int = 600, kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """Draw an image with a gradient."""
    image = Image.linear_gradient("L").resize((width, height)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, kind: str, **options: Any) -> bytes:
    """An image that does not compress."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def video(
    seconds: int = 2,
    *,
    width: int = 320,
    height: int = 240,
    audio: bool = True,
    movflags: str = "",
    codec: str = "libx264",
) -> bytes:
    """An MP4 at 30 frames a second, optionally with a silent AAC track."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
            pictures: Any = container.add_stream(codec, rate=30)
            pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
            sound = container.add_stream("aac", rate=44100) if audio else None
            for number in range(seconds * 30):
                shade = np.full((height, width, 3), number * 4 % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
                frame.pts = number
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
            if sound is not None:
                for start in range(0, 44100 * seconds, 1024):
                    silence = av.AudioFrame.from_ndarray(
                        np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
                    )
                    silence.rate, silence.pts = 44100, start
                    container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path.read_bytes()


def wav(seconds: float, rate: int = 8000) -> bytes:
    """A silent WAV, mono, 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * int(seconds * rate)))
    return buffer.getvalue()


def mp3(seconds: float, *, headless: bool = False) -> bytes:
    """Encode a real MP3; ``headless`` omits the ID3 tag and the Xing frame, which contain its length."""
    buffer = io.BytesIO()
    options = {"write_xing": "0", "id3v2_version": "0"} if headless else {}
    with av.open(buffer, "w", format="mp3", options=options) as container:
        sound = container.add_stream("mp3", rate=44100)
        for start in range(0, int(44100 * seconds), 1152):
            tone = np.sin(np.arange(start, start + 1152) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            frame.rate, frame.pts = 44100, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return buffer.getvalue()


def box(name: bytes, body: bytes = b"", *, long: bool = False) -> bytes:
    """An MP4 box, optionally with a 64-bit length."""
    if long:
        return struct.pack(">I4sQ", 1, name, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), name) + body


def padded(clip: bytes, megabytes: int, fill: bytes = b"\0") -> bytes:
    """A whole clip with as many MiB of padding behind it."""
    return clip + box(b"free", fill * (megabytes * 1024 * 1024))
