# SPDX-License-Identifier: Apache-2.0
"""The record beside a clip: how it was made, and what exactly lies there. JSON, written after the video."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_wan import __version__
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.redaction import clean_text, public_url, redact_value
from airflow_provider_wan.media.video import VideoInfo
from airflow_provider_wan.s3.uri import build_s3_uri

_OWN_SCHEMAS = "airflow-provider-wan/"
SCHEMA = f"{_OWN_SCHEMAS}clip/1"
MAX_RECORD_BYTES = 1_000_000
#: Bytes of the longest key of a clip. S3 allows 1024; its record, and a clip of a request id in its key, need some.
MAX_KEY_BYTES = 1024 - 64
VIDEO_TYPE = "video/mp4"
RECORD_TYPE = "application/json"
_MAX_DEPTH = 20
_MAX_TEXT = 20_000


@dataclass(frozen=True)
class ArchivedClip:
    """A clip that lies in S3, checked.

    :param request_id: of the request that made it.
    :param bucket: where it lies; ``key`` likewise.
    :param sha256: hexadecimal hash of the video's bytes.
    :param etag: the object's ETag at the time of the check.
    :param video: what the video holds.
    :param existing: whether it lay there already, so that nothing was downloaded from the API's host.
    :param deviations: how it differs from what was asked for; then it is kept at a key of its own.
    :param displaced: why it is at a key of its own, if another object has the key that it was meant for.
    """

    request_id: str
    bucket: str
    key: str
    sha256: str
    etag: str
    video: VideoInfo
    existing: bool = False
    deviations: tuple[str, ...] = ()
    displaced: str | None = None

    @property
    def uri(self) -> str:
        """``s3://`` URI of the video."""
        return build_s3_uri(self.bucket, self.key)

    @property
    def record_uri(self) -> str:
        """``s3://`` URI of the record."""
        return build_s3_uri(self.bucket, record_key(self.key))

    def as_existing(self) -> ArchivedClip:
        """The same, marked as having lain there."""
        return replace(self, existing=True)


def record_key(key: str) -> str:
    """The key of the record of the video at ``key``: ``clips/a.json`` for ``clips/a.mp4``."""
    return key.removesuffix(".mp4") + ".json"


def build_record(clip: ArchivedClip, request: RequestRecord, cost: float | None) -> bytes:
    """Put in words how a clip was made.

    URLs lose their query strings, which may be signatures. What JSON or UTF-8 can't represent is left out: nothing
    that the API says may stop the archive of a clip that is paid for.

    :param clip: the clip.
    :param request: the request that made it.
    :param cost: US dollars; ``None`` when unknown.
    :return: JSON in UTF-8.
    """
    seconds = None
    if request.created_at is not None and request.updated_at is not None:
        seconds = round(request.updated_at - request.created_at, 3)
    document = {
        "schema": SCHEMA,
        "request_id": clip.request_id,
        "model": request.model,
        "parameters": redact_value(_clean_json(request.payload)),
        "requested_at": _iso(request.created_at),
        "queued_at": _iso(request.queued_at),
        "finished_at": _iso(request.updated_at),
        "processing_seconds": seconds,
        "cost_usd": cost,
        "source_url": public_url(request.video_url) if request.video_url else None,
        "uri": clip.uri,
        "content_type": VIDEO_TYPE,
        "sha256": clip.sha256,
        "etag": clip.etag,
        "size": clip.video.size,
        "width": clip.video.width,
        "height": clip.video.height,
        "seconds": clip.video.seconds,
        "codec": clip.video.codec,
        "has_audio": clip.video.has_audio,
        "fragmented": clip.video.fragmented,
        "deviations": list(clip.deviations),
        "archived_at": _iso(datetime.now(UTC).timestamp()),
        "provider_version": __version__,
    }
    body = _encode(document)
    return body if len(body) < MAX_RECORD_BYTES else _encode(document | {"parameters": {}})


def build_copy_record(body: bytes, clip: ArchivedClip, source_uri: str) -> bytes:
    """Build a copy's record: the original's, with the copy's place and its source.

    :param body: the record of the original.
    :param clip: the copy.
    :param source_uri: the original.
    :return: JSON in UTF-8.
    """
    document = json.loads(body)
    document |= {
        "uri": clip.uri,
        "etag": clip.etag,
        "copied_from": source_uri,
        "archived_at": _iso(datetime.now(UTC).timestamp()),
    }
    return _encode(document)


def is_foreign(body: bytes) -> bool:
    """Return whether an object at a record's key is neither a record nor the claim of a task that archives there.

    :param body: the object's bytes.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not isinstance(document, dict) or not str(document.get("schema")).startswith(_OWN_SCHEMAS)


def parse_record(body: bytes, bucket: str, key: str) -> ArchivedClip | None:
    """Read what :func:`build_record` wrote.

    :param body: the record's bytes.
    :param bucket: where its video lies; ``key`` likewise.
    :return: the clip that it describes; ``None`` if it is no such record.
    """
    try:
        document: Mapping[str, Any] = json.loads(body)
        if not str(document["schema"]).startswith(SCHEMA.rpartition("/")[0]):
            return None
        video = VideoInfo(
            seconds=float(document["seconds"]),
            width=int(document["width"]),
            height=int(document["height"]),
            codec=str(document["codec"]),
            has_audio=bool(document["has_audio"]),
            size=int(document["size"]),
            fragmented=bool(document.get("fragmented", False)),
        )
        names = ("request_id", "sha256", "etag")
        request_id, sha256, etag = (str(document[name]) for name in names)
        deviations = tuple(map(str, document.get("deviations") or ()))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return ArchivedClip(request_id, bucket, key, sha256, etag, video, deviations=deviations)


def _encode(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(_clean_json(document), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _clean_json(value: Any, depth: int = 0) -> Any:
    """Return a value without what JSON in UTF-8 can't represent."""
    if isinstance(value, str):
        return clean_text(value, _MAX_TEXT)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {clean_text(str(name)): _clean_json(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_json(each, depth + 1) for each in value]
    return None


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
