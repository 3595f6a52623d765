# SPDX-License-Identifier: Apache-2.0
"""The least number of polls, if one page shows all waiting requests and the distribution of run times is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from benchmarks.service import FULL_HD, RUN_SECONDS, RUN_SIGMA, Job

# Seconds between the moments at which a poll may be made.
STEP = 0.5
_ROUNDS = 14


def ends(jobs: Sequence[Job], warm: float) -> list[float]:
    """How many clips end in each step after ``warm``, as is to be expected of those that began to run when they did."""
    shares: dict[tuple[str, int], list[float]] = {}
    last = max(job.ended for job in jobs)
    expected = [0.0] * (int((last - warm) / STEP) + 1)
    for job in jobs:
        share = shares.get(job.kind) or shares.setdefault(job.kind, _shares(job.kind))
        first = round((job.started - warm) / STEP)
        for index, value in enumerate(share, first):
            if 0 <= index < len(expected):
                expected[index] += value
    return expected


def _shares(kind: tuple[str, int]) -> list[float]:
    median = RUN_SECONDS[kind[1]] * (FULL_HD if kind[0] == "1080P" else 1.0)
    steps = int(median * math.exp(3.5 * RUN_SIGMA) / STEP)
    chances = [
        0.5 + 0.5 * math.erf(math.log(step * STEP / median) / RUN_SIGMA / math.sqrt(2)) for step in range(1, steps)
    ]
    return [later - earlier for earlier, later in zip([0.0, *chances], chances, strict=False)]


def fewest(expected: Sequence[float], median: float, most: float) -> float:
    """
    Return how many polls it takes at least for half of the ends to be seen within ``median`` seconds, and 99% within
    ``most``.

    It is Lagrange's dual of that: no choice of moments that knows no more than the distribution needs fewer.
    """
    summed = [0.0, *accumulate(expected)]
    near, far = round(median / STEP), round(most / STEP)
    total = summed[-1]

    def dual(price_near: float, price_far: float) -> float:
        best, rests = [0.0], [0.0]
        for now in range(1, len(summed)):
            at = summed[now]
            gains = [
                price_near * (at - summed[max(0, now - min(near, gap))]) + price_far * (at - summed[max(0, now - gap)])
                for gap in range(1, far + 1)
            ]
            found = min(best[now - gap] - gains[gap - 1] for gap in range(1, min(far, now) + 1))
            if now >= far:
                found = min(found, rests[now - far] - gains[-1])
            best.append(1.0 + found)
            rests.append(min(rests[-1], best[-1]))
        return rests[-1] + price_near * 0.5 * total + price_far * 0.99 * total

    price_far, value = 0.0, 0.0
    for _ in range(2):
        price_near, value = _highest(lambda price, far=price_far: dual(price, far))  # type: ignore[misc]
        price_far, value = _highest(lambda price, near=price_near: dual(near, price))  # type: ignore[misc]
    return value


def _highest(of: Callable[[float], float]) -> tuple[float, float]:
    """The place and the height of the top of a concave function, from 0 up to where it falls."""
    low, high = 0.0, 8.0
    for _ in range(_ROUNDS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if of(left) < of(right):
            low = left
        else:
            high = right
    middle = (low + high) / 2
    return middle, of(middle)
