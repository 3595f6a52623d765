# SPDX-License-Identifier: Apache-2.0
"""Inspect a clip as a player would: every frame is decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STILLS = (0.02, 0.35, 0.65, 0.98)
_THUMBNAIL_SIZE = (96, 96)  # frames are compared at this size: it is quick, and encoding noise does not count as motion


@dataclass(frozen=True)
class ClipFacts:
    """Measurements of a decoded clip.

    :param frames: decoded frames; ``moving`` of them differ visibly from the one before.
    :param fps: frames a second, as the file says.
    :param seconds: from the first frame's start to the last frame's end.
    :param travel: mean difference of the first and the last frame, in grey levels (0–255).
    :param audio_seconds: decoded sound; None without a sound track.
    :param stills: pictures at the shares :data:`STILLS` of the clip.
    """

    frames: int
    moving: int
    width: int
    height: int
    fps: float
    seconds: float
    travel: float
    codec: str
    audio_codec: str | None
    audio_seconds: float | None
    size: int
    sha256: str
    stills: tuple[Any, ...]


def inspect(path: Path) -> ClipFacts:
    """Decode all of ``path``.

    :raises av.FFmpegError: when the file is broken. :raises ValueError: when it holds no picture.
    """
    import av

    data = path.read_bytes()
    wanted: set[int] = set()
    stills: list[Any] = []
    first = last = None
    frames = moving = 0
    end = 0.0
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        fps = float(video.average_rate or 0)
        wanted = {round(share * (video.frames - 1)) for share in STILLS}
        for frame in container.decode(video):
            thumbnail = frame.reformat(*_THUMBNAIL_SIZE, format="gray").to_image().convert("L")
            if last is not None and _difference(last, thumbnail) > 0.02:
                moving += 1
            if first is None:
                first, size = thumbnail, (frame.width, frame.height)
            if frames in wanted:
                stills.append(frame.to_image())
            last = thumbnail
            end = float(frame.time or 0) + (1 / fps if fps else 0)
            frames += 1
        codec = video.codec_context.name
    if first is None:
        raise ValueError(f"{path.name} has no frame")
    audio_codec, audio_seconds = _sound(path)
    return ClipFacts(
        frames=frames,
        moving=moving,
        width=size[0],
        height=size[1],
        fps=fps,
        seconds=end,
        travel=_difference(first, last),
        codec=codec,
        audio_codec=audio_codec,
        audio_seconds=audio_seconds,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        stills=tuple(stills),
    )


def _sound(path: Path) -> tuple[str | None, float | None]:
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None, None
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        return stream.codec_context.name, samples / (stream.rate or 1)


def _difference(one: Any, other: Any) -> float:
    from PIL import ImageChops, ImageStat

    return float(ImageStat.Stat(ImageChops.difference(one, other)).mean[0])


def faults(facts: ClipFacts, *, seconds: float, pixels: int, audio: bool, aspect: float) -> list[str]:
    """Return what is wrong with a clip; empty for a good one.

    :param seconds: the duration that was requested.
    :param pixels: about how many pixels a frame should have (1280×720 for "720P").
    :param audio: whether sound was requested.
    :param aspect: width by height of the image that it was made from.
    """
    found = []
    if facts.frames != round(seconds * facts.fps):
        found.append(f"{facts.frames} frames, {round(seconds * facts.fps)} expected")
    if abs(facts.seconds - seconds) > 0.1:
        found.append(f"{facts.seconds:.2f} s long, {seconds:g} s ordered")
    if facts.codec != "h264" or round(facts.fps) != 30:
        found.append(f"{facts.codec} at {facts.fps:.2f} frames a second, h264 at 30 expected")
    if facts.width % 16 or facts.height % 16 or not 0.85 < facts.width * facts.height / pixels < 1.15:
        found.append(f"{facts.width}×{facts.height} is not the size that was ordered")
    if abs(facts.width / facts.height / aspect - 1) > 0.04:
        found.append(f"{facts.width}×{facts.height} has not the shape of the image ({aspect:.2f})")
    if facts.moving < 0.5 * facts.frames or facts.travel < 1:
        found.append(f"nothing moves: {facts.moving} of {facts.frames} frames differ")
    if audio and (facts.audio_seconds is None or abs(facts.audio_seconds - seconds) > 0.3):
        found.append(f"sound of {facts.audio_seconds} s")
    return found
