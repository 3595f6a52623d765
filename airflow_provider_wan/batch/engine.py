# SPDX-License-Identifier: Apache-2.0
"""Executes the schedule of a batch: reads rows, prepares and submits items, polls, archives, saves checkpoints.

Threads prepare items, poll requests and archive clips. Everything that decides, and everything that may spend money,
runs in the caller's thread, one step at a time.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from airflow_provider_wan.api.errors import WanClipTimeoutError, WanError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.batch.rows import InvalidRow, Item
from airflow_provider_wan.batch.run import BatchRun, StatusApi
from airflow_provider_wan.batch.scheduler import BatchScheduler
from airflow_provider_wan.batch.submitter import (
    Accepted,
    AlreadyArchived,
    Deferred,
    Finished,
    ItemSubmission,
    NeedsPreparing,
    OverBudget,
    Refused,
    RetryItem,
    StopBatch,
)
from airflow_provider_wan.ledger import LedgerEntry, LedgerUnavailableError
from airflow_provider_wan.ledger.failures import FailureKind, classify_failure
from airflow_provider_wan.media.source import shorten_address
from airflow_provider_wan.polling.decision import StatusScan
from airflow_provider_wan.s3.errors import S3_ERRORS

log = logging.getLogger(__name__)

THREADS = 6
# Attempts at an item in one run, and the seconds between them, multiplied by the number of attempts.
MAX_ATTEMPTS = 3
RETRY_DELAY = 20.0
# While the ledger is unavailable, a row is attempted again at least this often.
MAX_LEDGER_PAUSE = 240.0
CHECKPOINT_INTERVAL = 15.0
PROGRESS_INTERVAL = 30.0
MAX_UNSAVED_RESULTS = 200
# A request that the API does not know is polled for this time before the ledger decides about it.
NOT_FOUND_GRACE = 60.0
# After so many consecutive refusals by the budget, no row with an existing clip is expected any more.
MAX_OVER_BUDGET = 100
_MAX_SLEEP = 5.0
# Hints of the service do not make a batch idle for longer than this: other items find out whether it is over.
MAX_PAUSE = 30.0
# After the timeout, the last poll and the clips that are being archived get this long.
LAST_POLL_SECONDS = 2.0
LAST_ARCHIVE_SECONDS = 2.0


@dataclass(frozen=True)
class EndOfCycle:
    """A deferral cycle has ended: there is nothing to do until a request ends.

    :param request_ids: requests in flight.
    :param wake_at: Unix seconds at which there is something to do in any case; None: never.
    :param is_last: whether there is nothing left to submit.
    """

    request_ids: tuple[str, ...]
    wake_at: float | None
    is_last: bool


class BatchEngine:
    """Runs one batch; a context manager.

    :param run: state of the batch.
    :param clock: returns Unix seconds.
    """

    def __init__(self, run: BatchRun, *, clock: Callable[[], float] = time.time) -> None:
        self._run = run
        self._context = run.context
        self._clock = clock
        self._scheduler: BatchScheduler[PreparedItem] = run.scheduler
        self._attempts = run.attempts
        self._preparing: deque[tuple[Item, Future[PreparedItem | InvalidRow]]] = deque()
        self._archiving: dict[int, tuple[PreparedItem, str, Future[ItemResult]]] = {}
        self._unknown_since: dict[int, float] = {}
        self._outages: dict[int, int] = {}
        self._over_budget = 0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="wan-batch")
        # A thread of its own: a service that is silent must not delay a submission, nor a submission a poll.
        self._poll_pool = ThreadPoolExecutor(1, thread_name_prefix="wan-batch-poll")
        self._polling: tuple[dict[str, int], Future[StatusScan]] | None = None
        self._failed_polls = 0
        self._checkpoint_at = clock() + CHECKPOINT_INTERVAL
        self._progress_at = clock() + PROGRESS_INTERVAL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        in_time = kind is None and self._clock() < self._run.end_time
        self._pool.shutdown(wait=in_time, cancel_futures=True)
        self._poll_pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, Exception):
            self._save(clean=False)

    def run(self, *, deferrable: bool) -> EndOfCycle | None:
        """Run until every row has a result; or, if deferrable, until there is nothing to do now.

        :param deferrable: whether the caller can defer to the trigger.
        :returns: what to wait for; None: the batch has ended.
        :raises WanError: if nothing can be done any more, and the requests in flight cannot be polled.
        """
        while True:
            now = self._clock()
            if now >= self._run.end_time:
                self._on_timeout()
            self._read_rows(deferrable)
            self._submit(now)
            self._start_poll_if_due()
            self._collect_polled()
            self._collect_archived()
            self._save_if_due(self._clock())
            if self._is_complete():
                self._save(clean=True)
                return None
            if deferrable and self._is_idle() and self._try_save(clean=True):
                self._log_progress()
                request_ids = tuple(each.request_id for each in self._scheduler.in_flight.values())
                wake_at = self._find_wake_time()
                return EndOfCycle(request_ids, wake_at, is_last=self._has_submitted_all())
            self._sleep()

    # --- steps of the loop --------------------------------------------------------------------
    def _read_rows(self, deferrable: bool) -> None:
        while self._preparing and self._preparing[0][1].done():
            item, future = self._preparing.popleft()
            prepared = self._get_prepared(item, future)
            if isinstance(prepared, PreparedItem):
                self._scheduler.add_ready(prepared)
            else:
                rejected = ItemStatus.REJECTED
                self._finish(ItemResult(item.row, prepared.image, rejected, error=prepared.reason, digest=item.digest))
        for _ in range(self._scheduler.count_wanted(len(self._preparing), free_slots_only=deferrable)):
            found = self._run.next_row()
            if found is None:
                return
            if isinstance(found, ItemResult):
                self._finish(found, transient=False)
            else:
                self._preparing.append((found, self._pool.submit(self._context.preparer.prepare, found)))

    @staticmethod
    def _get_prepared(item: Item, future: Future[PreparedItem | InvalidRow]) -> PreparedItem | InvalidRow:
        try:
            return future.result()
        except Exception as error:  # nothing about one row may stop the others; nothing is paid for this one
            log.exception("%s cannot be prepared", item.label)
            return InvalidRow(item.row, item.image.public_uri, f"row {item.row}: {type(error).__name__}")

    def _submit(self, now: float) -> None:
        run, submitter = self._run, self._context.submitter
        while (item := self._scheduler.next_item(now)) is not None:
            self._apply(
                submitter.submit(item, budget=run.budget, first_row=run.is_first_row(item), deadline=run.end_time)
            )
            now = self._clock()
            self._start_poll_if_due()
            if now >= run.end_time or self._has_finished_work():
                return

    def _has_finished_work(self) -> bool:
        return (self._polling is not None and self._polling[1].done()) or any(
            future.done() for _, _, future in self._archiving.values()
        )

    def _start_poll_if_due(self) -> None:
        if self._polling is None and self._scheduler.poll_due(self._clock()):
            self._start_poll()

    def _start_poll(self) -> None:
        row_by_request = {each.request_id: row for row, each in self._scheduler.in_flight.items()}
        max_polls = max(2, int(self._context.max_polls_per_second * self._scheduler.poll_interval))
        future = self._poll_pool.submit(
            poll_requests, self._context.api, self._context.model, list(row_by_request), max_polls=max_polls
        )
        self._polling = row_by_request, future

    def _collect_polled(self) -> None:
        if self._polling is None or not self._polling[1].done():
            return
        (row_by_request, future), self._polling = self._polling, None
        scan, now, in_flight = future.result(), self._clock(), self._scheduler.in_flight
        self._failed_polls = 0 if scan.error is None else self._failed_polls + 1
        # What is paid for is waited for until the deadline, whatever the polls say; only less often.
        delay = self._scheduler.poll_interval * 2 ** min(self._failed_polls, 6) if self._failed_polls > 1 else 0.0
        delay = max(delay, getattr(scan.error, "retry_after", None) or 0.0)
        self._scheduler.record_poll(now, min(delay, MAX_PAUSE))
        if scan.error is not None:
            log.log(
                logging.WARNING if self._failed_polls == 3 else logging.INFO,
                "Some requests could not be polled, and are polled again until the timeout: %s",
                scan.error,
            )
        for request_id, row in row_by_request.items():
            if row not in in_flight or in_flight[row].request_id != request_id:
                continue
            record = scan.records.get(request_id)
            if record is not None:
                self._unknown_since.pop(row, None)
            if record is not None and record.is_final:
                self._on_terminal(self._scheduler.pop_in_flight(row).item, record)
            elif request_id in scan.unknown:
                self._on_unknown(row, now)
            elif now - in_flight[row].submitted_at > self._context.item_timeout:
                status = record.status_text if record else "without a response"
                message = (
                    f"still {status} after {self._context.item_timeout:.0f} s; the next attempt waits for it again"
                )
                self._time_out(row, message)

    def _collect_archived(self) -> None:
        for row in [row for row, (_, _, future) in self._archiving.items() if future.done()]:
            item, request_id, future = self._archiving.pop(row)
            try:
                result = future.result()
            except Exception as error:  # nothing about one clip may stop the others, which are paid for too
                if not isinstance(error, (WanError, *S3_ERRORS)):
                    log.exception("%s: its clip cannot be archived", item.item.label)
                attempts = self._attempts.get(row, 0) + (not isinstance(error, LedgerUnavailableError))
                self._attempts[row] = attempts
                message = f"{type(error).__name__}: {error}"
                if attempts < MAX_ATTEMPTS:
                    log.warning("%s: its clip cannot be archived yet: %s", item.item.label, message)
                    self._scheduler.add_in_flight(item, request_id, self._clock())
                    continue
                result = item.build_result(ItemStatus.LOST, request_id=request_id, cost=item.cost, error=message)
                self._finish(result)
                continue
            self._reset_over_budget()
            self._finish(result)

    def _save_if_due(self, now: float) -> None:
        if now >= self._checkpoint_at or len(self._run.unsaved_results) >= MAX_UNSAVED_RESULTS:
            self._try_save(clean=False)
        if now >= self._progress_at:
            self._log_progress()

    def _try_save(self, *, clean: bool) -> bool:
        """Save, and return whether that was possible. What is not saved is asked of the ledger again."""
        try:
            self._save(clean=clean)
        except S3_ERRORS as error:
            log.warning("The checkpoint can't be written now, and is written later: %s", error)
            self._checkpoint_at = self._clock() + CHECKPOINT_INTERVAL
            return False
        return True

    def _save(self, *, clean: bool) -> None:
        self._run.save([*(item.row for item, _ in self._preparing), *self._archiving], clean=clean)
        self._checkpoint_at = self._clock() + CHECKPOINT_INTERVAL

    def _log_progress(self) -> None:
        self._progress_at = self._clock() + PROGRESS_INTERVAL
        log.info("%s", self._run.describe_progress(self._clock(), len(self._archiving)))

    def _is_complete(self) -> bool:
        if self._scheduler.in_flight or self._archiving or self._preparing:
            return False
        return self._has_submitted_all()

    def _has_submitted_all(self) -> bool:
        return self._scheduler.stopped or (self._scheduler.waiting == 0 and self._run.exhausted)

    def _is_idle(self) -> bool:
        """Return whether the worker has nothing to do for a while.

        The second scan of an item in doubt needs the process of the first one, and so does the last poll of a request
        that the API does not know.
        """
        if self._preparing or self._archiving or self._polling or self._scheduler.has_doubt or self._unknown_since:
            return False
        if not (self._scheduler.in_flight or self._scheduler.waiting):
            return False
        wake_at = self._find_wake_time()
        return wake_at is None or wake_at > self._clock() + 2 * _MAX_SLEEP

    def _find_wake_time(self) -> float | None:
        """Return when there is something to do without news from the service: to submit, or to give up a request."""
        times = [self._scheduler.wake_at(include_polls=False)]
        in_flight = self._scheduler.in_flight.values()
        times += [each.submitted_at + self._context.item_timeout + 1.0 for each in in_flight]
        return min((each for each in times if each is not None), default=None)

    def _sleep(self) -> None:
        futures: list[Future[Any]] = [future for _, _, future in self._archiving.values()]
        if self._preparing:
            futures.append(self._preparing[0][1])
        if self._polling is not None:
            futures.append(self._polling[1])
        now, end_time = self._clock(), self._run.end_time
        wake_at = self._scheduler.wake_at(include_polls=self._polling is None)
        # After the timeout, only what is being archived is waited for.
        end_time = end_time if now < end_time else end_time + LAST_ARCHIVE_SECONDS
        times = (wake_at, self._checkpoint_at, end_time, now + _MAX_SLEEP)
        until = min(moment for moment in times if moment is not None)
        if until <= now:
            return
        if futures:
            wait_for_futures(futures, timeout=until - now, return_when=FIRST_COMPLETED)
        else:
            self._context.sleep(until - now)

    # --- what came of a submission ------------------------------------------------------------
    def _apply(self, submission: ItemSubmission) -> None:
        item, now = submission.item, self._clock()
        if item.paid_here:
            self._run.claim_clip(item)
        if submission.found:
            self._reset_over_budget()
        match submission.outcome:
            case NeedsPreparing():
                self._preparing.appendleft((item.item, self._pool.submit(self._context.preparer.prepare, item.item)))
            case OverBudget():
                self._on_over_budget(item)
            case Accepted(request_id, record, submitted_at):
                if record is not None and record.is_final:
                    self._on_terminal(item, record)
                else:
                    # Each attempt waits for a request of an earlier one for as long again.
                    waits_since = max(submitted_at, now) if submission.found else submitted_at
                    self._scheduler.add_in_flight(item, request_id, waits_since)
            case AlreadyArchived(entry):
                self._reuse_archived(item, entry)
            case Finished(result, transient):
                self._finish(result, transient=transient)
            case Refused(delay, is_limit, error):
                pause = min(delay, MAX_PAUSE)
                self._scheduler.refuse(item, now, delay, pause=pause, is_limit=is_limit)
                if is_limit:
                    size = self._scheduler.window.size
                    log.warning("%s The window is %d, and the next submission is in %.0f s.", error, size, pause)
            case Deferred(delay, in_doubt):
                self._scheduler.defer(item, now + delay, in_doubt=in_doubt)
            case RetryItem(delay, error, ItemResult() as fallback):
                if not self._retry(item, delay, error):
                    self._finish(fallback)
            case RetryItem(delay, error, _):
                self._wait_for_ledger(item, delay, error)
            case StopBatch(error):
                self._skip_and_stop(item, error)
        if submission.sent:
            self._scheduler.record_submission(self._clock())

    def _retry(self, item: PreparedItem, delay: float, error: WanError) -> bool:
        """Defer an item after a transient error. Return False if it was attempted too often."""
        attempts = self._attempts[item.row] = self._attempts.get(item.row, 0) + 1
        if attempts >= MAX_ATTEMPTS:
            return False
        log.info("%s: %s; next attempt in %.0f s", item.item.label, error, delay * attempts)
        self._scheduler.defer(item, self._clock() + delay * attempts)
        return True

    def _wait_for_ledger(self, item: PreparedItem, delay: float, error: WanError) -> None:
        """Attempt an item again until the deadline, ever less often: an outage of the ledger is no fault of a row."""
        outages = self._outages[item.row] = self._outages.get(item.row, 0) + 1
        pause = min(delay * 2 ** min(outages - 1, 16), MAX_LEDGER_PAUSE)
        log.warning("%s: %s; next attempt in %.0f s", item.item.label, error, pause)
        self._scheduler.defer(item, self._clock() + pause)

    def _on_over_budget(self, item: PreparedItem) -> None:
        """Leave an item to an attempt with a larger budget."""
        self._run.skip(item.row)
        self._over_budget += 1
        if self._over_budget == 1:
            log.warning("%s: the budget does not allow it; rows with an existing clip continue", item.item.label)
        if self._over_budget >= MAX_OVER_BUDGET + 2 * self._scheduler.window.ceiling:
            self._run.exhausted = True

    def _reset_over_budget(self) -> None:
        """Expect more rows with an existing clip, since one was found."""
        self._over_budget = min(self._over_budget, 1)

    # --- what came of a request ---------------------------------------------------------------
    def _on_terminal(self, item: PreparedItem, record: RequestRecord) -> None:
        if record.status is RequestStatus.SUCCESS:
            future = self._pool.submit(self._context.archiver.archive, item, record)
            self._archiving[item.row] = (item, record.request_id, future)
            return
        try:
            entry = self._context.ledger.record_result(item.fingerprint, record)
        except LedgerUnavailableError as unavailable:
            log.warning("%s: how its request ended can't be recorded now: %s", item.item.label, unavailable)
            self._scheduler.add_in_flight(item, record.request_id, self._clock())
            return
        if entry is not None:
            self._run.budget.count_duplicates(entry)
            self._run.budget.release(entry)
        reason = record.error or record.status_text
        permanent = bool(entry and entry.outcome and entry.outcome.permanent)
        if classify_failure(record.error) is FailureKind.RATE_LIMIT:
            # Equivalent to a 429 that does not say when to retry.
            self._scheduler.window = self._scheduler.window.refuse(self._clock(), 0.0)
        error = WanError(f"request {record.request_id} ended as {record.status_text}: {reason}")
        if (
            not permanent
            and not self._scheduler.stopped
            and self._retry(replace(item, request=None), RETRY_DELAY, error)
        ):
            return
        failed = item.build_result(ItemStatus.FAILED, request_id=record.request_id, cost=0.0, error=reason)
        self._finish(failed, transient=not permanent)

    def _reuse_archived(self, item: PreparedItem, entry: LedgerEntry) -> None:
        future = self._pool.submit(self._context.archiver.reuse_archived, item, entry)
        self._archiving[item.row] = (item, str(entry.request_id), future)

    def _on_unknown(self, row: int, now: float) -> None:
        """Let the ledger decide about a request that the API does not know."""
        if now - self._unknown_since.setdefault(row, now) < NOT_FOUND_GRACE:
            return
        del self._unknown_since[row]
        if self._scheduler.stopped:
            self._time_out(
                row, f"unknown to the API for {NOT_FOUND_GRACE:.0f} s; the next attempt asks the ledger about it"
            )
        else:
            each = self._scheduler.pop_in_flight(row)
            self._run.await_clip(each)
            self._scheduler.defer(replace(each.item, request=None), now)

    def _time_out(self, row: int, message: str) -> None:
        """Leave a request in flight to the next attempt."""
        each = self._scheduler.pop_in_flight(row)
        cost = each.item.cost
        self._finish(each.item.build_result(ItemStatus.TIMEOUT, request_id=each.request_id, cost=cost, error=message))

    def _on_timeout(self) -> None:
        if self._run.stopped_by is None and self._scheduler.in_flight:
            if self._polling is None:
                self._start_poll()
            if self._polling is not None:
                wait_for_futures([self._polling[1]], timeout=LAST_POLL_SECONDS)
            self._collect_polled()
        open_rows = (*self._scheduler.open_rows(), *(item.row for item, _ in self._preparing))
        sought = [row for row in open_rows if self._run.get_awaited(row) is not None]
        self._stop(
            WanClipTimeoutError(
                f"the timeout expired with {len(self._scheduler.in_flight) + len(sought)} requests in flight and "
                f"{len(self._archiving)} clips being archived. A retry, or clearing this task, continues with them and "
                "pays nothing for them"
            )
        )
        for row in list(self._scheduler.in_flight):
            self._time_out(row, "still in flight when the timeout expired; the next attempt waits for it again")
        if self._clock() < self._run.end_time + LAST_ARCHIVE_SECONDS:
            return
        for row, (item, request_id, _) in list(self._archiving.items()):
            del self._archiving[row]
            message = "its clip was being archived when the timeout expired; the next attempt does the rest"
            self._finish(item.build_result(ItemStatus.TIMEOUT, request_id=request_id, cost=item.cost, error=message))

    # --- results ------------------------------------------------------------------------------
    def _finish(self, result: ItemResult, *, transient: bool = True) -> None:
        """Record the result of a row.

        :param transient: for a row without a clip: whether a retry of the task can produce one.
        """
        self._attempts.pop(result.row, None)
        self._outages.pop(result.row, None)
        self._unknown_since.pop(result.row, None)
        image = None if result.image is None else shorten_address(result.image)
        self._run.record_result(replace(result, ended_at=round(self._clock(), 1)), transient=transient)
        if result.status.is_final:
            where = result.archive_uri or result.error
            known = "at a price that is not known" if result.cost is None else f"${result.cost:.2f}"
            paid = "reused" if result.reused else known
            log.info("Row %d (%s) is %s: %s, %s", result.row, image, result.status.value, where, paid)
            return
        log.warning("Row %d (%s) is %s: %s", result.row, image, result.status.value, result.error)
        if self._context.fail_fast and self._run.stopped_by is None:
            message = f"row {result.row} is {result.status.value} ({result.error}), and on_item_failure is fail_fast"
            self._stop(WanBatchError(message, transient))

    def _leave(self, item: Item, fingerprint: str | None) -> None:
        """Leave a row to another attempt, with a result if it has a request already.

        :param item: the row.
        :param fingerprint: the clip that it asks for now; None: not known yet.
        """
        awaited = self._run.get_awaited(item.row)
        if (
            awaited is None
            or awaited.digest not in (None, item.digest)
            or fingerprint not in (None, awaited.fingerprint)
        ):
            self._run.skip(item.row)
            return
        self._finish(
            ItemResult(
                item.row,
                item.image.public_uri,
                ItemStatus.TIMEOUT,
                cost=awaited.cost,
                reused=not awaited.paid_here,
                request_id=awaited.request_id,
                fingerprint=awaited.fingerprint,
                error="its request was not found again before the batch stopped; the next attempt asks the ledger",
                digest=item.digest,
            )
        )

    def _skip_and_stop(self, item: PreparedItem, error: WanError) -> None:
        self._run.skip(item.row)
        self._stop(error)

    def _stop(self, error: WanError) -> None:
        """Submit nothing more, wait for the requests in flight, and end with this error."""
        if self._run.stopped_by is not None:
            return
        log.error("The batch submits nothing more: %s", error)
        self._run.stopped_by = error
        skipped, doubtful = self._scheduler.stop()
        for item in skipped:
            self._leave(item.item, item.fingerprint)
        for unprepared, future in self._preparing:
            future.cancel()
            self._leave(unprepared, None)
        self._preparing.clear()
        for item in doubtful:
            message = "its submission got no response, and then the batch stopped"
            self._finish(item.build_result(ItemStatus.IN_DOUBT, error=message))


def poll_requests(api: StatusApi, model: str, request_ids: Collection[str], *, max_polls: int) -> StatusScan:
    """Poll requests once. What the polls do not reach is left to the next time.

    :param api: client for polls.
    :param model: model id of the list.
    :param request_ids: ids of the requests, in the order of their priority.
    :param max_polls: maximum number of polls; at least one is sent.
    :returns: the finished scan.
    """
    scan = StatusScan(request_ids, max_polls=max_polls)
    while (poll := scan.next_poll()) is not None:
        try:
            if poll.request_id is None:
                scan.on_page(api.list_requests(model_id=model, limit=poll.limit, offset=poll.offset))
            else:
                scan.on_record(poll, api.get_request(poll.request_id))
        except WanError as error:
            scan.on_error(poll, error)
    return scan
