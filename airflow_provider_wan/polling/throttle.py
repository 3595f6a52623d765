# SPDX-License-Identifier: Apache-2.0
"""What limits the polls of a connection: its rate, a circuit breaker, and a backoff for the list."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol

from airflow_provider_wan.api.errors import WanCapacityError, WanRateLimitError

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError

# Space between requests, relative to the rate: a delayed request must not arrive together with the next one.
RATE_MARGIN = 1.05
# Resolution of clocks and timers, as a share of the space between two requests.
_TIMER_TOLERANCE = 0.01

# Consecutive failed polls that open the circuit.
MAX_CONSECUTIVE_FAILURES = 3
MAX_PAUSE_SECONDS = 60.0
MAX_PAUSE_INTERVALS = 8.0
MAX_RETRY_AFTER = 300.0

# Consecutive failed pages after which the list is not used for a while.
MAX_CONSECUTIVE_LIST_FAILURES = 3
LIST_BACKOFF_SECONDS = 60.0
MAX_LIST_BACKOFF_SECONDS = 900.0


class SlotSource(Protocol):
    """Slots of a rate that is shared with other processes."""

    def acquire(self, now: float, per_second: float) -> float | None:
        """Take a slot, as :meth:`RateLimiter.acquire`; return None if it is not known now which slots are free."""

    @property
    def fallback_share(self) -> float:
        """The share of the rate to use if that is not known."""


class RateLimiter:
    """Space out the requests of a connection evenly, without bursts, among all threads and loops of a process."""

    def __init__(self) -> None:
        self._next_slot = 0.0
        self._lock = threading.Lock()
        self._shared_key: Hashable = None
        self._shared: SlotSource | None = None

    def is_shared_by(self, key: Hashable) -> bool:
        """Return whether the slots come from this source, by the key that :meth:`share` was passed."""
        return self._shared_key == key

    def share(self, key: Hashable, source: SlotSource | None) -> None:
        """Take the slots from those that several processes share.

        :param key: identifies the source; None for no source.
        :param source: the slots.
        """
        self._shared_key, self._shared = key, source

    def acquire(self, now: float, per_second: float) -> float:
        """Take a slot if one is free. An unused slot is lost.

        :param now: seconds of a monotonic clock.
        :param per_second: the rate.
        :returns: 0.0 if the slot was taken; otherwise the seconds after which to try again.
        """
        shared = self._shared
        if shared is not None:
            if (delay := shared.acquire(now, per_second)) is not None:
                return delay
            per_second *= shared.fallback_share
        spacing = RATE_MARGIN / per_second
        with self._lock:
            remaining = self._next_slot - now
            if remaining > _TIMER_TOLERANCE * spacing:
                return remaining
            self._next_slot = now + spacing
            return 0.0


_rate_limiters: dict[Hashable, RateLimiter] = {}


def shared_rate_limiter(key: Hashable) -> RateLimiter:
    """Return the rate limiter of a connection, which lives as long as the process."""
    return _rate_limiters.setdefault(key, RateLimiter())


class CircuitBreaker:
    """Pause the polls of a connection after failures.

    After a 429 or 503 nothing is sent for as long as the API asks. If it does not ask for a time, and after several
    consecutive failures, the pause is one poll interval and doubles each time, up to eight intervals or a minute.
    One response closes the circuit.
    """

    def __init__(self) -> None:
        self._open_until = 0.0
        self._failures = 0
        self._pause = 0.0

    def remaining_pause(self, now: float) -> float:
        """Return for how many seconds nothing may be sent."""
        return max(0.0, self._open_until - now)

    def is_half_open(self) -> bool:
        """Return whether the service was down: single probes find out whether it still is."""
        return self._failures >= MAX_CONSECUTIVE_FAILURES

    def record_success(self) -> bool:
        """Record a response.

        :returns: whether the service was down before.
        """
        was_down = self.is_half_open()
        self._failures = 0
        self._pause = 0.0
        return was_down

    def record_failure(self, error: WanError, now: float, interval: float, jitter: float) -> bool:
        """Record a failed poll.

        :param error: what went wrong.
        :param now: Unix seconds.
        :param interval: the poll interval in seconds, for the first pause.
        :param jitter: a random number from -1 to 1.
        :returns: whether the service counts as down from now on.
        """
        throttled = isinstance(error, WanRateLimitError | WanCapacityError)
        retry_after = error.retry_after if isinstance(error, WanRateLimitError | WanCapacityError) else None
        was_down, paused = self.is_half_open(), self.remaining_pause(now) > 0
        if not paused:
            # Polls that were in flight together fail together: they count once.
            self._failures += 1
        delay = 0.0
        if not paused and (throttled or self.is_half_open()):
            self._pause = min(MAX_PAUSE_SECONDS, MAX_PAUSE_INTERVALS * interval, max(interval, 2.0 * self._pause))
            delay = self._pause * (1.0 + 0.1 * jitter)
        if retry_after is not None:
            # A hint is bounded both ways: by the longest pause that is believed, and by the growing pause of our own.
            delay = max(delay, min(retry_after, MAX_RETRY_AFTER) * (1.0 + 0.1 * abs(jitter)))
        if delay > 0.0:
            self._open_until = max(self._open_until, now + delay)
        return self.is_half_open() and not was_down


class ListAvailability:
    """Track whether the list can be used; it is left alone after failures, twice as long each time."""

    def __init__(self) -> None:
        self._failures = 0
        self._backoff = LIST_BACKOFF_SECONDS
        self._unavailable_until = 0.0

    def is_available(self, now: float) -> bool:
        """Return whether pages may be requested."""
        return now >= self._unavailable_until

    def record_success(self) -> None:
        """Record that a page was received."""
        self._failures = 0
        self._backoff = LIST_BACKOFF_SECONDS

    def record_failure(self, error: WanError, now: float) -> None:
        """Record a failed page. A permanent refusal, such as a 404, counts at once."""
        if not self.is_available(now):
            return
        self._failures += 1
        if not error.retryable or self._failures >= MAX_CONSECUTIVE_LIST_FAILURES:
            self._unavailable_until = now + self._backoff
            self._backoff = min(MAX_LIST_BACKOFF_SECONDS, 2 * self._backoff)
            self._failures = MAX_CONSECUTIVE_LIST_FAILURES - 1
