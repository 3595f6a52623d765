# SPDX-License-Identifier: Apache-2.0
"""Archives a finished clip, and notes it in the ledger; what comes of it is a row of the results."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_wan.api.errors import WanResultError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.batch.prepare import Clip
from airflow_provider_wan.batch.results import Row, Status
from airflow_provider_wan.ledger import Advance, EntryState, LedgerEntry
from airflow_provider_wan.media.archive import ClipArchive
from airflow_provider_wan.media.clip_record import ArchivedClip

log = logging.getLogger(__name__)


class Keeper:
    """
    Archives; used by several threads.

    :param archive: puts clips into S3.
    :param advance: notes it in the ledger.
    :param bucket: where clips go; ``prefix`` below which, ending in ``/`` or empty.
    """

    def __init__(self, archive: ClipArchive, advance: Advance, bucket: str, prefix: str) -> None:
        self._archive = archive
        self._advance = advance
        self._bucket = bucket
        self._prefix = prefix

    def key_of(self, clip: Clip) -> str:
        """Return where a clip goes: its own name, or one that no other clip can have."""
        name = clip.item.name or f"{clip.item.stem}-{clip.fingerprint[:10]}"
        return f"{self._prefix}{name}.mp4"

    def check_free(self, clip: Clip, fresh: LedgerEntry) -> None:
        """
        Refuse to pay for a clip that could not be archived, since another one lies there.

        :param fresh: the claim that is about to be made.
        :raises WanValidationError: naming what lies there.
        """
        maker = self._archive.maker_of(self._bucket, self.key_of(clip))
        if maker is not None and maker not in fresh.request_ids:
            uri = f"s3://{self._bucket}/{self.key_of(clip)}"
            rule = f"holds {'another object' if not maker else f'the clip of request {maker}'}"
            raise WanValidationError("name", uri, rule, "Give the row another name, or choose another output")

    def keep(self, clip: Clip, record: RequestRecord) -> Row:
        """
        Archive a finished clip.

        :raises WanResultError: another look and another try may do; likewise botocore's errors.
        """
        entry = self._advance.finish(clip.fingerprint, record)
        if entry is not None and entry.state is EntryState.ARCHIVED:
            return self.kept_before(clip, entry)
        key = self.key_of(clip)
        try:
            kept = self._archive.find(self._bucket, key, record.request_id)
            if kept is None:
                seconds = float(clip.item.request.duration)
                kept = self._archive.store(record, self._bucket, key, seconds=seconds, cost=clip.cost)
        except (WanResultError, WanValidationError) as error:
            if error.retryable:
                raise
            return row_of(clip, Status.LOST, request_id=record.request_id, error=f"{type(error).__name__}: {error}")
        entry = self._advance.archive(clip.fingerprint, record.request_id, kept.uri, kept.sha256)
        return self._row(clip, kept)

    def kept_before(self, clip: Clip, entry: LedgerEntry) -> Row:
        """See that a clip lies here that the ledger says is archived, and copy it here from elsewhere."""
        uri, request_id, key = entry.archive_uri or "", str(entry.request_id), self.key_of(clip)
        missing = (
            f"{uri or 'No place'}: the ledger says that the clip of request {request_id} is archived there, and it is "
            "not. It was paid for; force_new makes it again, for its price."
        )
        try:
            kept = self._archive.find(self._bucket, key, request_id)
            if kept is None and uri != f"s3://{self._bucket}/{key}":
                kept = self._archive.copy(uri, self._bucket, key, request_id)
        except (WanResultError, WanValidationError) as error:
            return row_of(clip, Status.LOST, request_id=request_id, error=f"{type(error).__name__}: {error}")
        if kept is None:
            return row_of(clip, Status.LOST, request_id=request_id, error=missing)
        return self._row(clip, kept)

    @staticmethod
    def _row(clip: Clip, kept: ArchivedClip) -> Row:
        return row_of(
            clip,
            Status.ARCHIVED,
            archive_uri=kept.uri,
            sha256=kept.sha256,
            request_id=kept.request_id,
            cost=clip.cost if clip.ours else 0.0,
            reused=not clip.ours,
        )


def row_of(clip: Clip, status: Status, **more: Any) -> Row:
    """Return the row of a clip, with what is known of it."""
    return Row(
        row=clip.row,
        image=clip.item.image.shown,
        status=status,
        seconds=clip.item.request.duration,
        resolution=str(clip.item.request.resolution),
        fingerprint=clip.fingerprint,
        digest=clip.item.digest,
        **more,
    )
