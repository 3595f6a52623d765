# SPDX-License-Identifier: Apache-2.0
"""One request that is waited for: what was observed of it, and what may have become of it since."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.api.record import RequestStatus

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.polling.decision import PollTarget
    from airflow_provider_wan.polling.runtime_stats import RuntimeDistribution

# Polls are spread by this fraction, so that requests that began together do not stay together.
JITTER = 0.1
# Completion rate per second of a kind of which nothing is known: all moments are equally likely.
DEFAULT_COMPLETION_RATE = 0.005
# A request that runs far longer than any of its kind is polled ever more rarely.
OVERDUE_STRETCH = 0.1
MAX_POLL_GAP = 300.0
# After consecutive errors it is polled ever more rarely.
MAX_ERROR_GAP = 60.0
# A request that the list shows as unfinished is polled by its id after this many poll intervals, and then ever more
# rarely: the list may lag or be stuck.
VERIFY_INTERVALS = 12.0
_DAY_SECONDS = 86400.0


@dataclass(slots=True)
class TrackedRequest:
    """The state of one request, as the scheduler keeps it. Times are Unix seconds by our clock unless said otherwise.

    :param target: what is waited for.
    :param observed_at: time that the last poll describes; before the first one, of the submission or registration.
    :param wake: no poll is worth its request before this time.
    :param jitter: a random number from -1 to 1.
    :param kind: requests of the same kind have similar run times.
    :param created: time of the submission, by the API's clock.
    :param started: time at which it began to run, as well as known.
    :param observed: whether any poll has returned it.
    :param rank: its position among all requests of the account, higher for newer; only differences count.
    :param misses: how often in a row it was not on the page where it was expected.
    :param absences: how often the whole list did not contain it.
    :param by_id: whether the API knows it by its id.
    :param missing_since: time since which its id is reported as unknown.
    :param failed: whether its last poll failed.
    :param failures: how often in a row its id was answered by an error.
    :param verified_at: time of its last poll by id; before the first one, of its registration.
    :param verifications: how often it was polled by id.
    :param in_flight: whether a poll of it is in flight.
    """

    target: PollTarget
    observed_at: float
    wake: float
    jitter: float = 0.0
    kind: Hashable = None
    created: float | None = None
    started: float | None = None
    observed: bool = False
    rank: float | None = None
    misses: int = 0
    absences: int = 0
    by_id: bool = True
    missing_since: float | None = None
    failed: bool = False
    in_flight: bool = False
    failures: int = 0
    verified_at: float | None = None
    verifications: int = 0

    @property
    def interval(self) -> float:
        """Seconds between polls while it may end at any moment, with jitter."""
        return self.target.poll_interval * (1.0 + JITTER * self.jitter)

    def expected_completion(
        self, now: float, distribution: RuntimeDistribution | None, exit_rate: float
    ) -> tuple[float, float]:
        """Estimate whether it has ended without having been observed.

        :param now: Unix seconds.
        :param distribution: run times of its kind, if known.
        :param exit_rate: probability per second that a request leaves the queue.
        :returns: the probability that it has ended, and the expected lag so far in seconds.
        """
        elapsed = now - self.observed_at
        if distribution is None:
            return min(1.0, DEFAULT_COMPLETION_RATE * elapsed), DEFAULT_COMPLETION_RATE * elapsed * elapsed / 2
        if self.started is None and exit_rate * distribution.median > 1.0:
            # There is hardly a queue: it may have begun at once.
            return distribution.expected_completion(0.0, elapsed)
        if self.started is None:
            return distribution.expected_completion_from_queue(elapsed, exit_rate)
        return distribution.expected_completion(self.observed_at - self.started, now - self.started)

    def must_verify(self, now: float, distribution: RuntimeDistribution | None) -> bool:
        """Return whether a page of the list is not enough: a poll by id is due, or the last poll is."""
        if not self.by_id or self.verified_at is None:
            return False
        if now >= self.target.end_time > self.verified_at:
            return True
        if distribution is not None and self.started is not None and now - self.started < distribution.median:
            # It hardly has ended yet.
            return False
        gap = VERIFY_INTERVALS * self.interval
        return now - self.verified_at >= gap * 2.0 ** min(self.verifications, 8)

    def must_poll(self, now: float, distribution: RuntimeDistribution | None) -> bool:
        """Return whether a poll is due regardless of expectations: the first one and the last one."""
        if not self.observed:
            return distribution is None or self.created is None or now >= self.target.end_time
        return now >= self.target.end_time > self.observed_at

    def max_gap(self, now: float, distribution: RuntimeDistribution | None) -> float:
        """Return the seconds that it may go unobserved once it may have ended."""
        if distribution is None or self.started is None:
            return self.interval
        overdue = now - self.started - 3.0 * distribution.median
        return max(self.interval, min(MAX_POLL_GAP, OVERDUE_STRETCH * overdue))

    def schedule_wake(self, now: float, distribution: RuntimeDistribution | None) -> None:
        """Set the time of the next useful poll, after an observation."""
        if distribution is None:
            wake = self.observed_at + 0.5 * self.interval
        elif self.started is None:
            wake = self.observed_at + distribution.earliest
        else:
            wake = self.started + distribution.earliest
        self.wake = max(now, min(wake, self.observed_at + MAX_POLL_GAP, max(now, self.target.end_time)))

    def observe(self, record: RequestRecord, polled_at: float, clock_skew: float) -> None:
        """Record the result of a poll.

        :param record: what the poll returned.
        :param polled_at: time at which the poll was sent; the record is no older.
        :param clock_skew: seconds by which the API's clock is ahead of ours.
        """
        payload = record.payload
        resolution, duration = payload.get("resolution"), payload.get("duration")
        if isinstance(resolution, str) and isinstance(duration, int):
            self.kind = (resolution, duration)
        if record.created_at is not None:
            self.created = record.created_at
        if record.status in (RequestStatus.PROCESSING, RequestStatus.UNKNOWN) and self.started is None:
            # It began between the last observation, when it was still queued, and this one.
            updated = plausible_time(record.updated_at, polled_at)
            lower_bound = self.observed_at if self.observed else -math.inf
            self.started = polled_at if updated is None else min(polled_at, max(lower_bound, updated - clock_skew))
        self.observed = True
        self.missing_since = None
        self.misses = 0
        self.failed = False
        self.failures = 0
        self.observed_at = max(self.observed_at, polled_at)

    def measure_runtime(
        self, record: RequestRecord, polled_at: float, clock_skew: float, distribution: RuntimeDistribution | None
    ) -> float | None:
        """Return how many seconds it ran, from its terminal record and the observations before :meth:`observe`.

        The API's times are used as far as they agree with the observations.

        :returns: seconds; ``None`` if too little was observed.
        """
        if record.status is not RequestStatus.SUCCESS:
            return None
        updated = plausible_time(record.updated_at, polled_at)
        ended = (self.observed_at + polled_at) / 2 if updated is None else updated - clock_skew
        if not self.observed:
            created = plausible_time(record.created_at, polled_at)
            if distribution is None or created is None:
                return None
            # Its time in the queue is unknown. A long one would look like a long run; a short one reveals a fast
            # service, which would go unnoticed otherwise.
            total = min(ended, polled_at) - (created - clock_skew)
            return total if total < distribution.median else None
        ended = min(polled_at, max(self.observed_at, ended))
        # If it was never observed running, it began no earlier than it was observed in the queue.
        return ended - (self.started if self.started is not None else self.observed_at)


def plausible_time(value: float | None, now: float) -> float | None:
    """Return a time of the API's, unless it is more than a day away from ours."""
    return value if value is not None and abs(value - now) < _DAY_SECONDS else None
