# SPDX-License-Identifier: Apache-2.0
"""
What a batch does next. Pure: it does nothing itself, and the time is passed in.

A clip goes ``taken → ready → under way → ended``, and back to ``ready`` where it has to wait for something. Both
drivers, the loop in the worker and the waves, ask the same plan; a wave ends where the plan has nothing to do now.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from airflow_provider_wan.batch.window import Pace, Window


class HasRow(Protocol):
    """What the plan knows of a clip."""

    @property
    def row(self) -> int: ...


C = TypeVar("C", bound=HasRow)


@dataclass(frozen=True)
class Running(Generic[C]):
    """
    A clip that the service has accepted.

    :param clip: which.
    :param request_id: of the API.
    :param since: Unix seconds of its acceptance.
    """

    clip: C
    request_id: str
    since: float


@dataclass
class Plan(Generic[C]):
    """
    The queue of one batch.

    :param window: how many may be under way.
    :param pace: how fast they are submitted.
    :param ahead: how many are made ready before they can be submitted.
    :param poll_interval: seconds between looks.
    :param look_at: Unix seconds of the next look.
    """

    window: Window
    pace: Pace
    ahead: int
    poll_interval: float
    look_at: float = 0.0
    running: dict[int, Running[C]] = field(default_factory=dict)
    stopped: bool = False
    _ready: deque[C] = field(default_factory=deque)
    _later: list[tuple[float, int, C]] = field(default_factory=list)
    _held: set[int] = field(default_factory=set)

    # --- what is to be done -------------------------------------------------------------------
    def wanted(self, in_hand: int, *, only_room: bool) -> int:
        """
        Return how many more clips should be taken from the manifest.

        :param in_hand: how many are taken and not ready yet.
        :param only_room: no more than can be submitted at once, since what is ready is lost when the wave ends.
        """
        if self.stopped:
            return 0
        waiting = in_hand + len(self._ready) + len(self._later) - len(self._held)
        most = self.window.size - self.under_way if only_room else self.ahead
        return max(0, most - waiting)

    def next_clip(self, now: float) -> C | None:
        """Return the clip to be submitted now, and let go of it; None: none may be."""
        self.window = self.window.grown(now)
        if self.stopped or now < self._submit_at():
            return None
        if self._later and self._later[0][0] <= now:
            clip = self._later[0][2]
            # One in doubt has its place already: it may be running.
            if clip.row in self._held or self.under_way < self.window.size:
                heapq.heappop(self._later)
                self._held.discard(clip.row)
                return clip
        if self._ready and self.under_way < self.window.size:
            return self._ready.popleft()
        return None

    def look_due(self, now: float) -> bool:
        """Tell whether it is time to look at what is under way."""
        return bool(self.running) and now >= self.look_at

    def wake_at(self, *, looks: bool = True) -> float | None:
        """
        Return when there is something to do again by itself; None: never, without news.

        :param looks: whether looking at what is under way is something to do.
        """
        moments = [self.look_at] if self.running and looks else []
        if not self.stopped:
            full = self.under_way >= self.window.size
            if self._ready and not full:
                moments.append(self._submit_at())
            if self._later and (not full or self._later[0][2].row in self._held):
                moments.append(max(self._later[0][0], self._submit_at()))
        return min(moments, default=None)

    @property
    def under_way(self) -> int:
        """How many clips the service has, or may have."""
        return len(self.running) + len(self._held)

    @property
    def waiting(self) -> int:
        """How many clips are ready or wait for something."""
        return len(self._ready) + len(self._later)

    @property
    def in_doubt(self) -> bool:
        """Whether a second look into the list is due soon: only this process can take it."""
        return bool(self._held)

    def open_rows(self) -> list[int]:
        """Return the rows that are neither under way nor settled."""
        return sorted([clip.row for clip in self._ready] + [clip.row for _, _, clip in self._later])

    # --- what has happened --------------------------------------------------------------------
    def ready(self, clip: C) -> None:
        """A clip can be submitted."""
        self._ready.append(clip)

    def submitted(self, clip: C, request_id: str, since: float) -> None:
        """A clip is under way."""
        self.running[clip.row] = Running(clip, request_id, since)

    def paid(self, now: float) -> None:
        """A submission has left."""
        self.pace = self.pace.taken(now)

    def refused(self, clip: C, now: float, wait: float, *, limit: bool) -> None:
        """
        The service does not take it now: it goes first when that is over.

        :param limit: whether that tells of a limit, so that the window has to shrink.
        """
        self.window = self.window.refused(now, wait) if limit else self.window.paused(now, wait)
        self._ready.appendleft(clip)

    def put_off(self, clip: C, due: float, *, held: bool = False) -> None:
        """
        Try again at a time.

        :param held: it may be under way, and has its place in the window.
        """
        heapq.heappush(self._later, (due, clip.row, clip))
        if held:
            self._held.add(clip.row)

    def looked(self, now: float, retry_after: float | None = None) -> None:
        """A look was taken."""
        self.look_at = now + max(self.poll_interval, retry_after or 0.0)

    def ended(self, row: int) -> Running[C]:
        """A clip is no longer under way."""
        return self.running.pop(row)

    def stop(self) -> tuple[list[C], list[C]]:
        """Submit nothing more. :return: what was not submitted, and what may have been."""
        self.stopped = True
        later = [clip for _, _, clip in self._later]
        doubtful = [clip for clip in later if clip.row in self._held]
        left = [*self._ready, *(clip for clip in later if clip.row not in self._held)]
        self._ready.clear()
        self._later.clear()
        self._held.clear()
        return left, doubtful

    def restore(self, running: Iterable[Running[C]]) -> None:
        """Go on with what was under way."""
        for each in running:
            self.running[each.clip.row] = each

    def _submit_at(self) -> float:
        return max(self.pace.next_at, self.window.pause_until)


def wake_after(size: int) -> int:
    """Return how many clips must have ended for a wave to be worth a worker: a quarter of the window."""
    return max(1, size // 4)
