# SPDX-License-Identifier: Apache-2.0
"""What the operators of single clips do with the archive: find a clip, archive one, and report it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanResultMismatchError, WanValidationError
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.media.archive import MismatchedClipError, Presence
from airflow_provider_wan.media.clip_record import MAX_KEY_BYTES, VIDEO_TYPE
from airflow_provider_wan.traces import record_span

if TYPE_CHECKING:
    from airflow_provider_wan.ledger import Ledger, LedgerEntry
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.clip_record import ArchivedClip

log = logging.getLogger(__name__)


def validate_clip_key(name: str, value: str, key: str) -> None:
    """Refuse a key that can't be a clip's.

    :param name: name of the argument, for the error.
    :param value: the argument.
    :param key: the key in it.
    :raises WanValidationError: if it is a folder's or a record's, or too long for S3.
    """
    if key.endswith(("/", ".json")):
        raise WanValidationError(name, value, "must name a file, and not one in .json: the record's")
    if (size := len(key.encode("utf-8", "surrogatepass"))) > MAX_KEY_BYTES:
        rule = f"has a key of {size} bytes, and at most {MAX_KEY_BYTES} fit into S3 with the record's"
        raise WanValidationError(name, value, rule, "Shorten it")


def archive_and_record(
    archive: ClipArchive,
    store: Callable[[], ArchivedClip],
    *,
    request_id: str,
    ledger: Ledger | None,
    fingerprint: str,
) -> ArchivedClip:
    """Archive a clip, and record in the ledger where it is, so that it is found after the API has forgotten it.

    :param archive: the clips on S3.
    :param store: finds, copies or downloads the clip.
    :param request_id: the clip's request.
    :param ledger: ledger of the clip; None if it is not known.
    :param fingerprint: the clip's fingerprint in it.
    :raises WanResultMismatchError: if the clip is not the one that was asked for, or its key holds another clip. It is
        kept beside the key, and recorded.
    """

    def record(clip: ArchivedClip) -> None:
        if ledger is not None:
            ledger.record_archive(fingerprint, request_id, clip.uri, clip.sha256, is_missing=archive.is_missing)

    try:
        with record_span("wan.archive", request_id=request_id) as set_attributes:
            clip = store()
            set_attributes(size=clip.video.size, existing=clip.existing)
    except MismatchedClipError as error:
        record(error.clip)
        raise
    record(clip)
    if clip.displaced:
        raise WanResultMismatchError(clip.displaced)
    log.info(
        "Request %s: %s, %d bytes, %.1f s, %d×%d, sha256 %s%s",
        *(request_id, clip.uri, clip.video.size, clip.video.seconds, clip.video.width, clip.video.height),
        *(clip.sha256, "; already archived" if clip.existing else ""),
    )
    return clip


def describe_archived_clip(clip: ArchivedClip) -> dict[str, Any]:
    """Return what a task's result says of an archived clip.

    :param clip: the clip.
    """
    return {
        "uri": clip.uri,
        "record_uri": clip.record_uri,
        "sha256": clip.sha256,
        "size": clip.video.size,
        "width": clip.video.width,
        "height": clip.video.height,
        "content_type": VIDEO_TYPE,
        "existing": clip.existing,
    }


def find_archived_clip(archive: ClipArchive, entry: LedgerEntry) -> str | None:
    """Return where an archived clip is; None if it is certainly not where the ledger says.

    :param archive: the clips on S3.
    :param entry: the clip's entry.
    :raises WanResultMismatchError: if it is there, and is not the clip that was asked for.
    """
    check = archive.check(entry.archive_uri, str(entry.request_id), entry.archive_sha256)
    if check.clip is not None and check.clip.deviations:
        raise MismatchedClipError(check.clip)
    if check.presence is Presence.UNKNOWN:
        log.warning(
            "Whether clip %s is still at %s can't be found out (%s); it is taken to be there. The AWS connection "
            "needs s3:GetObject on it, and s3:ListBucket to see what is missing",
            entry.fingerprint,
            entry.archive_uri,
            check.reason,
        )
    return None if check.presence is Presence.MISSING else entry.archive_uri


def build_archived_result(entry: LedgerEntry, uri: str) -> dict[str, Any]:
    """Return the result of a task whose clip is archived already.

    :param entry: the clip's entry.
    :param uri: where the clip is.
    """
    return {
        "request_id": entry.request_id,
        "status": RequestStatus.SUCCESS.value,
        "video_url": None,
        "thumbnail_url": None,
        "fingerprint": entry.fingerprint,
        "seconds": entry.duration,
        "resolution": entry.resolution,
        "model": entry.model,
        "seed": entry.seed,
        "archive_uri": uri,
    }
