# SPDX-License-Identifier: Apache-2.0
"""Compares what the API delivers with what was asked for."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.api.errors import WanResultRefusedError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.media.video import VideoInfo

# Pixels of a video by its resolution; the sides follow the image.
_PIXELS = {"720P": 1280 * 720, "1080P": 1920 * 1080}
# The two resolutions are a factor of 2.25 apart.
_PIXEL_TOLERANCE = 1.4


def check_request(
    record: RequestRecord, *, seconds: float | None = None, resolution: str | None = None, seed: int | None = None
) -> None:
    """Hold the API's echo of a request against what was asked for.

    A field that the echo leaves out, or whose value can't be read, proves nothing.

    :param record: the request as the API returns it.
    :param seconds: seconds of video that were asked for, if known.
    :param resolution: the resolution, if known.
    :param seed: the seed that was sent, if known.
    :raises WanResultRefusedError: if it is another request's.
    """
    asked: dict[str, Any] = {"duration": seconds, "resolution": resolution, "seed": seed}
    for name, value in asked.items():
        echoed, wanted = _normalize(record.payload.get(name)), _normalize(value)
        if echoed is not None and wanted is not None and type(echoed) is type(wanted) and echoed != wanted:
            raise WanResultRefusedError(
                f"Request {record.request_id} is not the one that was asked for: the API says that it was made with "
                f"{name}={record.payload.get(name)!r}, and {value!r} was asked for. Its clip is not archived; look at "
                "it in the console."
            )


def list_deviations(video: VideoInfo, resolution: str | None) -> list[str]:
    """Return how a video differs from what was asked for, for its record. It is paid for and kept all the same.

    :param video: what the file holds.
    :param resolution: the resolution that was asked for, if known.
    """
    wanted = _PIXELS.get(str(resolution))
    pixels = video.width * video.height
    if wanted is None or wanted / _PIXEL_TOLERANCE <= pixels <= wanted * _PIXEL_TOLERANCE:
        return []
    return [f"{video.width}x{video.height} pixels, where {resolution} was asked for"]


def _normalize(value: Any) -> float | str | None:
    """Return a number or a word in a form that can be compared; None if it is neither."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value).strip().upper() or None if isinstance(value, str) else None
