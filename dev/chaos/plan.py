# SPDX-License-Identifier: Apache-2.0
"""Faults and their times, drawn from a seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

# How often each service is killed, and how long it is down at least and at most (seconds).
DEATHS: Mapping[str, tuple[int, float, float]] = {
    "worker": (3, 2, 15),
    "worker-transfers": (2, 2, 15),
    "triggerer-1": (2, 5, 40),
    "triggerer-2": (2, 5, 40),
    "scheduler": (2, 2, 20),
    "dag-processor": (1, 2, 10),
    "api-server": (1, 2, 8),
    "sandbox": (2, 2, 10),
    "redis": (1, 2, 10),
    "postgres": (1, 2, 8),
    "s3": (1, 30, 30),
}
REFUSALS = {"rate_limit_429": 0.4, "capacity_503": 0.4, "get_429": 0.3, "list_429": 0.3}
RESETS = {
    "reset_before_accept": 0.05,
    "reset_after_accept": 0.1,
    "html_502_accepted": 0.03,
    "get_reset": 0.15,
    "get_hang": 0.03,
    "list_reset": 0.15,
}
# Number of downloads that break off; the next call for the same clip succeeds.
BROKEN_DOWNLOADS = {"result_reset": 20}
CLOCK_SKEW = 120.0


@dataclass(frozen=True)
class Trouble:
    """A fault that begins and ends.

    :param at: seconds after a tenth of the clips was submitted.
    :param seconds: how long it lasts.
    :param name: name in logs and plots.
    :param service: the service that is killed; None if the API misbehaves.
    :param rates: rate of each fault of the API.
    :param strikes: number of calls that get each fault.
    """

    at: float
    seconds: float
    name: str
    service: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    strikes: Mapping[str, int] = field(default_factory=dict)

    @property
    def end(self) -> float:
        return self.at + self.seconds


def draw(seed: int, seconds: float) -> list[Trouble]:
    """Draw a plan that fits into so many seconds; the same one for the same seed."""
    rng = random.Random(seed)
    plan = []
    for service, (times, least, most) in DEATHS.items():
        share = seconds / times
        for turn in range(times):
            away = rng.uniform(least, most)
            begins = turn * share + rng.uniform(0, max(0.0, share - away))
            plan.append(Trouble(round(begins, 1), round(away, 1), f"{service} killed", service=service))
    refused = rng.uniform(0, seconds / 2 - 60)
    plan.append(Trouble(round(refused, 1), 60.0, "API answers 429 and 503", rates=REFUSALS))
    reset = rng.uniform(seconds / 2, seconds - 45)
    lossy = Trouble(round(reset, 1), 45.0, "API resets, hangs, loses answers", rates=RESETS, strikes=BROKEN_DOWNLOADS)
    plan.append(lossy)
    return sorted(plan, key=lambda each: each.at)
