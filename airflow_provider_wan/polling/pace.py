# SPDX-License-Identifier: Apache-2.0
"""When to ask for nothing at all: pure decisions, with the time passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_wan.api.errors import WanCapacityError, WanRateLimitError

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError

# So many unanswered looks in a row, and the service is taken to be down.
FAILURES = 3
LONGEST_PAUSE = 60.0
# Nor longer than so many poll intervals.
MOST_INTERVALS = 8.0
LONGEST_RETRY_AFTER = 300.0


class Pace:
    """
    Pauses and the breaker of one connection.

    After a 429 nothing is sent for as long as the API asks; without such word, and after several failures in a
    row, for a poll interval, then twice as long each time, up to eight intervals or a minute. One answer ends that.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._failures = 0
        self._pause = 0.0

    def pause(self, now: float) -> float:
        """Return for how many seconds nothing is to be sent."""
        return max(0.0, self._until - now)

    def probing(self) -> bool:
        """Return whether the service was down: one look at a time finds out whether it still is."""
        return self._failures >= FAILURES

    def answered(self) -> bool:
        """Take in an answer. :return: whether the service was down before."""
        down = self.probing()
        self._failures = 0
        self._pause = 0.0
        return down

    def failed(self, error: WanError, now: float, interval: float, spread: float) -> bool:
        """
        Take in that a look was not answered.

        :param interval: the poll interval, for the first pause.
        :param spread: a random number from -1 to 1.
        :return: whether the service is taken to be down from now on.
        """
        limited = isinstance(error, WanRateLimitError | WanCapacityError)
        asked = error.retry_after if isinstance(error, WanRateLimitError | WanCapacityError) else None
        was_down, paused = self.probing(), self.pause(now) > 0
        if not paused:
            # Those that were under way together fail together: they count once.
            self._failures += 1
        if asked is not None:
            self._until = max(self._until, now + min(asked, LONGEST_RETRY_AFTER) * (1.0 + 0.1 * abs(spread)))
        elif not paused and (limited or self.probing()):
            self._pause = min(LONGEST_PAUSE, MOST_INTERVALS * interval, max(interval, 2.0 * self._pause))
            self._until = now + self._pause * (1.0 + 0.1 * spread)
        return self.probing() and not was_down
