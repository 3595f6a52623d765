# SPDX-License-Identifier: Apache-2.0
"""Faults and their times, drawn from a seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

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
# How long a service reaches nothing but the API, at least and at most (seconds). Airflow gives the tasks of a silent
# worker to another try after 30 s, and the clips of a silent triggerer to the other one after 15 s.
PARTITIONS: Mapping[str, tuple[float, float]] = {
    "worker": (20, 60),
    "worker-transfers": (20, 60),
    "triggerer-1": (20, 60),
}
# Seconds by which the clock of a service is wrong.
CLOCKS: Mapping[str, float] = {"worker": 45.0, "worker-transfers": -45.0}
SLOW_SECONDS = 0.3
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


class Effect(Enum):
    """What a fault does."""

    KILLED = "killed"
    CUT_OFF = "cut off its network"
    SLOW = "slow"
    FULL = "full"
    FAULTY = "faulty"


@dataclass(frozen=True)
class Trouble:
    """A fault that begins and ends.

    :param at: seconds after a tenth of the clips was submitted.
    :param seconds: how long it lasts.
    :param name: name in logs and plots.
    :param service: the service that has it.
    :param effect: what it does to the service.
    :param rates: rate of each fault of the API.
    :param strikes: number of calls that get each fault.
    """

    at: float
    seconds: float
    name: str
    service: str
    effect: Effect = Effect.KILLED
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
    plan.append(_faulty_api(refused, 60.0, "API answers 429 and 503", rates=REFUSALS))
    reset = rng.uniform(seconds / 2, seconds - 45)
    plan.append(_faulty_api(reset, 45.0, "API resets, hangs, loses answers", rates=RESETS, strikes=BROKEN_DOWNLOADS))
    for service, (least, most) in PARTITIONS.items():
        away = rng.uniform(least, most)
        name = f"{service} cut off"
        plan.append(Trouble(_begin(rng, seconds, away), round(away, 1), name, service, Effect.CUT_OFF))
    plan.append(Trouble(_begin(rng, seconds, 40.0), 40.0, "S3 slow", "s3", Effect.SLOW))
    plan.append(Trouble(_begin(rng, seconds, 30.0), 30.0, "S3 full", "s3", Effect.FULL))
    return sorted(plan, key=lambda each: each.at)


def _begin(rng: random.Random, seconds: float, away: float) -> float:
    return round(rng.uniform(0, seconds - away), 1)


def _faulty_api(at: float, seconds: float, name: str, **faults: Mapping[str, Any]) -> Trouble:
    return Trouble(round(at, 1), seconds, name, "sandbox", Effect.FAULTY, **faults)
