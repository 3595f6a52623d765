# SPDX-License-Identifier: Apache-2.0
"""Compares what the API delivers with what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.api.errors import WanResultMismatchError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.media.video import VideoInfo, is_of_length

# Pixels of a video by its resolution; the sides follow the image.
_PIXELS = {720: 1280 * 720, 1080: 1920 * 1080}
# The two resolutions are a factor of 2.25 apart.
_PIXEL_TOLERANCE = 1.4


@dataclass(frozen=True)
class AskedClip:
    """What was asked for, as far as it is known.

    :param seconds: seconds of video.
    :param resolution: the resolution.
    :param seed: the seed, if the user named one.
    """

    seconds: float | None = None
    resolution: str | None = None
    seed: int | None = None


def list_contradictions(record: RequestRecord, asked: AskedClip) -> list[str]:
    """Return how the API's echo of a request contradicts what was asked for.

    A field that the echo leaves out, or writes in a way that can't be compared, proves nothing. The model is not
    compared: the service may name another one than it was sent.

    :param record: the request as the API returns it.
    :param asked: what was asked for.
    """
    numbers = {
        "duration": (_parse_number(record.payload.get("duration")), _parse_number(asked.seconds)),
        "resolution": (_parse_lines(record.payload.get("resolution")), _parse_lines(asked.resolution)),
        "seed": (_parse_number(record.payload.get("seed")), _parse_number(asked.seed)),
    }
    values = {"duration": asked.seconds, "resolution": asked.resolution, "seed": asked.seed}
    return [
        f"the API says that it was made with {name}={record.payload.get(name)!r}, where {values[name]!r} was asked for"
        for name, (echoed, wanted) in numbers.items()
        if echoed is not None and wanted is not None and echoed != wanted
    ]


def check_request(record: RequestRecord, asked: AskedClip) -> None:
    """Refuse a request that is not the one that was asked for, by the API's own word.

    :param record: the request as the API returns it.
    :param asked: what was asked for.
    :raises WanResultMismatchError: if it is another one.
    """
    if faults := list_contradictions(record, asked):
        raise WanResultMismatchError(mismatch_message(record.request_id, faults, None))


def list_deviations(video: VideoInfo, asked: AskedClip) -> list[str]:
    """Return how a video differs from what was asked for.

    The API scales the sides to the aspect of the image, so only the number of pixels shows the resolution.

    :param video: what the file holds.
    :param asked: what was asked for.
    """
    faults = []
    wanted = _PIXELS.get(_parse_lines(asked.resolution) or 0)
    pixels = video.width * video.height
    if wanted is not None and not wanted / _PIXEL_TOLERANCE <= pixels <= wanted * _PIXEL_TOLERANCE:
        faults.append(f"it has {video.width}x{video.height} pixels, where {asked.resolution} was asked for")
    if asked.seconds and not is_of_length(video, asked.seconds):
        faults.append(f"it lasts {video.seconds:.2f} s, where {asked.seconds:g} s were asked for")
    return faults


def mismatch_message(request_id: str, faults: list[str] | tuple[str, ...], uri: str | None) -> str:
    """Return what is wrong with a clip, where it is, and what a person can do.

    :param request_id: the request.
    :param faults: how it differs from what was asked for.
    :param uri: where the clip is kept; None if it is not archived.
    """
    remedy = (
        f"It is kept at {uri}, with its record: use it from there"
        if uri
        else "It is not archived: `wan-provider harvest` does that"
    )
    return (
        f"The clip of request {request_id} is not the one that was asked for: {'; '.join(faults)}. It was paid for, "
        f"and nothing else was. {remedy}; or set a new idempotency_key, which makes and pays for another clip."
    )


def _parse_number(value: Any) -> float | None:
    """Return a number that may be written as text; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _parse_lines(value: Any) -> int | None:
    """Return the lines of a resolution such as ``720P`` or ``720``; None if it is written in another way."""
    text = str(value).strip().upper().removesuffix("P")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None
