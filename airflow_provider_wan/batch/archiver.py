# SPDX-License-Identifier: Apache-2.0
"""Archives finished clips, and records that in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from airflow_provider_wan.api.errors import WanResultError, WanResultGoneError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.ledger import EntryState, Ledger, LedgerEntry
from airflow_provider_wan.ledger.recovery import (
    LostClipError,
    RequestGetter,
    build_asked_clip,
    get_result_again,
    report_lost_clip,
)
from airflow_provider_wan.media.archive import ClipArchive, MismatchedClipError
from airflow_provider_wan.media.clip_record import MAX_KEY_BYTES, ArchivedClip
from airflow_provider_wan.media.delivery import AskedClip
from airflow_provider_wan.s3.errors import S3_ERRORS
from airflow_provider_wan.s3.uri import build_s3_uri, split_s3_uri

log = logging.getLogger(__name__)


class Archiver:
    """Archives clips; safe to use from several threads.

    :param archive: writes clips to S3.
    :param ledger: records where they are archived.
    :param api: client for requests whose clip is no longer where the ledger says.
    :param bucket: bucket of the clips.
    :param prefix: prefix of the clips; empty, or ending in ``/``.
    """

    def __init__(self, archive: ClipArchive, ledger: Ledger, api: RequestGetter, bucket: str, prefix: str) -> None:
        self._archive = archive
        self._ledger = ledger
        self._api = api
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
        :raises WanValidationError: if another object has that key, or the key is too long for S3.
        """
        size = len(self.build_key(item).encode())
        if size > MAX_KEY_BYTES:
            rule = f"makes a key of {size} bytes with the output prefix, and at most {MAX_KEY_BYTES} fit into S3"
            raise WanValidationError("name", item.item.name or item.item.stem, rule, "Shorten the name or the prefix")
        maker = self._archive.find_request_id(self._bucket, self.build_key(item))
        if maker is not None and maker not in claim.request_ids:
            uri = build_s3_uri(self._bucket, self.build_key(item))
            holder = f"the clip of request {maker}" if maker else "another object, there or at the key of the record"
            rule = f"holds {holder}"
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
        return self._archive_clip(item, record.request_id, lambda: record, entry)

    def reuse_archived(self, item: PreparedItem, entry: LedgerEntry) -> ItemResult:
        """Find a clip where the ledger says that it is archived, and copy it to this output if it is elsewhere.

        If it is no longer there, it is archived anew as long as the service has it.

        :param item: the item of the clip.
        :param entry: its entry, which says that it is archived.
        :returns: an archived or a lost clip.
        :raises WanError: if another attempt may succeed; likewise the errors of botocore.
        """
        try:
            return self._archive_clip(
                item, str(entry.request_id), lambda: get_result_again(self._api, entry), entry, entry.archive_uri
            )
        except LostClipError as error:
            return item.build_result(ItemStatus.LOST, request_id=entry.request_id, error=str(error))
        except WanResultGoneError as error:
            raise report_lost_clip(entry, error) from error

    def find_missing(self, results: Iterable[ItemResult]) -> set[int]:
        """Return the rows whose archived clip is certainly no longer where an earlier attempt left it.

        The clips are listed, not asked for one by one: there may be 100,000.

        :param results: results of an earlier attempt.
        """
        keys: dict[int, tuple[str, str | None]] = {}
        for result in results:
            if result.status is ItemStatus.ARCHIVED and result.archive_uri is not None:
                bucket, key = split_s3_uri(result.archive_uri)
                if bucket == self._bucket:
                    keys[result.row] = key, result.etag
        try:
            listed = self._archive.list_etags(self._bucket, self._prefix, {key for key, _ in keys.values()})
        except S3_ERRORS as error:
            log.warning("Whether the clips of earlier attempts are still there can't be found out: %s", error)
            return set()
        return {
            row for row, (key, etag) in keys.items() if key not in listed or (etag is not None and listed[key] != etag)
        }

    def _archive_clip(
        self,
        item: PreparedItem,
        request_id: str,
        fetch: Callable[[], RequestRecord],
        entry: LedgerEntry | None,
        source_uri: str | None = None,
    ) -> ItemResult:
        asked = AskedClip(float(item.item.request.duration), str(item.item.request.resolution), item.item.request.seed)
        try:
            clip = self._archive.archive(
                self._bucket,
                self.build_key(item),
                request_id,
                fetch,
                sources=(source_uri,),
                asked=asked if entry is None else build_asked_clip(entry),
                cost=lambda record: item.cost,
            )
        except MismatchedClipError as error:
            self._record(item, error.clip)
            return item.build_result(
                ItemStatus.LOST,
                request_id=request_id,
                cost=self._compute_cost(item),
                archive_uri=error.clip.uri,
                sha256=error.clip.sha256,
                error=str(error),
            )
        except (WanResultError, WanValidationError) as error:
            if error.retryable:
                raise
            message = f"{type(error).__name__}: {error}"
            return item.build_result(ItemStatus.LOST, request_id=request_id, error=message)
        self._record(item, clip)
        if clip.displaced:
            log.warning("%s: %s", item.item.label, clip.displaced)
        return item.build_result(
            ItemStatus.ARCHIVED,
            archive_uri=clip.uri,
            sha256=clip.sha256,
            etag=clip.etag,
            request_id=clip.request_id,
            cost=self._compute_cost(item),
            reused=not item.paid_here,
            note=clip.displaced,
        )

    def _record(self, item: PreparedItem, clip: ArchivedClip) -> None:
        self._ledger.record_archive(
            item.fingerprint, clip.request_id, clip.uri, clip.sha256, is_missing=self._archive.is_missing
        )

    @staticmethod
    def _compute_cost(item: PreparedItem) -> float | None:
        return item.cost if item.paid_here else 0.0
