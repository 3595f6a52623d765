# SPDX-License-Identifier: Apache-2.0
"""Archives finished clips, and records that in the ledger."""

from __future__ import annotations

from airflow_provider_wan.api.errors import WanResultError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.ledger import EntryState, Ledger, LedgerEntry
from airflow_provider_wan.media.archive import ClipArchive, StoreError
from airflow_provider_wan.media.clip_record import ArchivedClip
from airflow_provider_wan.s3.uri import build_s3_uri


class Archiver:
    """Archives clips; safe to use from several threads.

    :param archive: writes clips to S3.
    :param ledger: records where they are archived.
    :param bucket: bucket of the clips.
    :param prefix: prefix of the clips; empty, or ending in ``/``.
    """

    def __init__(self, archive: ClipArchive, ledger: Ledger, bucket: str, prefix: str) -> None:
        self._archive = archive
        self._ledger = ledger
        self._bucket = bucket
        self._prefix = prefix

    def build_key(self, item: PreparedItem) -> str:
        """Return the key of a clip: its own name, or one that is unique by its fingerprint.

        :param item: the item of the clip.
        """
        name = item.item.name or f"{item.item.stem}-{item.fingerprint[:10]}"
        return f"{self._prefix}{name}.mp4"

    def check_free(self, item: PreparedItem, claim: LedgerEntry) -> None:
        """Refuse to pay for a clip whose key is occupied by another object.

        :param item: the item of the clip.
        :param claim: the claim that is about to be made.
        :raises WanValidationError: if another object has that key.
        """
        maker = self._archive.find_request_id(self._bucket, self.build_key(item))
        if maker is not None and maker not in claim.request_ids:
            uri = build_s3_uri(self._bucket, self.build_key(item))
            rule = f"holds {'another object' if not maker else f'the clip of request {maker}'}"
            raise WanValidationError("name", uri, rule, "Give the row another name, or choose another output")

    def archive(self, item: PreparedItem, record: RequestRecord) -> ItemResult:
        """Archive a finished clip.

        :param item: the item of the clip.
        :param record: its request, which has succeeded.
        :returns: an archived or a lost clip.
        :raises WanResultError: if another poll and another attempt may succeed; likewise the errors of botocore.
        """
        entry = self._ledger.record_result(item.fingerprint, record)
        if entry is not None and entry.state is EntryState.ARCHIVED:
            return self.reuse_archived(item, entry)
        key = self.build_key(item)
        try:
            clip = self._archive.find(self._bucket, key, record.request_id, forbidden_is_absent=True)
            if clip is None:
                seconds = float(item.item.request.duration)
                clip = self._archive.store(record, self._bucket, key, seconds=seconds, cost=item.cost)
        except (WanResultError, WanValidationError) as error:
            if error.retryable:
                raise
            message = f"{type(error).__name__}: {error}"
            return item.build_result(ItemStatus.LOST, request_id=record.request_id, error=message)
        self._ledger.record_archive(item.fingerprint, record.request_id, clip.uri, clip.sha256)
        return self._build_result(item, clip)

    def reuse_archived(self, item: PreparedItem, entry: LedgerEntry) -> ItemResult:
        """Verify that a clip is where the ledger says, and copy it to this output if it is elsewhere.

        :param item: the item of the clip.
        :param entry: its entry, which says that it is archived.
        :returns: an archived or a lost clip.
        :raises StoreError: if S3 refuses to read or write there.
        """
        uri, request_id, key = entry.archive_uri or "", str(entry.request_id), self.build_key(item)
        try:
            elsewhere = uri != build_s3_uri(self._bucket, key)
            clip = self._archive.find(self._bucket, key, request_id, forbidden_is_absent=elsewhere)
            if clip is None and elsewhere:
                clip = self._archive.copy(uri, self._bucket, key, request_id)
        except StoreError:
            raise
        except (WanResultError, WanValidationError) as error:
            message = f"{type(error).__name__}: {error}"
            return item.build_result(ItemStatus.LOST, request_id=request_id, error=message)
        if clip is None:
            message = (
                f"{uri or 'No location'}: the ledger says that the clip of request {request_id} is archived there, but "
                "it is missing. It was paid for; a new idempotency_key makes it again, for its price."
            )
            return item.build_result(ItemStatus.LOST, request_id=request_id, error=message)
        return self._build_result(item, clip)

    @staticmethod
    def _build_result(item: PreparedItem, clip: ArchivedClip) -> ItemResult:
        return item.build_result(
            ItemStatus.ARCHIVED,
            archive_uri=clip.uri,
            sha256=clip.sha256,
            request_id=clip.request_id,
            cost=item.cost if item.paid_here else 0.0,
            reused=not item.paid_here,
        )
