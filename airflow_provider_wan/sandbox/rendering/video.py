# SPDX-License-Identifier: Apache-2.0
"""MP4 writer: H.264 (yuv420p, 30 frames per second), AAC, index first, reproducible byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox.rendering.animation import FPS
from airflow_provider_wan.sandbox.rendering.sound import RATE

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.rendering.sound import Samples

COMMENT = "made by the wan sandbox"
BT709 = 1


class RenderAborted(Exception):
    """The sandbox is closing."""


def write_clip(
    path: Path,
    size: tuple[int, int],
    frames: Iterable[bytes],
    sound: Samples | None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write a clip.

    :param frames: YUV 4:2:0 planes of each frame; a repeated object is converted once.
    :param sound: two channels at 48 kHz, or None for a silent clip.
    :param stopped: checked at each frame.
    :raises Stopped: if ``stopped`` returns true.
    """
    import av

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata["comment"] = COMMENT
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = size[0], size[1], "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "25", "g": "60"}
        video.codec_context.thread_count = 1
        video.codec_context.colorspace = BT709
        audio = container.add_stream("aac", rate=RATE, layout="stereo") if sound is not None else None
        last: bytes | None = None
        for index, frame in enumerate(frames):
            if stopped():
                raise RenderAborted
            if frame is not last:
                picture, last = _picture(frame, size), frame
            picture.pts = index
            container.mux(video.encode(picture))
            if audio is not None and sound is not None:
                share = range(index * RATE // FPS, (index + 1) * RATE // FPS)
                _write_sound(container, audio, sound, share.start, share.stop)
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            _write_sound(container, audio, sound, sound.shape[1], sound.shape[1], last=True)
            container.mux(audio.encode(None))


def _picture(data: bytes, size: tuple[int, int]) -> Any:
    import av
    import numpy as np

    array = np.frombuffer(data, dtype=np.uint8).reshape(size[1] * 3 // 2, size[0])
    frame = av.VideoFrame.from_ndarray(array, format="yuv420p")
    frame.time_base = Fraction(1, FPS)
    return frame


def _write_sound(container: Any, stream: Any, sound: Samples, start: int, stop: int, last: bool = False) -> None:
    """Encode the whole AAC frames that begin within ``start`` and ``stop``."""
    import av
    import numpy as np

    step = 1024
    first = -(-start // step) * step
    if last:
        first = sound.shape[1] // step * step
        stop = sound.shape[1]
    for begin in range(first, stop, step):
        piece = sound[:, begin : begin + step]
        if piece.shape[1] < step and not last:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
        container.mux(stream.encode(frame))
