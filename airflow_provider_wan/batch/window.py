# SPDX-License-Identifier: Apache-2.0
"""How many clips are under way at once, and how fast they are submitted. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# Refusals that come within this many seconds are of one kind of trouble: they halve the window once.
COOL_SECONDS = 20.0
# After so many seconds without a refusal the window grows by a tenth of its ceiling.
GROW_SECONDS = 10.0
GROW_SHARE = 10


@dataclass(frozen=True)
class Window:
    """
    The most clips that may be under way at once: halved by a refusal (429, 503), grown again by time.

    :param ceiling: the most that the user wants.
    :param size: the most at present; from 1 to the ceiling.
    :param changed_at: Unix seconds of the last change.
    :param pause_until: Unix seconds until which nothing is submitted.
    """

    ceiling: int
    size: int
    changed_at: float
    pause_until: float = 0.0

    @classmethod
    def open(cls, ceiling: int, now: float) -> Window:
        """Begin wide open: whether there is a limit, and which, is found out by meeting it."""
        return cls(ceiling, ceiling, now)

    def refused(self, now: float, wait: float) -> Window:
        """Halve it, and submit nothing for ``wait`` seconds."""
        until = max(self.pause_until, now + wait)
        if self.size < self.ceiling and now < self.changed_at + COOL_SECONDS:
            return replace(self, pause_until=until)
        return replace(self, size=max(1, self.size // 2), changed_at=now, pause_until=until)

    def paused(self, now: float, wait: float) -> Window:
        """Submit nothing for ``wait`` seconds, for a reason that says nothing about the service's limits."""
        return replace(self, pause_until=max(self.pause_until, now + wait))

    def grown(self, now: float) -> Window:
        """Grow it by the time that has passed without a refusal."""
        since = max(self.changed_at, self.pause_until)
        steps = int((now - since) // GROW_SECONDS)
        if self.size >= self.ceiling or steps < 1:
            return self
        size = min(self.ceiling, self.size + steps * max(1, self.ceiling // GROW_SHARE))
        return replace(self, size=size, changed_at=since + steps * GROW_SECONDS)

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return {"size": self.size, "changed_at": self.changed_at, "pause_until": self.pause_until}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], ceiling: int) -> Window:
        """Go on with a window; the ceiling may have been changed meanwhile."""
        size = min(ceiling, max(1, int(data["size"])))
        return cls(ceiling, size, float(data["changed_at"]), float(data["pause_until"]))


@dataclass(frozen=True)
class Pace:
    """
    Spaces submissions out.

    :param per_second: the most of them.
    :param next_at: Unix seconds of the next one.
    """

    per_second: float
    next_at: float = 0.0

    def taken(self, now: float) -> Pace:
        """Count one. What was not used is not saved up, but for what a moment's delay has cost."""
        step = 1.0 / self.per_second
        began = self.next_at if now - self.next_at < step else now
        return replace(self, next_at=began + step)
