# SPDX-License-Identifier: Apache-2.0
"""Clips are real videos: decoded, measured and compared."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from airflow_provider_wan.sandbox.rendering.animation import poster
from airflow_provider_wan.sandbox.server.thread import SandboxServer
from dev.testkit.sandbox import ImageServer, SandboxClient, encoded, picture

PHOTO = picture()


@dataclass
class Clip:
    data: bytes
    size: tuple[int, int]
    frames: list[np.ndarray[Any, Any]]
    seconds: float
    rate: float
    codec: str
    pixels: str
    audio: str | None
    audio_seconds: float
    loudness: float


def decode(data: bytes) -> Clip:
    with av.open(io.BytesIO(data), "r") as container:
        video: Any = container.streams.video[0]
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video)]
        size = (video.codec_context.width, video.codec_context.height)
        seconds, rate = float(video.duration * video.time_base), float(video.average_rate)
        codec, pixels = video.codec_context.name, video.codec_context.pix_fmt
    with av.open(io.BytesIO(data), "r") as container:
        audio: Any = container.streams.audio[0] if container.streams.audio else None
        sound = [frame.to_ndarray() for frame in container.decode(audio)] if audio else []
        return Clip(
            data, size, frames, seconds, rate, codec, pixels,
            audio.codec_context.name if audio else None,
            float(audio.duration * audio.time_base) if audio else 0.0,
            max((float(abs(piece).max()) for piece in sound), default=0.0),
        )  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[SandboxClient]:
    with SandboxServer(speed=1000, seed=1) as server:
        yield SandboxClient(server)


@pytest.fixture(scope="module")
def photo_url(image_server: ImageServer) -> str:
    return image_server.add("/photo.jpg", encoded(PHOTO))


def make(client: SandboxClient, **payload: Any) -> bytes:
    record = client.finished(client.submit_id(**{"resolution": "720P", "seed": 7, **payload}))
    assert record["status"] == "success", record
    return client.download(record)


@pytest.fixture(scope="module")
def clip(client: SandboxClient, photo_url: str) -> Clip:
    return decode(make(client, img_url=photo_url))


def test_a_clip_is_h264_at_30_frames_with_the_size_and_length_of_the_contract(clip: Clip) -> None:
    assert (clip.codec, clip.pixels, clip.rate) == ("h264", "yuv420p", 30.0)
    assert clip.size == (816, 1104)
    assert (clip.seconds, len(clip.frames)) == (5.0, 150)
    assert clip.audio == "aac"
    assert clip.audio_seconds == pytest.approx(5.0, abs=0.03)
    assert clip.loudness > 0.05


def test_the_index_comes_before_the_pictures(clip: Clip) -> None:
    assert clip.data.index(b"moov") < clip.data.index(b"mdat")


def test_the_first_frame_is_the_given_image(clip: Clip) -> None:
    wanted = np.asarray(poster(PHOTO, clip.size).convert("L"), dtype=float)
    assert np.corrcoef(wanted.ravel(), clip.frames[0].ravel().astype(float))[0, 1] > 0.98


def test_the_picture_moves_visibly_and_all_the_time(clip: Clip) -> None:
    def change(first: int, second: int) -> float:
        return float(np.abs(clip.frames[first].astype(float) - clip.frames[second].astype(float)).mean())

    assert change(0, 149) > 5
    assert min(change(index, index + 15) for index in range(0, 135, 15)) > 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    client: SandboxClient, photo_url: str, image_server: ImageServer, clip: Clip
) -> None:
    same_image = image_server.add("/the-same.jpg?signature=1", image_server.files["/photo.jpg"])
    assert make(client, img_url=same_image) == clip.data
    assert make(client, img_url=photo_url, seed=8) != clip.data


def test_a_silent_clip_with_a_watermark_shows_it_and_has_no_audio(
    client: SandboxClient, photo_url: str, clip: Clip
) -> None:
    marked = decode(make(client, img_url=photo_url, audio=False, watermark=True))
    assert marked.audio is None
    corner = (slice(-110, None), slice(-380, None))
    wanted = np.asarray(poster(PHOTO, clip.size).convert("L"), dtype=float)[corner]
    difference = np.abs(marked.frames[0][corner] - wanted)
    plain = np.abs(clip.frames[0][corner] - wanted)
    assert difference.mean() > plain.mean() + 2
    assert (marked.frames[0][corner] > 215).sum() > 300


def test_a_clip_of_several_shots_from_a_wide_image_has_a_cut(client: SandboxClient, image_server: ImageServer) -> None:
    url = image_server.add("/wide.png", encoded(picture(1000, 400), "PNG"))
    wide = decode(make(client, img_url=url, shot_type="multi"))
    assert (wide.size, wide.seconds, len(wide.frames)) == ((1504, 592), 5.0, 150)
    changes = [np.abs(wide.frames[at].astype(float) - wide.frames[at + 1].astype(float)).mean() for at in (40, 74, 110)]
    assert changes[1] > 4 * max(changes[0], changes[2])


def test_the_poster_is_a_jpeg_of_the_clips_size(client: SandboxClient, photo_url: str, clip: Clip) -> None:
    record = client.finished(client.submit_id(img_url=photo_url, resolution="720P", seed=7))
    data = client.fetch(record["outcome"]["thumbnail_image_url"])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", clip.size)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("small.jpg", encoded(Image.new("RGB", (359, 500))), "359x500"),
        ("alpha.png", encoded(Image.new("RGBA", (400, 400)), "PNG"), "alpha"),
        ("page.jpg", b"<html>", "could not be decoded"),
        ("large.jpg", encoded(PHOTO) + bytes(10 * 1024 * 1024), "larger than 10 MB"),
        (None, b"", "Failed to download media"),
    ],
)
def test_a_bad_image_makes_a_failed_record_that_says_why_and_costs_nothing(
    client: SandboxClient, image_server: ImageServer, name: str | None, data: bytes, reason: str
) -> None:
    url = image_server.add(f"/{name}", data) if name else image_server.add("/gone", b"") + "-not"
    before = len(client.server.charges())
    record = client.finished(client.submit_id(img_url=url))
    assert record["status"] == "failed"
    assert reason in record["outcome"]["error"]
    assert len(client.server.charges()) == before


def test_tiny_clips_have_the_right_size_and_length_and_differ(image_server: ImageServer, photo_url: str) -> None:
    with SandboxServer(speed=1000, render="tiny") as server:
        client = SandboxClient(server)
        first = make(client, img_url=photo_url, duration=5)
        tiny = decode(first)
        assert (tiny.size, tiny.seconds, len(tiny.frames), tiny.audio) == ((816, 1104), 5.0, 150, "aac")
        long = decode(make(client, img_url=photo_url, duration=15, audio=False))
        assert (long.size, long.seconds, len(long.frames), long.audio) == ((816, 1104), 15.0, 450, None)
        second = make(client, img_url=photo_url, duration=5, seed=8)
        assert first != second
        assert make(client, img_url=photo_url, duration=5) == first
        assert len(first) < 200_000


def test_unseeded_requests_differ_but_not_between_two_sandboxes_of_one_seed(photo_url: str, tmp_path: Path) -> None:
    def clips(name: str) -> list[bytes]:
        with SandboxServer(speed=1000, seed=3, render="tiny", data_dir=tmp_path / name) as server:
            client = SandboxClient(server)
            made = [client.finished(client.submit_id(img_url=photo_url)) for _ in range(2)]
            return [client.download(record) for record in made]

    first = clips("one")
    assert first[0] != first[1]
    assert clips("two") == first
