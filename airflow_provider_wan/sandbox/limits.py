# SPDX-License-Identifier: Apache-2.0
"""Sliding-window rate limits."""

from __future__ import annotations

from collections import deque


class Window:
    """At most so many calls in any span of that length.

    :param seconds: the span.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._taken: deque[float] = deque()

    def wait(self, limit: int | None, now: float) -> float | None:
        """Seconds until a call is allowed, or None when it is."""
        while self._taken and self._taken[0] <= now - self._seconds:
            self._taken.popleft()
        if limit is None or len(self._taken) < limit:
            return None
        return self._taken[len(self._taken) - limit] + self._seconds - now if limit > 0 else self._seconds

    def take(self, now: float) -> None:
        """Count a call."""
        self._taken.append(now)
