# SPDX-License-Identifier: Apache-2.0
"""How long clips of a kind have run so far, as a distribution that can be asked cheaply."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise

# Fewer than these say too little: such a kind is looked at evenly.
ENOUGH = 8
# The newest of a kind that count: the service's pace changes. Of clips that began together the slowest end last, so
# that fewer than such a crowd would tell of the slow ones alone.
KEPT = 1000
# As many of them, evenly spread, make a profile.
_DRAWN = 100
# Of the distribution's table.
_STEPS = 128
# No sharper than this is believed of a kind, as a share of the duration.
_LEAST_WIDTH = 0.05


class Profile:
    """
    The distribution of run times of one kind, smoothed.

    :param samples: seconds, above 0.
    """

    __slots__ = ("_chance", "_once", "_step", "_twice", "soonest", "typical")

    def __init__(self, samples: Sequence[float]) -> None:
        logs = sorted(math.log(seconds) for seconds in samples)
        mean = sum(logs) / len(logs)
        deviation = math.sqrt(sum((each - mean) ** 2 for each in logs) / len(logs))
        width = max(_LEAST_WIDTH, deviation * float(len(logs)) ** -0.2) * math.sqrt(2.0)
        self._step = step = math.exp(logs[-1] + 2 * width) / (_STEPS - 1)
        grid = [math.log(step * index) for index in range(1, _STEPS)]
        chance = [0.0]
        chance += [0.5 + 0.5 * sum(math.erf((x - each) / width) for each in logs) / len(logs) for x in grid]
        self._chance = chance
        # Integrals by the trapezoid rule.
        self._once = [0.0, *accumulate((a + b) / 2 * step for a, b in pairwise(chance))]
        once = self._once
        self._twice = [0.0, *accumulate((a + b) / 2 * step for a, b in pairwise(once))]
        #: Seconds that hardly any clip of the kind stays below.
        self.soonest = step * max(1, next((i for i, c in enumerate(chance) if c > 0.01), 1) - 1)
        #: Seconds of the clip in the middle.
        self.typical = math.exp(logs[len(logs) // 2])

    def chance(self, seconds: float) -> float:
        """Return how likely a clip takes at most so long."""
        return self._read(seconds)[0]

    def unseen(self, ran: float, now: float) -> tuple[float, float]:
        """
        Return what to expect of a clip that still ran when it was seen last.

        :param ran: seconds it had run by then.
        :param now: seconds it would have run by now.
        :return: the chance that it is done, and the seconds of lag to expect of it so far.
        """
        chance_then, once_then = self._read(ran)
        chance_now, once_now = self._read(now)
        # The longest seen is not the longest there can be.
        left = max(0.05, 1.0 - chance_then)
        gone = max(0.0, now - ran)
        rest = 0.2 / self.typical
        done = (chance_now - chance_then) / left + rest * gone
        lag = (once_now - once_then - chance_then * gone) / left + rest * gone * gone / 2
        return (done, lag) if done <= 1.0 else (1.0, lag / done)

    def unseen_in_queue(self, gone: float, leaves: float) -> tuple[float, float]:
        """
        Return the same of a clip that was still in the queue when it was seen last.

        :param gone: seconds since then.
        :param leaves: the chance, per second, that a clip leaves the queue.
        """
        _, once = self._read(gone)
        index = min(_STEPS - 1, int(gone / self._step))
        over = gone - index * self._step
        twice = self._twice[index] + (self._once[index] + self._chance[index] * over / 2) * over
        return min(1.0, leaves * once), leaves * twice

    def _read(self, seconds: float) -> tuple[float, float]:
        place = seconds / self._step
        index = int(place)
        if index < 0:
            return 0.0, 0.0
        if index >= _STEPS - 1:
            return 1.0, self._once[-1] + (seconds - self._step * (_STEPS - 1))
        share = place - index
        low, high = self._chance[index], self._chance[index + 1]
        at = low + share * (high - low)
        return at, self._once[index] + (low + at) / 2 * share * self._step


class Durations:
    """What was seen of all kinds; it outlives those that wait, within a process."""

    def __init__(self) -> None:
        self._samples: dict[Hashable, deque[float]] = {}
        self._profiles: dict[Hashable, Profile] = {}
        self._fresh: dict[Hashable, int] = {}

    def add(self, kind: Hashable, seconds: float) -> None:
        """Take in how long one clip ran."""
        if not 0 < seconds < 1e6:
            return
        samples = self._samples.setdefault(kind, deque(maxlen=KEPT))
        samples.append(seconds)
        fresh = self._fresh[kind] = self._fresh.get(kind, 0) + 1
        # Building one takes some milliseconds: not at each clip.
        if len(samples) >= ENOUGH and (fresh >= _DRAWN // 4 or fresh * 4 >= len(samples)):
            each = math.ceil(len(samples) / _DRAWN)
            self._profiles[kind] = Profile(sorted(samples)[each // 2 :: each])
            self._fresh[kind] = 0

    def profile(self, kind: Hashable) -> Profile | None:
        """Return what is known of a kind, once it is enough."""
        return self._profiles.get(kind)
