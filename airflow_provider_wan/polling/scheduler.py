# SPDX-License-Identifier: Apache-2.0
"""What to poll next, and how: pure decisions over all requests of one connection, with the time passed in.

A poll is sent when the requests that have ended unobserved have, by what is known of their kind, waited for half a
poll interval on average: for one request by its id, or for a page of the list where that shows several at once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.api.stepwise import run_to_end
from airflow_provider_wan.polling.decision import PAGE_SIZE, Poll, prefer_page
from airflow_provider_wan.polling.list_index import ListIndex
from airflow_provider_wan.polling.runtime_stats import RuntimeStats
from airflow_provider_wan.polling.throttle import ListAvailability
from airflow_provider_wan.polling.tracked_request import (
    DEFAULT_COMPLETION_RATE,
    MAX_ERROR_GAP,
    TrackedRequest,
    plausible_time,
)

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError
    from airflow_provider_wan.api.record import RequestPage, RequestRecord
    from airflow_provider_wan.polling.decision import PollTarget


# Page size to try where several pages are needed.
MAX_PAGE_SIZE = 1000
# How much sooner, and later, than on average a poll is due where many, and few, requests end.
MIN_LAG_SHARE = 0.82
MAX_LAG_SHARE = 1.35
# Seconds between selections while some request may end at any moment.
TICK_SECONDS = 1.0
# Requests that are examined in one step of the event loop.
REQUESTS_PER_STEP = 500
# A request that is not in the list is polled by its id for this long.
UNLISTED_SECONDS = 300.0
MAX_UNLISTED_SECONDS = 3600.0
_MAX_FRUITLESS_PAGES = 3


@dataclass(slots=True)
class _Candidate:
    """A poll that may be sent, with the requests that it would show."""

    requests: list[TrackedRequest]
    highest_rank: float = 0.0
    completed: float = 0.0
    lag: float = 0.0
    urgency: float = 0.0
    must_poll: bool = False

    def add(self, request: TrackedRequest, completed: float, lag: float, gap: float, must_poll: bool) -> None:
        self.requests.append(request)
        self.completed += completed
        self.lag += lag
        self.urgency += lag / gap
        self.must_poll = self.must_poll or must_poll

    def is_due(self, usual_rate: float) -> bool:
        """Return whether the requests that have ended have waited for long enough, on average.

        :param usual_rate: completions per second where polls usually go; where fewer end, they may wait longer.
        """
        if self.must_poll or self.completed <= 0.0:
            return self.must_poll
        share = min(MAX_LAG_SHARE, max(MIN_LAG_SHARE, math.sqrt(usual_rate / self.completion_rate)))
        return self.urgency >= 0.5 * share * self.completed

    @property
    def completion_rate(self) -> float:
        """Expected completions per second."""
        return self.completed * self.completed / (2.0 * self.lag) if self.lag else math.inf

    @property
    def priority(self) -> tuple[bool, float]:
        return self.must_poll, self.lag


class PollScheduler:
    """Select the polls of one connection from the requests that are waited for and the polls so far.

    :param runtime_stats: observed run times, shared by the schedulers of a process.
    :param model: model by which the list is filtered; ``None`` for the connection's.
    """

    def __init__(self, runtime_stats: RuntimeStats, model: str | None = None) -> None:
        self.model = model
        self.requests: dict[str, TrackedRequest] = {}
        self.list_index = ListIndex()
        self.list_availability = ListAvailability()
        self.runtime_stats = runtime_stats
        self._page_size = PAGE_SIZE
        self._max_page_size = MAX_PAGE_SIZE
        self._interval: float | None = None
        self._queue_exits = 0.5
        self._queue_seconds = 20.0
        self._clock_skew = 0.0
        self._usual_rate = DEFAULT_COMPLETION_RATE
        self._scanned_for: set[str] = set()
        self._scan_offset = 0
        self._fruitless_pages = 0
        self._unlisted_until: dict[str, float] = {}

    def add(self, target: PollTarget, now: float, jitter: float) -> None:
        """Add a request, or change the target of one that is already waited for.

        :param target: what to wait for.
        :param now: Unix seconds.
        :param jitter: a random number from -1 to 1.
        """
        self._interval = None
        if (existing := self.requests.get(target.request_id)) is not None:
            existing.target = target
            existing.wake = min(existing.wake, max(now, target.end_time))
            return
        kind = (target.resolution, target.duration) if target.resolution and target.duration else None
        request = TrackedRequest(target, now, now, jitter, kind, target.submitted_at)
        distribution = self.runtime_stats.distribution(kind)
        if distribution is not None and target.submitted_at is not None:
            request.observed_at = min(now, target.submitted_at - self._clock_skew)
            request.schedule_wake(now, distribution)
        else:
            request.wake = now + (jitter + 1.0) / 2.0 * target.poll_interval
        request.wake = max(target.not_before, min(request.wake, max(now, target.end_time)))
        request.verified_at = max(now, target.not_before)
        self.requests[target.request_id] = request
        if target.submitted_at is not None:
            self.list_index.on_submitted(target.submitted_at)

    def remove(self, request_id: str) -> None:
        """Remove a request."""
        self._interval = None
        self.requests.pop(request_id, None)
        self._unlisted_until.pop(request_id, None)
        self._scanned_for.discard(request_id)

    @property
    def interval(self) -> float:
        """The shortest poll interval of all requests, in seconds."""
        if self._interval is None:
            self._interval = min((request.target.poll_interval for request in self.requests.values()), default=10.0)
        return self._interval

    @property
    def tick(self) -> float:
        """Seconds between selections."""
        return max(0.005, min(TICK_SECONDS, self.interval / 4))

    def select_polls(self, now: float, count: int, rate: float) -> tuple[list[Poll], float]:
        """Select what to poll now.

        :param now: Unix seconds.
        :param count: number of polls that may be sent until the next selection.
        :param rate: polls per second that may be sent.
        :returns: the polls, most urgent first, and the time of the next selection in Unix seconds.
        """
        return run_to_end(self.select_polls_stepwise(now, count, rate))

    def select_polls_stepwise(
        self, now: float, count: int, rate: float
    ) -> Generator[None, None, tuple[list[Poll], float]]:
        """Do :meth:`select_polls` in small steps, between which requests may be added, removed and observed."""
        listed: list[tuple[float, TrackedRequest, float, float, float, bool]] = []
        singles: list[_Candidate] = []
        unlocated = _Candidate([])
        list_available = self.list_availability.is_available(now)
        exit_rate = self._queue_exits / self._queue_seconds
        verifications_left = max(1, count // 4)
        next_wake, interval = math.inf, self.interval
        stretch = max(1.0, len(self.requests) / (PAGE_SIZE * rate * interval))
        for number, request in enumerate(tuple(self.requests.values()), 1):
            if number % REQUESTS_PER_STEP == 0:
                yield
            if request.in_flight:
                continue
            if request.wake > now:
                next_wake = min(next_wake, request.wake)
                continue
            distribution = self.runtime_stats.distribution(request.kind)
            completed, lag = request.expected_completion(now, distribution, exit_rate)
            must_poll = request.must_poll(now, distribution)
            gap = stretch * request.max_gap(now, distribution)
            rank = self._estimate_rank(request) if list_available else None
            if rank is not None and verifications_left and request.must_verify(now, distribution):
                verifications_left -= 1
                single = _Candidate([])
                single.add(request, completed, lag, gap, True)
                singles.append(single)
            elif rank is not None:
                listed.append((rank, request, completed, lag, gap, must_poll))
            elif list_available and self._may_be_listed(request, now):
                if not self._scanned_for or request.target.request_id in self._scanned_for:
                    unlocated.add(request, completed, lag, gap, must_poll)
            else:
                single = _Candidate([])
                single.add(request, completed, lag, gap, must_poll)
                singles.append(single)
        if (
            unlocated.requests
            and not self._scanned_for
            and not prefer_page(len(unlocated.requests), id_lookup_works=unlocated.requests[0].by_id)
        ):
            singles.append(unlocated)
            unlocated = _Candidate([])
        pages = self._build_pages(listed, now)
        if len(pages) > 1 and self._page_size < self._max_page_size:
            self._page_size = min(2 * self._page_size, self._max_page_size)
            pages = self._build_pages(listed, now)
        any_awake = bool(listed or singles or unlocated.requests)
        due = [each for each in (*singles, *pages, unlocated) if each.requests and each.is_due(self._usual_rate)]
        due.sort(key=lambda each: each.priority, reverse=True)
        polls: list[Poll] = []
        for candidate in due:
            if len(polls) >= count:
                break
            if candidate is unlocated:
                polls += self._build_scan(unlocated, count - len(polls))
            else:
                polls.append(self._build_poll(candidate, list_available))
            if candidate.lag:
                self._usual_rate += 0.1 * min(1.0, candidate.completed) * (candidate.completion_rate - self._usual_rate)
        for request_id in [each for poll in polls for each in poll.members]:
            if (polled := self.requests.get(request_id)) is not None:
                polled.in_flight = True
        return polls, min(next_wake, now + (self.tick if any_awake else math.inf))

    def is_needed(self, poll: Poll) -> bool:
        """Return whether any request of a poll is still waited for."""
        return poll.is_scan or any(request_id in self.requests for request_id in poll.members)

    def retry_failed(self, now: float) -> None:
        """Poll the requests whose last poll failed at once, since the cause is gone."""
        for request in self.requests.values():
            if request.failed:
                request.wake = now

    def release(self, poll: Poll) -> None:
        """Take back a poll that was not sent."""
        self._release_members(poll)
        if poll.is_scan:
            self._scanned_for.clear()

    def on_page(self, poll: Poll, page: RequestPage, polled_at: float, now: float) -> list[RequestRecord]:
        """Process a page.

        :param poll: the poll.
        :param page: its response.
        :param polled_at: Unix seconds at which the poll was sent.
        :param now: Unix seconds.
        :returns: the records of the requests that are waited for.
        """
        self.list_availability.record_success()
        if page.size < poll.limit and (page.has_more or (page.total or 0) > poll.offset + page.size):
            self._page_size = self._max_page_size = max(1, page.size)
        self.list_index.on_page(page, poll.offset, polled_at, self.requests)
        found = [record for record in page.records if record.request_id in self.requests]
        self._update_clock_skew(page.records, polled_at)
        for record in found:
            self._observe(record, polled_at, now)
        found_ids = {record.request_id for record in found}
        previously_missing = len(self._scanned_for)
        self._scanned_for -= found_ids
        for request in self._release_members(poll):
            if request.target.request_id not in found_ids:
                self._mark_missed(request, poll, now)
        if poll.is_scan:
            self._continue_scan(page, previously_missing, now)
        return found

    def on_page_error(self, poll: Poll, error: WanError, now: float) -> None:
        """Process the error of a page."""
        if poll.limit > PAGE_SIZE and not error.retryable:
            self._page_size = self._max_page_size = PAGE_SIZE
        else:
            self.list_availability.record_failure(error, now)
        for request in self._release_members(poll):
            request.by_id = True
            request.failed = True
            request.wake = now + 0.25 * request.interval
        if poll.is_scan:
            self._scanned_for.clear()

    def on_record(self, poll: Poll, record: RequestRecord, polled_at: float, now: float) -> None:
        """Process the record of a single poll; the parameters are those of :meth:`on_page`."""
        for request in self._release_members(poll):
            request.verified_at = now
            request.verifications += 1
        self._scanned_for.discard(record.request_id)
        if record.request_id in self.requests:
            self._update_clock_skew((record,), polled_at)
            self._observe(record, polled_at, now)

    def on_record_error(self, poll: Poll, now: float, *, not_found: bool) -> None:
        """Process the error of a single poll.

        :param poll: the poll.
        :param now: Unix seconds.
        :param not_found: whether the API says that it knows no such request.
        """
        for request in self._release_members(poll):
            request.failed = True
            request.failures += 1
            request.verified_at = now
            request.wake = self._next_attempt(request, now)
            if not_found:
                # Requests made in the web console are in the list, but unknown by their ids.
                request.by_id = False
                request.misses = 0
                request.missing_since = request.missing_since if request.missing_since is not None else now
                self._unlisted_until.pop(request.target.request_id, None)

    def _next_attempt(self, request: TrackedRequest, now: float) -> float:
        """Return the time of the next poll after an error, at increasing intervals up to the deadline."""
        longest = max(request.interval, MAX_ERROR_GAP)
        gap = min(longest, request.interval * 2.0 ** min(request.failures - 1, 16))
        end_time = request.target.end_time
        return min(now + gap, end_time) if end_time > now else now + gap

    def _estimate_rank(self, request: TrackedRequest) -> float | None:
        if request.rank is not None:
            return request.rank
        if request.misses or request.created is None or request.target.request_id in self._unlisted_until:
            return None
        return self.list_index.estimate(request.created)

    def _may_be_listed(self, request: TrackedRequest, now: float) -> bool:
        until = self._unlisted_until.get(request.target.request_id)
        return until is None or now >= until

    def _build_pages(
        self, listed: list[tuple[float, TrackedRequest, float, float, float, bool]], now: float
    ) -> list[_Candidate]:
        """Cover the requests that are awake with as few pages as possible, from the newest down."""
        listed.sort(key=lambda each: each[0], reverse=True)
        # A page begins where its newest request was on the last page: the others may be deeper by now.
        shift = math.ceil(self.list_index.max_shift(now + 2.0 * TICK_SECONDS))
        reach = max(1.0, self._page_size - min(self._page_size / 2, shift))
        pages: list[_Candidate] = []
        lowest_rank = math.inf
        for rank, request, completed, lag, gap, must_poll in listed:
            if rank <= lowest_rank:
                pages.append(_Candidate([], highest_rank=rank))
                lowest_rank = rank - reach
            pages[-1].add(request, completed, lag, gap, must_poll)
        return pages

    def _build_poll(self, candidate: _Candidate, list_available: bool) -> Poll:
        members = tuple(request.target.request_id for request in candidate.requests)
        works = candidate.requests[0].by_id
        if not prefer_page(len(members), list_available=list_available, id_lookup_works=works):
            return Poll(members[0], members=members)
        if self.list_index.oldest_first:
            ranks = [rank for request in candidate.requests if (rank := self._estimate_rank(request)) is not None]
            return Poll(None, max(0, math.floor(min(ranks))), self._page_size, members)
        offset = max(0, math.floor(self.list_index.offset(candidate.highest_rank)))
        return Poll(None, offset, self._page_size, members)

    def _build_scan(self, unlocated: _Candidate, count: int) -> list[Poll]:
        """Read the list from its beginning until all unlocated requests are found."""
        members = tuple(
            request.target.request_id for request in unlocated.requests if request.target.request_id in self.requests
        )
        if not self._scanned_for:
            self._scanned_for, self._scan_offset, self._fruitless_pages = set(members), 0, 0
        pages = min(count, max(1, len(members) // self._page_size))
        polls = []
        for number in range(pages):
            # They are free for other polls when the last page is received.
            released = members if number == pages - 1 else ()
            polls.append(Poll(None, self._scan_offset, self._page_size, released, is_scan=True))
            self._scan_offset += self._page_size
        return polls

    def _continue_scan(self, page: RequestPage, previously_missing: int, now: float) -> None:
        self._fruitless_pages = 0 if len(self._scanned_for) < previously_missing else self._fruitless_pages + 1
        has_more = page.has_more if page.has_more is not None else page.size >= self._page_size
        max_fruitless_pages = max(_MAX_FRUITLESS_PAGES, previously_missing // 10)
        if page.size == 0 or not has_more or self._fruitless_pages > max_fruitless_pages:
            for request_id in self._scanned_for:
                self._mark_unlisted(self.requests[request_id], now)
            self._scanned_for.clear()

    def _mark_unlisted(self, request: TrackedRequest, now: float) -> None:
        request.by_id = True
        backoff = min(MAX_UNLISTED_SECONDS, UNLISTED_SECONDS * 2.0**request.absences)
        request.absences += 1
        self._unlisted_until[request.target.request_id] = now + backoff

    def _mark_missed(self, request: TrackedRequest, poll: Poll, now: float) -> None:
        if poll.is_scan:
            return
        request.rank = None
        request.misses += 1
        if request.misses > 1:
            self._mark_unlisted(request, now)

    def _release_members(self, poll: Poll) -> list[TrackedRequest]:
        requests = [found for request_id in poll.members if (found := self.requests.get(request_id)) is not None]
        for request in requests:
            request.in_flight = False
        return requests

    def _observe(self, record: RequestRecord, polled_at: float, now: float) -> None:
        request = self.requests[record.request_id]
        has_baseline = request.observed or request.target.submitted_at is not None
        was_queued, observed_at = has_baseline and request.started is None, request.observed_at
        distribution = self.runtime_stats.distribution(request.kind)
        seconds = request.measure_runtime(record, polled_at, self._clock_skew, distribution)
        request.observe(record, polled_at, self._clock_skew)
        if seconds is not None:
            self.runtime_stats.add(request.kind, seconds)
        if was_queued:
            left_queue_at = request.started if request.started is not None else polled_at
            self._queue_seconds += max(0.0, left_queue_at - observed_at)
            self._queue_exits += record.status.is_terminal or request.started is not None
            if self._queue_exits > 400:
                self._queue_exits /= 2
                self._queue_seconds /= 2
        request.schedule_wake(now, self.runtime_stats.distribution(request.kind))

    def _update_clock_skew(self, records: Sequence[RequestRecord], polled_at: float) -> None:
        """Learn how far the API's clock is ahead, from what was just updated; small differences are ignored."""
        updated = (plausible_time(record.updated_at, polled_at) for record in records)
        ahead = max((each - polled_at for each in updated if each is not None), default=0.0)
        self._clock_skew = max(self._clock_skew, ahead - 2.0)
