# SPDX-License-Identifier: Apache-2.0
"""One clip that is waited for: what was seen of it, and what may have become of it since."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.api.record import RequestStatus

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.polling.durations import Profile
    from airflow_provider_wan.polling.schedule import Wait

# Looks are spread by this fraction, so that what began together does not stay together.
JITTER = 0.1
# Where nothing is known of a kind, any moment is as likely as another: this a second.
EVEN_CHANCE = 0.005
# A clip that runs far longer than any of its kind is looked at ever more rarely.
STRETCH = 0.1
LONGEST_GAP = 300.0
A_DAY = 86400.0


@dataclass(slots=True)
class Clip:
    """
    The state of one wait, as the plan keeps it. Times are Unix seconds by our clock, unless said otherwise.

    :param wait: what is waited for.
    :param seen_at: of when the last look tells; before the first one, when it was submitted or registered.
    :param wake: no look is worth its request before.
    :param spread: a random number from -1 to 1.
    :param kind: clips of the same kind take alike.
    :param created: when it was submitted, by the API's clock.
    :param started: when it began to run, as well as can be told.
    :param looked: whether it was ever seen.
    :param rank: its place among all requests of the account, higher for newer; only differences count.
    :param missed: how often in a row it was not where it was looked for.
    :param absent: how often the list was found not to have it.
    :param by_id: whether it can be asked for by its id.
    :param missing_since: since when its id is said to be unknown.
    :param failed: whether the last look at it went unanswered.
    :param asked: whether a look at it is under way.
    """

    wait: Wait
    seen_at: float
    wake: float
    spread: float = 0.0
    kind: Hashable = None
    created: float | None = None
    started: float | None = None
    looked: bool = False
    rank: float | None = None
    missed: int = 0
    absent: int = 0
    by_id: bool = True
    missing_since: float | None = None
    failed: bool = False
    asked: bool = False

    @property
    def interval(self) -> float:
        """Seconds between looks where it may be done at any moment, with its jitter."""
        return self.wait.poll_interval * (1.0 + JITTER * self.spread)

    def expect(self, now: float, profile: Profile | None, leaves: float) -> tuple[float, float]:
        """
        Return the chance that it is done by now and unseen, and the seconds of lag to expect of it so far.

        :param leaves: the chance, per second, that a clip leaves the queue.
        """
        gone = now - self.seen_at
        if profile is None:
            return min(1.0, EVEN_CHANCE * gone), EVEN_CHANCE * gone * gone / 2
        if self.started is None and leaves * profile.typical > 1.0:
            # Hardly a queue: it may have begun at once.
            return profile.unseen(0.0, gone)
        if self.started is None:
            return profile.unseen_in_queue(gone, leaves)
        return profile.unseen(self.seen_at - self.started, now - self.started)

    def must(self, now: float, profile: Profile | None) -> bool:
        """Return whether a look is due whatever may be expected of it: the first one, and the last one."""
        if not self.looked:
            return profile is None or self.created is None or now >= self.wait.end_time
        return now >= self.wait.end_time > self.seen_at

    def gap(self, now: float, profile: Profile | None) -> float:
        """Return how long it may go unseen once it may be done."""
        if profile is None or self.started is None:
            return self.interval
        over = now - self.started - 3.0 * profile.typical
        return max(self.interval, min(LONGEST_GAP, STRETCH * over))

    def rest(self, now: float, profile: Profile | None) -> None:
        """Set when it wakes, after it was seen."""
        if profile is None:
            wake = self.seen_at + 0.5 * self.interval
        elif self.started is None:
            wake = self.seen_at + profile.soonest
        else:
            wake = self.started + profile.soonest
        self.wake = max(now, min(wake, self.seen_at + LONGEST_GAP, max(now, self.wait.end_time)))

    def see(self, record: RequestRecord, asked_at: float, skew: float) -> None:
        """
        Take in a look.

        :param asked_at: when it was asked: what the answer tells is no older.
        :param skew: seconds by which the API's clock is ahead of ours.
        """
        payload = record.payload
        resolution, duration = payload.get("resolution"), payload.get("duration")
        if isinstance(resolution, str) and isinstance(duration, int):
            self.kind = (resolution, duration)
        if record.created_at is not None:
            self.created = record.created_at
        if record.status in (RequestStatus.PROCESSING, RequestStatus.UNKNOWN) and self.started is None:
            # Between the last look, when it was still queued, and this one.
            told = trusted(record.updated_at, asked_at)
            earliest = self.seen_at if self.looked else -math.inf
            self.started = asked_at if told is None else min(asked_at, max(earliest, told - skew))
        self.looked = True
        self.missing_since = None
        self.missed = 0
        self.failed = False
        self.seen_at = max(self.seen_at, asked_at)

    def ran(self, record: RequestRecord, asked_at: float, skew: float, profile: Profile | None) -> float | None:
        """
        Return how many seconds it ran, from the record of its end and what was seen before :meth:`see`.

        The API's times count as far as they agree with what was seen. None where too little was seen.
        """
        if record.status is not RequestStatus.SUCCESS:
            return None
        told = trusted(record.updated_at, asked_at)
        ended = (self.seen_at + asked_at) / 2 if told is None else told - skew
        if not self.looked:
            created = trusted(record.created_at, asked_at)
            if profile is None or created is None:
                return None
            # Its time in the queue is not known. A long one would pass for a long run; a short one tells of a fast
            # service, which nobody would notice otherwise.
            total = min(ended, asked_at) - (created - skew)
            return total if total < profile.typical else None
        ended = min(asked_at, max(self.seen_at, ended))
        # Not seen running: it began no earlier than it was seen in the queue.
        return ended - (self.started if self.started is not None else self.seen_at)


def trusted(told: float | None, now: float) -> float | None:
    """Return a time of the API's, unless it can't be one in seconds."""
    return told if told is not None and abs(told - now) < A_DAY else None
