# SPDX-License-Identifier: Apache-2.0
"""State of one run of a batch: in this process, and through the checkpoint in the next one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import RequestPage, RequestRecord
from airflow_provider_wan.batch.archiver import Archiver
from airflow_provider_wan.batch.checkpoint import (
    BLOCK_ROWS,
    Checkpoint,
    CheckpointStore,
    InFlightRecord,
    StopReason,
)
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.manifest import Manifest
from airflow_provider_wan.batch.preparer import ItemPreparer, PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus, ResultCounts
from airflow_provider_wan.batch.row_index import DigestIndex, RowSet, hash_text
from airflow_provider_wan.batch.rows import InvalidRow, Item, build_name_fault, parse_row
from airflow_provider_wan.batch.scheduler import BatchScheduler, InFlightItem
from airflow_provider_wan.batch.submitter import ItemSubmitter
from airflow_provider_wan.batch.throttle import ConcurrencyWindow, SubmitPacer
from airflow_provider_wan.ledger import Budget, EntryState, Ledger, LedgerEntry, LedgerError, Owner

log = logging.getLogger(__name__)


class StatusApi(Protocol):
    """What is used of :class:`~airflow_provider_wan.api.client.WanClient` to poll."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Return one page of the list."""


@dataclass(frozen=True)
class BatchContext:
    """Parts and settings of a batch.

    :param manifest: the rows.
    :param rows: first and last row number of the batch; None: all rows.
    :param defaults: payload fields for rows that do not have them.
    :param arguments_id: hash of the arguments that decide which clip a row gets.
    :param api: client for polls.
    :param ledger: updates the ledger.
    :param submitter: submits items.
    :param preparer: prepares items.
    :param archiver: archives clips.
    :param store: stores the checkpoint and the results.
    :param owner: this process.
    :param model: model of rows that name none.
    :param budget: what all attempts together have spent, and may spend.
    :param max_in_flight: maximum number of requests in flight.
    :param submits_per_second: maximum number of submissions per second.
    :param poll_interval: seconds between polls.
    :param max_polls_per_second: maximum number of status requests per second.
    :param item_timeout: maximum number of seconds for which an attempt waits for one request.
    :param fail_fast: whether the first row without a clip stops the batch.
    :param sleep: waits the given seconds.
    """

    manifest: Manifest
    rows: tuple[int, int] | None
    defaults: Mapping[str, Any]
    arguments_id: str
    api: StatusApi
    ledger: Ledger
    submitter: ItemSubmitter
    preparer: ItemPreparer
    archiver: Archiver
    store: CheckpointStore
    owner: Owner
    model: str
    budget: Budget
    max_in_flight: int
    submits_per_second: float
    poll_interval: float
    max_polls_per_second: float
    item_timeout: float
    fail_fast: bool
    sleep: Callable[[float], None]


class BatchRun:
    """State of one run. Call :meth:`start` or :meth:`resume` first.

    :param context: parts and settings of the batch.
    :param now: Unix seconds.
    """

    def __init__(self, context: BatchContext, now: float) -> None:
        self.context = context
        self.budget = context.budget
        self.counts = ResultCounts()
        self.scheduler: BatchScheduler[PreparedItem] = BatchScheduler(
            ConcurrencyWindow.open(context.max_in_flight, now),
            SubmitPacer(context.submits_per_second),
            lookahead=max(8, min(64, round(2 * context.submits_per_second))),
            poll_interval=context.poll_interval,
        )
        self.end_time = now
        self.started_at = now
        self.stopped_by: WanError | None = None
        self.exhausted = False
        self.items = 0
        self.last_row = 0
        self.total_rows: int | None = None
        self.cycles = 0
        self.attempts: dict[int, int] = {}
        self.unclaimed: dict[str, InFlightRecord] = {}
        self._awaited: dict[int, InFlightRecord] = {}
        self._unmatched: dict[str, InFlightRecord] = {}
        self.unsaved_results: list[ItemResult] = []
        self._manifest_id = ""
        self._parts = 0
        self._skipped: set[int] = set()
        self._finished = RowSet()
        self._open: deque[Item | ItemResult] = deque()
        self._row_by_digest = DigestIndex()
        self._row_by_name = DigestIndex()
        self._row_by_fingerprint = DigestIndex()
        self._source: Iterator[Item | ItemResult] = iter(())

    # --- start and resume ---------------------------------------------------------------------
    def start(self, end_time: float) -> None:
        """Start an attempt. Final results of an earlier attempt are kept, and all other rows are processed again.

        :param end_time: Unix seconds at which the attempt ends.
        :raises CheckpointError: if the checkpoint of an earlier attempt cannot be read.
        :raises WanValidationError: if the manifest cannot be read.
        """
        self.end_time = end_time
        store, self._manifest_id = self.context.store, self.context.manifest.identity()
        checkpoint = store.read()
        if checkpoint is not None:
            self.started_at = checkpoint.started_at
            self.unclaimed = {each.fingerprint: each for each in checkpoint.unclaimed}
            self._unmatched = self._find_unmatched(checkpoint)
            self.budget.recover()
            log.info("Earlier attempts have spent $%.2f, according to the ledger", self.budget.spent)
        continues = checkpoint is not None and self._matches(checkpoint, self._manifest_id)
        if checkpoint is not None and continues:
            self._awaited = {each.row: each for each in (*checkpoint.awaited, *checkpoint.in_flight)}
        else:
            store.delete_stills()
        if checkpoint is None or checkpoint.done or not continues:
            store.delete_parts()
        else:
            self._parts = max(checkpoint.parts, store.find_last_part(self._manifest_id))
            finished = self._read_finished()
            while block := list(islice(finished, BLOCK_ROWS)):
                missing = self.context.archiver.find_missing(block)
                if missing:
                    log.warning(
                        "%d clips of earlier attempts are no longer in the bucket, or were replaced: their rows are "
                        "evaluated again, which pays nothing: %s",
                        len(missing),
                        ", ".join(map(str, sorted(missing)[:100])),
                    )
                for result in block:
                    if result.row in missing:
                        continue
                    self._finished.add(result.row)
                    self._awaited.pop(result.row, None)
                    if result.fingerprint is not None and not result.reused:
                        # Another row with the same clip reuses it, in this attempt too.
                        self._row_by_fingerprint.setdefault(result.fingerprint, result.row)
                    self.counts.add(result, transient=False)
                    self.items += 1
        self.total_rows = self._count_rows()
        self._source = self._read_rows()
        self.save((), clean=False)

    def _find_unmatched(self, checkpoint: Checkpoint) -> dict[str, InFlightRecord]:
        """Return requests that are in no checkpoint, since they were sent after the last one, or got no response.

        The budget has a reservation for each.
        """
        unmatched = {each.fingerprint: each for each in checkpoint.unmatched}
        known = (*checkpoint.unclaimed, *checkpoint.awaited, *checkpoint.in_flight, *checkpoint.unmatched)
        self.budget.load()
        for fingerprint in set(self.budget.open_clips) - {each.fingerprint for each in known}:
            entry = self._read_entry(fingerprint)
            is_open = entry is not None and entry.state in (EntryState.SUBMITTED, EntryState.SUCCEEDED)
            if entry is None or not (is_open or entry.may_have_been_sent):
                continue
            sent_at = entry.submitted_at or entry.intent_at or 0.0
            record = InFlightRecord(0, entry.request_id or "", fingerprint, sent_at, entry.cost_estimate, True)
            unmatched[fingerprint] = record
        return unmatched

    def _read_entry(self, fingerprint: str) -> LedgerEntry | None:
        try:
            stored = self.context.ledger.store.read(fingerprint)
        except LedgerError as error:
            log.warning("What the ledger says about clip %s can't be read: %s", fingerprint, error)
            return None
        return None if stored is None else stored.entry

    def _read_finished(self) -> Iterator[ItemResult]:
        """Yield the final results of earlier attempts."""
        read = RowSet()
        for result in self.context.store.read_parts(self._manifest_id, newest_first=True):
            if result.row not in read:
                read.add(result.row)
                if result.status.is_final:
                    yield result

    def resume(self) -> bool:
        """Continue after a deferral cycle.

        :returns: whether that is possible; if not, call :meth:`start`.
        :raises CheckpointError: if the checkpoint cannot be read.
        """
        checkpoint = self.context.store.read()
        manifest_id = self.context.manifest.identity()
        if checkpoint is None or checkpoint.done or not self._matches(checkpoint, manifest_id):
            return False
        self._manifest_id = manifest_id
        self.end_time, self.started_at = checkpoint.end_time, checkpoint.started_at
        self._parts, self.last_row, self.items = checkpoint.parts, checkpoint.last_row, checkpoint.items
        self.total_rows, self.cycles = checkpoint.total_rows, checkpoint.cycles + 1
        self.exhausted, self._skipped = checkpoint.exhausted, set(checkpoint.skipped_rows)
        for low, high in checkpoint.finished_ranges:
            for row in range(low, high + 1):
                self._finished.add(row)
        if checkpoint.stop_reason is not None:
            self.stopped_by = WanBatchError(checkpoint.stop_reason.message, checkpoint.stop_reason.can_progress)
            self.scheduler.stopped = True
        self.attempts = dict(checkpoint.attempts)
        self.unclaimed = {each.fingerprint: each for each in checkpoint.unclaimed}
        self._awaited = {each.row: each for each in checkpoint.awaited}
        self._unmatched = {each.fingerprint: each for each in checkpoint.unmatched}
        if checkpoint.window is not None:
            self.scheduler.window = checkpoint.window.with_ceiling(self.context.max_in_flight)
        self.counts = checkpoint.counts
        if checkpoint.clean:
            self.budget.load()
        else:
            self.budget.recover()
        self._reopen(checkpoint)
        self.save([each.row for each in self._open if isinstance(each, Item)], clean=False)
        return True

    def _matches(self, checkpoint: Checkpoint, manifest_id: str) -> bool:
        """Return whether a checkpoint's results are those of this manifest and of these arguments.

        If not, every row is evaluated anew: the ledger knows the clips that exist, and which of them are still asked
        for is decided by their fingerprints.
        """
        if (checkpoint.manifest_id, checkpoint.arguments_id) == (manifest_id, self.context.arguments_id):
            return True
        what = "manifest" if checkpoint.manifest_id != manifest_id else "arguments"
        log.warning("The %s changed since the checkpoint was written: every row is evaluated again", what)
        left = (*checkpoint.unclaimed, *checkpoint.awaited, *checkpoint.in_flight)
        self.unclaimed |= {each.fingerprint: each for each in left}
        return False

    def _reopen(self, checkpoint: Checkpoint) -> None:
        """Read the manifest up to the checkpoint's position, and take out the rows that are open or in flight.

        A row in flight that reads differently now (the manifest is just being replaced, or another version of the
        provider reads it) does not get the clip of its request: it is evaluated again.
        """
        self._source = self._read_rows()
        in_flight = {each.row: each for each in checkpoint.in_flight}
        open_rows = set(checkpoint.open_rows)
        for found in self._source:
            if found.row > checkpoint.last_row:
                self._open.append(found)
                break
            each = in_flight.pop(found.row, None)
            if each is not None and isinstance(found, Item) and each.digest in (None, found.digest):
                item = PreparedItem(found, each.fingerprint, cost=each.cost, paid_here=each.paid_here)
                self._row_by_fingerprint.setdefault(each.fingerprint, found.row)
                self.scheduler.restore([InFlightItem(item, each.request_id, each.submitted_at)])
            elif each is not None:
                self._awaited[found.row] = each
                self._open.append(found)
            elif found.row in open_rows:
                self._open.append(found)
        self.unclaimed |= {each.fingerprint: each for each in in_flight.values()}

    # --- rows ---------------------------------------------------------------------------------
    def next_row(self) -> Item | ItemResult | None:
        """Return the next row: an item, or the result of a row that cannot be one; None if there are no more."""
        if self._open:
            found = self._open.popleft()
        else:
            if self.exhausted:
                return None
            read = next(self._source, None)
            if read is None:
                self.exhausted = True
                self.total_rows = self.items
                return None
            found = read
        if found.row > self.last_row:
            self.last_row = found.row
            self.items += 1
        return found

    def _read_rows(self) -> Iterator[Item | ItemResult]:
        first, last = self.context.rows or (1, None)
        for raw in self.context.manifest.rows():
            if last is not None and raw.number > last:
                return
            if raw.number < first:
                continue
            found = self._check_duplicate(parse_row(raw, self.context.defaults))
            if raw.number not in self._finished:
                yield found

    def _check_duplicate(self, item: Item | InvalidRow) -> Item | ItemResult:
        if isinstance(item, InvalidRow):
            return ItemResult(item.row, item.image, ItemStatus.REJECTED, error=item.reason)
        image = item.image.public_uri
        first = self._row_by_digest.setdefault(item.digest, item.row)
        if first != item.row:
            error = f"row {item.row} requests the same clip as row {first}"
            return ItemResult(item.row, image, ItemStatus.DUPLICATE, error=error, digest=item.digest)
        other = item.row if item.name is None else self._row_by_name.setdefault(hash_text(item.name), item.row)
        if other != item.row:
            error = f"row {item.row}: {build_name_fault(str(item.name), other)}"
            return ItemResult(item.row, image, ItemStatus.REJECTED, error=error, digest=item.digest)
        return item

    def _count_rows(self) -> int:
        """Count the rows, to estimate the remaining time. It costs one reading."""
        first, last = self.context.rows or (1, None)
        if last is not None:
            return last - first + 1
        return sum(1 for _ in self.context.manifest.rows())

    def is_first_row(self, item: PreparedItem) -> bool:
        """Return whether no other row has claimed the item's clip as its own.

        :param item: the item.
        """
        return self._row_by_fingerprint.get(item.fingerprint) in (None, item.row)

    def claim_clip(self, item: PreparedItem) -> None:
        """Count a clip as that of its row: other rows with the same clip reuse it.

        :param item: the item, for which :meth:`is_first_row` is true.
        """
        self._row_by_fingerprint.setdefault(item.fingerprint, item.row)

    # --- results ------------------------------------------------------------------------------
    def record_result(self, result: ItemResult, *, transient: bool) -> None:
        """Record the result of a row.

        :param result: the result.
        :param transient: for a row without a clip: whether a retry can produce one.
        """
        self.counts.add(result, transient=transient)
        self.unsaved_results.append(result)
        self._update_awaited(result)
        if result.fingerprint is None:
            return
        self._unmatched.pop(result.fingerprint, None)
        if result.status is not ItemStatus.REJECTED:
            # A row asks for this clip again, so it is in the results.
            self.unclaimed.pop(result.fingerprint, None)
        if result.status in (ItemStatus.ARCHIVED, ItemStatus.LOST):
            self.budget.commit(result.fingerprint)

    def await_clip(self, each: InFlightItem[PreparedItem]) -> None:
        """Keep a request in mind while its row is prepared again, which may fail.

        :param each: the item, which is no longer in flight.
        """
        self._awaited[each.item.row] = _build_record(each)

    def get_awaited(self, row: int) -> InFlightRecord | None:
        """Return the request that a row has, whose clip is not archived and which is not in flight.

        :param row: row number.
        """
        return self._awaited.get(row)

    def _update_awaited(self, result: ItemResult) -> None:
        """Keep a request in mind that has a price and no archived clip, until its row has one or asks for another."""
        earlier = self._awaited.pop(result.row, None)
        fingerprint, request_id = result.fingerprint, result.request_id
        if earlier is not None and earlier.fingerprint != fingerprint:
            # Its image changed, or can no longer be read.
            self.unclaimed[earlier.fingerprint] = earlier
            earlier = None
        if result.archive_uri is not None or result.status in (ItemStatus.ARCHIVED, ItemStatus.FAILED):
            return
        if fingerprint is not None and request_id is not None:
            ended_at = result.ended_at or 0.0
            paid_here = not result.reused
            earlier = InFlightRecord(
                result.row, request_id, fingerprint, ended_at, result.cost, paid_here, result.digest
            )
        if earlier is not None:
            self._awaited[result.row] = earlier

    def find_unclaimed(self) -> None:
        """Find out at the end for which requests no row asks any more, by the present word of the ledger.

        Requests that are not charged, or whose clips another row or task has archived, are left out.
        """
        if self.stopped_by is None and not self.skipped:
            self.unclaimed = {**self._unmatched, **self.unclaimed}
        for fingerprint, record in list(self.unclaimed.items()):
            entry = self._read_entry(fingerprint)
            if entry is None:
                continue
            is_over = entry.state in (EntryState.ARCHIVED, EntryState.FAILED, EntryState.CANCELLED)
            if is_over or not (entry.request_id or entry.may_have_been_sent):
                del self.unclaimed[fingerprint]
            elif entry.request_id and entry.request_id != record.request_id:
                self.unclaimed[fingerprint] = replace(record, request_id=entry.request_id)

    def skip(self, row: int) -> None:
        """Leave a row to another attempt.

        :param row: row number.
        """
        self._skipped.add(row)

    @property
    def skipped(self) -> int:
        """Number of rows that were not started."""
        unread = 0 if self.total_rows is None else max(0, self.total_rows - self.items)
        return len(self._skipped) + unread

    def save(self, busy_rows: Iterable[int], *, clean: bool, done: bool = False) -> None:
        """Write the new results, and then the checkpoint.

        :param busy_rows: rows that are being prepared or archived.
        :param clean: whether nothing is submitted before the next checkpoint.
        :param done: whether the batch has ended with success.
        """
        store = self.context.store
        try:
            self.budget.flush()
        except LedgerError as error:
            log.warning("What was spent is written later: %s", error)
        if self.unsaved_results:
            self._parts += 1
            store.write_part(self._manifest_id, self._parts, self.unsaved_results)
            self.unsaved_results = []
        in_flight = tuple(_build_record(each) for each in self.scheduler.in_flight.values())
        waiting = (each.row for each in self._open)
        open_rows = {*busy_rows, *self.scheduler.open_rows(), *(row for row in waiting if row <= self.last_row)}
        stopped_by = self.stopped_by
        store.write(
            Checkpoint(
                manifest_id=self._manifest_id,
                arguments_id=self.context.arguments_id,
                started_at=self.started_at,
                end_time=self.end_time,
                last_row=self.last_row,
                items=self.items,
                open_rows=tuple(sorted(open_rows)),
                in_flight=in_flight,
                skipped_rows=tuple(sorted(self._skipped)),
                finished_ranges=merge_ranges(self._finished.rows_after(self.last_row)),
                stop_reason=None if stopped_by is None else StopReason(str(stopped_by), stopped_by.retryable),
                exhausted=self.exhausted,
                window=self.scheduler.window,
                counts=self.counts,
                parts=self._parts,
                clean=clean,
                done=done,
                total_rows=self.total_rows,
                cycles=self.cycles,
                attempts=dict(self.attempts),
                unclaimed=tuple(self.unclaimed.values()),
                awaited=tuple(self._awaited.values()),
                unmatched=tuple(self._unmatched.values()),
                spent=self.budget.spent,
                max_cost=self.budget.limit,
            )
        )

    def write_results(self) -> None:
        """Write ``results.jsonl`` and ``rejected.jsonl``."""
        self.context.store.merge_parts(self._manifest_id, max(self.last_row, self._finished.last))

    def read_results(
        self, last_row: int, on_result: Callable[[ItemResult], None] = lambda result: None
    ) -> list[ItemResult]:
        """Return the saved results of the first rows, in order.

        :param last_row: number of the last row to return.
        :param on_result: called with each saved result, of all rows; earlier results of a row come first.
        """
        results: dict[int, ItemResult] = {}
        for result in self.context.store.read_parts(self._manifest_id):
            on_result(result)
            if result.row <= last_row:
                results[result.row] = result
        return [results[row] for row in sorted(results)]

    def read_prompts(self, last_row: int) -> dict[int, str]:
        """Return the prompts of the first rows, which no result holds. It costs one reading of these rows.

        :param last_row: number of the last row to return.
        """
        prompts: dict[int, str] = {}
        for raw in self.context.manifest.rows():
            if raw.number > last_row:
                break
            item = parse_row(raw, self.context.defaults)
            if isinstance(item, Item):
                prompts[item.row] = item.request.prompt
        return prompts

    def describe_progress(self, now: float, archiving: int) -> str:
        """Return the progress in one line.

        :param now: Unix seconds.
        :param archiving: number of clips that are being archived.
        """
        done, total = self.counts.total, self.total_rows
        elapsed = max(1.0, now - self.started_at)
        remaining = "unknown" if not done or total is None else f"{(total - done) * elapsed / done / 60:.0f} min"
        return (
            f"{done} of {total if total is not None else '?'} rows done ({self.counts.archived} archived, "
            f"{self.counts.without_clip} without a clip), {len(self.scheduler.in_flight)} in flight, {archiving} being "
            f"archived, {self.scheduler.waiting} ready, window {self.scheduler.window.size}; "
            f"{60.0 * done / elapsed:.1f} per minute, ${self.budget.spent:.2f} spent, time remaining {remaining}"
        )


def _build_record(each: InFlightItem[PreparedItem]) -> InFlightRecord:
    item = each.item
    return InFlightRecord(
        item.row,
        each.request_id,
        item.fingerprint,
        each.submitted_at,
        item.cost,
        item.paid_here,
        item.item.digest,
    )


def merge_ranges(rows: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Merge consecutive rows into ranges.

    :param rows: row numbers.
    :returns: pairs of the first and the last row number.
    """
    ranges: list[tuple[int, int]] = []
    for row in sorted(rows):
        if ranges and ranges[-1][1] == row - 1:
            ranges[-1] = (ranges[-1][0], row)
        else:
            ranges.append((row, row))
    return tuple(ranges)
