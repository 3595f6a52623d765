# SPDX-License-Identifier: Apache-2.0
"""What a batch does next. Pure: it does no I/O, and the time is passed in.

An item is *ready*, then *in flight*, then ended; it returns to *ready*, or is *deferred* until a time, if it has to
wait. The loop of the worker and the deferral cycles use the same scheduler: a cycle ends when there is nothing to do
now.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from airflow_provider_wan.batch.throttle import ConcurrencyWindow, SubmitPacer

#: So many clips are archived together at the end of a batch: about two for each thread.
LAST_REQUESTS = 12


class HasRow(Protocol):
    """What the scheduler uses of an item."""

    @property
    def row(self) -> int:
        """Row number."""


ItemT = TypeVar("ItemT", bound=HasRow)


@dataclass(frozen=True)
class InFlightItem(Generic[ItemT]):
    """An item whose request the service has accepted.

    :param item: the item.
    :param request_id: the API's id.
    :param submitted_at: Unix seconds.
    """

    item: ItemT
    request_id: str
    submitted_at: float


@dataclass
class BatchScheduler(Generic[ItemT]):
    """The queue of one batch.

    :param window: limit of requests in flight.
    :param pacer: limit of submissions per second.
    :param lookahead: number of items that are prepared before they can be submitted.
    :param poll_interval: seconds between polls.
    :param next_poll_at: Unix seconds of the next poll.
    :param in_flight: items in flight, by row.
    :param stopped: whether nothing more is submitted.
    """

    window: ConcurrencyWindow
    pacer: SubmitPacer
    lookahead: int
    poll_interval: float
    next_poll_at: float = 0.0
    in_flight: dict[int, InFlightItem[ItemT]] = field(default_factory=dict)
    stopped: bool = False
    _ready: deque[ItemT] = field(default_factory=deque)
    _deferred: list[tuple[float, int, ItemT]] = field(default_factory=list)
    _in_doubt: set[int] = field(default_factory=set)

    # --- what to do ---------------------------------------------------------------------------
    def count_wanted(self, preparing: int, *, free_slots_only: bool) -> int:
        """Return how many more rows to read from the manifest.

        :param preparing: number of items that are being prepared.
        :param free_slots_only: read no more than can be submitted now, since a prepared item is discarded at the end
            of a deferral cycle.
        """
        if self.stopped:
            return 0
        waiting = preparing + len(self._ready) + len(self._deferred) - len(self._in_doubt)
        limit = self.window.size - self.occupied if free_slots_only else self.lookahead
        return max(0, limit - waiting)

    def next_item(self, now: float) -> ItemT | None:
        """Remove and return the item to submit now, or None.

        :param now: Unix seconds.
        """
        self.window = self.window.grow(now)
        if self.stopped or now < self._next_submit_at():
            return None
        if self._deferred and self._deferred[0][0] <= now:
            item = self._deferred[0][2]
            # An item in doubt occupies its slot already: its request may be running.
            if item.row in self._in_doubt or self.occupied < self.window.size:
                heapq.heappop(self._deferred)
                self._in_doubt.discard(item.row)
                return item
        if self._ready and self.occupied < self.window.size:
            return self._ready.popleft()
        return None

    def poll_due(self, now: float) -> bool:
        """Return whether to poll the items in flight.

        :param now: Unix seconds.
        """
        return bool(self.in_flight) and now >= self.next_poll_at

    def wake_at(self, *, include_polls: bool = True) -> float | None:
        """Return the Unix seconds of the next action; None if there is none without news from the service.

        :param include_polls: whether a poll is such an action.
        """
        times = [self.next_poll_at] if self.in_flight and include_polls else []
        if not self.stopped:
            full = self.occupied >= self.window.size
            if self._ready and not full:
                times.append(self._next_submit_at())
            if self._deferred and (not full or self._deferred[0][2].row in self._in_doubt):
                times.append(max(self._deferred[0][0], self._next_submit_at()))
        return min(times, default=None)

    @property
    def occupied(self) -> int:
        """Number of requests that are in flight, or may be."""
        return len(self.in_flight) + len(self._in_doubt)

    @property
    def waiting(self) -> int:
        """Number of items that are ready or deferred."""
        return len(self._ready) + len(self._deferred)

    @property
    def has_doubt(self) -> bool:
        """Whether an item in doubt waits for its second scan, which only this process can do."""
        return bool(self._in_doubt)

    def open_rows(self) -> list[int]:
        """Return the rows that are ready or deferred."""
        return sorted([item.row for item in self._ready] + [item.row for _, _, item in self._deferred])

    # --- what has happened --------------------------------------------------------------------
    def add_ready(self, item: ItemT) -> None:
        """Add an item that can be submitted.

        :param item: the item.
        """
        self._ready.append(item)

    def add_in_flight(self, item: ItemT, request_id: str, submitted_at: float) -> None:
        """Add an item whose request was accepted.

        :param item: the item.
        :param request_id: the API's id.
        :param submitted_at: Unix seconds.
        """
        self.in_flight[item.row] = InFlightItem(item, request_id, submitted_at)

    def record_submission(self, now: float) -> None:
        """Count a submission that was sent.

        :param now: Unix seconds.
        """
        self.pacer = self.pacer.record(now)

    def refuse(self, item: ItemT, now: float, delay: float, *, pause: float, is_limit: bool) -> None:
        """Return an item that the service refuses for now to the head of the queue, or defer it if others go first.

        :param item: the item.
        :param now: Unix seconds.
        :param delay: seconds until the item may be submitted again.
        :param pause: seconds until anything may be submitted again, at most the delay.
        :param is_limit: whether the refusal indicates a limit of the service, so that the window shrinks.
        """
        self.window = self.window.refuse(now, pause) if is_limit else self.window.pause(now, pause)
        if delay > pause:
            self.defer(item, now + delay)
        else:
            self._ready.appendleft(item)

    def defer(self, item: ItemT, due: float, *, in_doubt: bool = False) -> None:
        """Submit an item again at a later time.

        :param item: the item.
        :param due: Unix seconds.
        :param in_doubt: whether its request may be in flight, so that it keeps its slot.
        """
        heapq.heappush(self._deferred, (due, item.row, item))
        if in_doubt:
            self._in_doubt.add(item.row)

    def record_poll(self, now: float, retry_after: float | None = None) -> None:
        """Schedule the next poll.

        :param now: Unix seconds.
        :param retry_after: seconds that the service asked to wait.
        """
        self.next_poll_at = now + max(self.poll_interval, retry_after or 0.0)

    def pop_in_flight(self, row: int) -> InFlightItem[ItemT]:
        """Remove and return an item whose request is no longer in flight.

        :param row: row number.
        """
        return self.in_flight.pop(row)

    def stop(self) -> tuple[list[ItemT], list[ItemT]]:
        """Submit nothing more.

        :returns: the items that were not submitted, and those that may have been.
        """
        self.stopped = True
        deferred = [item for _, _, item in self._deferred]
        doubtful = [item for item in deferred if item.row in self._in_doubt]
        skipped = [*self._ready, *(item for item in deferred if item.row not in self._in_doubt)]
        self._ready.clear()
        self._deferred.clear()
        self._in_doubt.clear()
        return skipped, doubtful

    def restore(self, in_flight: Iterable[InFlightItem[ItemT]]) -> None:
        """Add items that were in flight in an earlier deferral cycle.

        :param in_flight: the items.
        """
        for each in in_flight:
            self.in_flight[each.item.row] = each

    def _next_submit_at(self) -> float:
        return max(self.pacer.next_at, self.window.pause_until)


def compute_wake_count(in_flight: int, *, is_last: bool) -> int:
    """Return how many requests must end before a deferral cycle is worth a worker.

    While there are rows to submit, a quarter of them, so that the service does not run out of requests. After that, a
    worker only archives: three quarters of them, and all of the last few.

    :param in_flight: number of requests in flight.
    :param is_last: whether there is nothing left to submit.
    """
    if not is_last:
        return max(1, in_flight // 4)
    return in_flight if in_flight <= LAST_REQUESTS else 3 * in_flight // 4
