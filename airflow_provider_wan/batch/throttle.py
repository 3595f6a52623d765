# SPDX-License-Identifier: Apache-2.0
"""Limits of a batch: requests in flight, and submissions per second. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Refusals within this time have one cause: they halve the window once.
COOLDOWN_SECONDS = 20.0
# For each such period without a refusal, the window grows by a tenth of its ceiling.
GROWTH_SECONDS = 10.0
GROWTH_DIVISOR = 10


@dataclass(frozen=True)
class ConcurrencyWindow:
    """The number of requests that may be in flight: halved by a refusal (429, 503), and grown again over time.

    :param ceiling: the user's limit.
    :param size: the present limit, from 1 to the ceiling.
    :param changed_at: Unix seconds of the last change.
    :param pause_until: Unix seconds until which nothing is submitted.
    """

    ceiling: int
    size: int
    changed_at: float
    pause_until: float = 0.0

    @classmethod
    def open(cls, ceiling: int, now: float) -> ConcurrencyWindow:
        """Start at the ceiling: the account's own limit is discovered by its refusals.

        :param ceiling: the user's limit.
        :param now: Unix seconds.
        """
        return cls(ceiling, ceiling, now)

    def with_ceiling(self, ceiling: int) -> ConcurrencyWindow:
        """Return the window under another limit, which may have changed between two attempts.

        :param ceiling: the user's limit.
        """
        return replace(self, ceiling=ceiling, size=min(ceiling, max(1, self.size)))

    def refuse(self, now: float, delay: float) -> ConcurrencyWindow:
        """Halve the window, and pause.

        :param now: Unix seconds.
        :param delay: seconds without a submission.
        """
        until = max(self.pause_until, now + delay)
        if self.size < self.ceiling and now < self.changed_at + COOLDOWN_SECONDS:
            return replace(self, pause_until=until)
        return replace(self, size=max(1, self.size // 2), changed_at=now, pause_until=until)

    def pause(self, now: float, delay: float) -> ConcurrencyWindow:
        """Pause for a reason that says nothing about the service's limits.

        :param now: Unix seconds.
        :param delay: seconds without a submission.
        """
        return replace(self, pause_until=max(self.pause_until, now + delay))

    def grow(self, now: float) -> ConcurrencyWindow:
        """Grow by the time that has passed without a refusal.

        :param now: Unix seconds.
        """
        since = max(self.changed_at, self.pause_until)
        steps = int((now - since) // GROWTH_SECONDS)
        if self.size >= self.ceiling or steps < 1:
            return self
        size = min(self.ceiling, self.size + steps * max(1, self.ceiling // GROWTH_DIVISOR))
        return replace(self, size=size, changed_at=since + steps * GROWTH_SECONDS)


@dataclass(frozen=True)
class SubmitPacer:
    """Spaces submissions evenly.

    :param per_second: maximum number of submissions per second.
    :param next_at: Unix seconds of the next submission.
    """

    per_second: float
    next_at: float = 0.0

    def record(self, now: float) -> SubmitPacer:
        """Count a submission. Unused time is not saved up, except to compensate for a short delay.

        :param now: Unix seconds.
        """
        step = 1.0 / self.per_second
        start = self.next_at if now - self.next_at < step else now
        return replace(self, next_at=start + step)
