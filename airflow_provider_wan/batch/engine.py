# SPDX-License-Identifier: Apache-2.0
"""
Carries the plan out: reads the manifest, makes items ready, submits, looks, archives, and notes how far it is.

Images are read and clips archived by threads. Everything that decides, and everything that may spend, happens in the
caller's thread, one thing at a time.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_wan.api.errors import WanClipTimeoutError, WanError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.item import BadRow, Item
from airflow_provider_wan.batch.keep import row_of
from airflow_provider_wan.batch.looks import look
from airflow_provider_wan.batch.paying import Paying
from airflow_provider_wan.batch.plan import Plan
from airflow_provider_wan.batch.prepare import Clip
from airflow_provider_wan.batch.results import Row, Status
from airflow_provider_wan.batch.state import State
from airflow_provider_wan.ledger import LedgerEntry
from airflow_provider_wan.ledger.failures import Nature, nature_of

log = logging.getLogger(__name__)

THREADS = 6
# A failure that passes is tried again so often in one run, after so many seconds times the tries.
ITEM_TRIES = 3
RETRY_SECONDS = 20.0
CHECKPOINT_SECONDS = 15.0
REPORT_SECONDS = 30.0
# A clip that the API does not know is looked for so long before the ledger is asked what to make of it.
UNKNOWN_SECONDS = 60.0
# So many refusals for want of budget in a row, and no row that was paid for earlier is left to be found.
BUDGET_PATIENCE = 100
_LONGEST_SLEEP = 5.0


@dataclass(frozen=True)
class Waiting:
    """
    A wave has ended: there is nothing to do until something happens at the service.

    :param request_ids: what is under way.
    :param wake_at: Unix seconds at which there is something to do in any case; None: never.
    """

    request_ids: tuple[str, ...]
    wake_at: float | None


class Engine:
    """
    Runs one batch; a context manager.

    :param state: the batch.
    :param clock: gives Unix seconds.
    """

    def __init__(self, state: State, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._setup = state.setup
        self._clock = clock
        self._plan: Plan[Clip] = state.plan
        self._paying = Paying(state, self, clock)
        self._preparing: deque[tuple[Item, Future[Clip | BadRow]]] = deque()
        self._keeping: dict[int, tuple[Clip, str, Future[Row]]] = {}
        self._tries = state.tries
        self._unknown: dict[int, float] = {}
        self._unpaid = 0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="wan-batch")
        self._checkpoint_at = clock() + CHECKPOINT_SECONDS
        self._report_at = clock() + REPORT_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if isinstance(error, Exception):
            self._save(clean=False)

    def run(self, *, waves: bool) -> Waiting | None:
        """
        Go on until all is settled; in waves, until there is nothing to do now.

        :return: what is waited for; None: the batch has come to its end.
        :raises WanError: nothing can be done any more, and what is under way can't be looked at.
        """
        while True:
            now = self._clock()
            if now >= self._state.end_time:
                self._out_of_time()
            self._take_in(waves)
            self._submit(now)
            if self._plan.look_due(self._clock()):
                self._look()
            self._collect()
            self._note(self._clock())
            if self._over():
                self._save(clean=True)
                return None
            if waves and self._idle():
                self._save(clean=True)
                self._report()
                running = tuple(each.request_id for each in self._plan.running.values())
                return Waiting(running, self._plan.wake_at(looks=False))
            self._sleep()

    # --- what the parts tell ------------------------------------------------------------------
    def settle(self, row: Row, *, passing: bool = True) -> None:
        """
        A row has become something.

        :param passing: for one without a clip: whether another try may do.
        """
        self._tries.pop(row.row, None)
        self._unknown.pop(row.row, None)
        self._state.settle(row, passing=passing)
        if row.status.final:
            return
        log.warning("Row %d (%s) is %s: %s", row.row, row.image, row.status.value, row.error)
        if self._setup.fail_fast and self._state.stopped_by is None:
            self.stop(
                WanBatchError(f"row {row.row} is {row.status.value} ({row.error}), and it is to fail fast", passing)
            )

    def again(self, clip: Clip, wait: float, error: WanError) -> bool:
        """Put a clip off after an error that passes. :return: False where it was tried often enough."""
        tries = self._tries[clip.row] = self._tries.get(clip.row, 0) + 1
        if tries >= ITEM_TRIES:
            return False
        log.info("Row %d: %s; again in %.0f s", clip.row, error, wait * tries)
        self._plan.put_off(clip, self._clock() + wait * tries)
        return True

    def prepare_again(self, clip: Clip) -> None:
        """Make a clip ready once more: its URL has died, or was never made in this process."""
        self._preparing.appendleft((clip.item, self._pool.submit(self._setup.preparer.prepare, clip.item)))

    def unpaid(self, clip: Clip) -> None:
        """The budget does not allow a clip: it stays open for a run with more."""
        self._state.left(clip.row)
        self._unpaid += 1
        if self._unpaid == 1:
            log.warning("Row %d: the budget does not allow it; what costs nothing goes on.", clip.row)
        if self._unpaid >= BUDGET_PATIENCE + 2 * self._plan.window.ceiling:
            self._state.exhausted = True

    def funded(self) -> None:
        """A clip was had, whoever paid for it."""
        self._unpaid = min(self._unpaid, 1)

    def stop(self, error: WanError) -> None:
        """Submit nothing more, let what is under way come to its end, and end with this error."""
        if self._state.stopped_by is not None:
            return
        log.error("The batch submits nothing more: %s", error)
        self._state.stopped_by = error
        left, doubtful = self._plan.stop()
        for clip in left:
            self._state.left(clip.row)
        for item, future in self._preparing:
            future.cancel()
            self._state.left(item.row)
        self._preparing.clear()
        for clip in doubtful:
            self.settle(row_of(clip, Status.IN_DOUBT, error="its submission got no answer, and then the batch stopped"))

    def ended(self, clip: Clip, record: RequestRecord) -> None:
        """A request has come to its end."""
        if record.status is RequestStatus.SUCCESS:
            future = self._pool.submit(self._setup.keeper.keep, clip, record)
            self._keeping[clip.row] = (clip, record.request_id, future)
            return
        entry = self._setup.submission.finish(clip.fingerprint, record)
        self._state.budget.refund(clip.fingerprint)
        reason = record.error or record.status_text
        permanent = bool(entry and entry.outcome and entry.outcome.permanent)
        if nature_of(record.error) is Nature.PASSING and "rate" in reason.lower():
            # A 429 in another dress; one that does not say when it is over.
            self._plan.window = self._plan.window.refused(self._clock(), 0.0)
        error = WanError(f"request {record.request_id} ended as {record.status_text}: {reason}")
        if not permanent and not self._plan.stopped and self.again(replace(clip, request=None), RETRY_SECONDS, error):
            return
        self.settle(
            row_of(clip, Status.FAILED, request_id=record.request_id, cost=0.0, error=reason), passing=not permanent
        )

    def archived_before(self, clip: Clip, entry: LedgerEntry) -> None:
        """The ledger says that a clip is archived."""
        future = self._pool.submit(self._setup.keeper.kept_before, clip, entry)
        self._keeping[clip.row] = (clip, str(entry.request_id), future)

    # --- the parts of a turn ------------------------------------------------------------------
    def _take_in(self, waves: bool) -> None:
        while self._preparing and self._preparing[0][1].done():
            item, future = self._preparing.popleft()
            done = future.result()
            if isinstance(done, Clip):
                self._plan.ready(done)
            else:
                self.settle(Row(item.row, done.image, Status.REJECTED, error=done.reason, digest=item.digest))
        for _ in range(self._plan.wanted(len(self._preparing), only_room=waves)):
            found = self._state.next_item()
            if found is None:
                return
            if isinstance(found, Row):
                self.settle(found, passing=False)
            else:
                self._preparing.append((found, self._pool.submit(self._setup.preparer.prepare, found)))

    def _submit(self, now: float) -> None:
        while (clip := self._plan.next_clip(now)) is not None:
            self._paying.submit(clip)
            now = self._clock()
            if self._plan.look_due(now):
                return

    def _look(self) -> None:
        running = self._plan.running
        wanted = {each.request_id: row for row, each in running.items()}
        most = max(2, int(self._setup.looks_per_second * self._plan.poll_interval))
        told = look(self._setup.api, self._setup.model, list(wanted), most_calls=most)
        now = self._clock()
        self._plan.looked(now, getattr(told.error, "retry_after", None))
        if told.error is not None:
            log.info("Not all could be looked at: %s", told.error)
        for request_id, row in wanted.items():
            record = told.records.get(request_id)
            if record is not None:
                self._unknown.pop(row, None)
            if record is not None and record.status.is_terminal:
                self.ended(self._plan.ended(row).clip, record)
            elif request_id in told.unknown:
                self._not_known(row, now)
            elif now - running[row].since > self._setup.item_timeout:
                clip = self._plan.ended(row).clip
                status = record.status_text if record else "unanswered"
                error = f"still {status} after {self._setup.item_timeout:.0f} s; the next try looks for it"
                self.settle(row_of(clip, Status.TIMEOUT, request_id=request_id, cost=clip.cost, error=error))

    def _not_known(self, row: int, now: float) -> None:
        """The ledger decides what becomes of a request that the API does not know."""
        if now - self._unknown.setdefault(row, now) < UNKNOWN_SECONDS:
            return
        del self._unknown[row]
        lost = self._plan.ended(row)
        if self._plan.stopped:
            error = f"the API has not known it for {UNKNOWN_SECONDS:.0f} s; the next try asks the ledger what it is"
            self.settle(row_of(lost.clip, Status.TIMEOUT, request_id=lost.request_id, cost=lost.clip.cost, error=error))
        else:
            self._plan.put_off(replace(lost.clip, request=None), now)

    def _collect(self) -> None:
        for row in [row for row, (_, _, future) in self._keeping.items() if future.done()]:
            clip, request_id, future = self._keeping.pop(row)
            try:
                kept = future.result()
            except (WanError, BotoCoreError, ClientError) as error:
                tries = self._tries[row] = self._tries.get(row, 0) + 1
                told = f"{type(error).__name__}: {error}"
                if tries < ITEM_TRIES:
                    log.warning("Row %d: its clip can't be archived yet: %s", row, told)
                    self._plan.submitted(clip, request_id, self._clock())
                    continue
                self.settle(row_of(clip, Status.LOST, request_id=request_id, cost=clip.cost, error=told))
                continue
            self.funded()
            self.settle(kept)

    def _note(self, now: float) -> None:
        if now >= self._checkpoint_at or len(self._state.unsaved) >= 200:
            self._save(clean=False)
        if now >= self._report_at:
            self._report()

    def _save(self, *, clean: bool) -> None:
        self._state.save([*(item.row for item, _ in self._preparing), *self._keeping], clean=clean)
        self._checkpoint_at = self._clock() + CHECKPOINT_SECONDS

    def _report(self) -> None:
        self._report_at = self._clock() + REPORT_SECONDS
        log.info("%s", self._state.progress(self._clock(), len(self._keeping)))

    def _over(self) -> bool:
        if self._plan.running or self._keeping or self._preparing:
            return False
        return self._plan.stopped or (self._plan.waiting == 0 and self._state.exhausted)

    def _idle(self) -> bool:
        """
        Whether a worker is of no use now. The second look of a doubt is taken by the process of the first, and so is
        the last one at a request that the API does not know.
        """
        if self._preparing or self._keeping or self._plan.in_doubt or self._unknown:
            return False
        if not (self._plan.running or self._plan.waiting):
            return False
        wake_at = self._plan.wake_at(looks=False)
        return wake_at is None or wake_at > self._clock() + 2 * _LONGEST_SLEEP

    def _out_of_time(self) -> None:
        if self._plan.running:
            self._look()
        self.stop(
            WanClipTimeoutError(
                f"the time is over with {len(self._plan.running)} clips under way. They are left to go on: a retry, or "
                "clearing this task, picks them up where they stand and pays nothing for them"
            )
        )
        for row in list(self._plan.running):
            each = self._plan.ended(row)
            error = "still under way when the time was over; the next try looks for it"
            self.settle(row_of(each.clip, Status.TIMEOUT, request_id=each.request_id, cost=each.clip.cost, error=error))

    def _sleep(self) -> None:
        futures: list[Future[Any]] = [future for _, _, future in self._keeping.values()]
        if self._preparing:
            futures.append(self._preparing[0][1])
        now = self._clock()
        until = min(
            moment
            for moment in (self._plan.wake_at(), self._checkpoint_at, self._state.end_time, now + _LONGEST_SLEEP)
            if moment is not None
        )
        if until <= now:
            return
        if futures:
            wait_for(futures, timeout=until - now, return_when=FIRST_COMPLETED)
        else:
            self._setup.sleep(until - now)
