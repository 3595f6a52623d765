# SPDX-License-Identifier: Apache-2.0
"""Sliding-window rate limits."""

from __future__ import annotations

from collections import deque


class SlidingWindow:
    """A limit on the number of calls within any interval of a fixed length.

    :param seconds: length of the interval.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque()

    def wait(self, limit: int | None, now: float) -> float | None:
        """Return the seconds until a call is allowed, or None if it is allowed now."""
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        if limit is None or len(self._times) < limit:
            return None
        return self._times[len(self._times) - limit] + self._seconds - now if limit > 0 else self._seconds

    def take(self, now: float) -> None:
        """Count a call."""
        self._times.append(now)
