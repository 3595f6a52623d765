# SPDX-License-Identifier: Apache-2.0
"""A model of the service for the simulation: when requests come, begin to run and end, and its list. No sockets."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from dataclasses import dataclass, field

from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus

KINDS = (("720P", 5), ("720P", 10), ("720P", 15), ("1080P", 5), ("1080P", 10), ("1080P", 15))
BURST_KINDS = (("720P", 5), ("1080P", 10))
RUN_SECONDS = {5: 60.0, 10: 110.0, 15: 170.0}
FULL_HD = 1.6
RUN_SIGMA = 0.3
QUEUE_SECONDS, QUEUE_SIGMA = 20.0, 0.8


@dataclass(slots=True)
class Job:
    """One request: Unix seconds of its stations."""

    request_id: str
    kind: tuple[str, int]
    created: float
    started: float
    ended: float

    def record(self, now: float) -> RequestRecord:
        """Return the API's record of it; its times are whole seconds."""
        if now < self.started:
            status, updated = RequestStatus.QUEUED, self.created
        elif now < self.ended:
            status, updated = RequestStatus.PROCESSING, self.started
        else:
            status, updated = RequestStatus.SUCCESS, self.ended
        return RequestRecord(
            self.request_id,
            status,
            status.value,
            created_at=math.floor(self.created),
            updated_at=math.floor(updated),
            payload={"resolution": self.kind[0], "duration": self.kind[1]},
        )


@dataclass
class Service:
    """All requests of one account, in the order of their creation."""

    jobs: list[Job]
    by_id: dict[str, Job] = field(init=False)
    created: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.jobs.sort(key=lambda job: job.created)
        self.by_id = {job.request_id: job for job in self.jobs}
        self.created = [job.created for job in self.jobs]

    def page(self, offset: int, limit: int, now: float) -> RequestPage:
        """Return a page of the list, newest first, including finished requests."""
        count = bisect_right(self.created, now)
        end = max(0, count - offset)
        rows = self.jobs[max(0, end - limit) : end][::-1]
        return RequestPage(tuple(job.record(now) for job in rows), len(rows), count, offset + len(rows) < count)


def run_seconds(roll: random.Random, kind: tuple[str, int]) -> float:
    """Draw a clip's run time: lognormal, around medians that are plausible for the service."""
    median = RUN_SECONDS[kind[1]] * (FULL_HD if kind[0] == "1080P" else 1.0)
    return median * math.exp(RUN_SIGMA * roll.gauss(0, 1))


def queue_seconds(roll: random.Random) -> float:
    """Draw a clip's time in a queue that is not full."""
    return QUEUE_SECONDS * math.exp(QUEUE_SIGMA * roll.gauss(0, 1))


def steady(flight: int, hours: float, seed: int) -> list[Job]:
    """Generate requests of all kinds at random times, with ``flight`` in flight on average."""
    roll = random.Random(f"steady:{seed}")
    run = sum(RUN_SECONDS[d] * (FULL_HD if r == "1080P" else 1.0) for r, d in KINDS) / len(KINDS)
    stay = run * math.exp(RUN_SIGMA**2 / 2) + QUEUE_SECONDS * math.exp(QUEUE_SIGMA**2 / 2)
    jobs: list[Job] = []
    now = 0.0
    while now < hours * 3600:
        now += roll.expovariate(flight / stay)
        kind = roll.choice(KINDS)
        started = now + queue_seconds(roll)
        jobs.append(Job(f"r{len(jobs)}", kind, now, started, started + run_seconds(roll, kind)))
    return jobs


def bursts(flight: int, hours: float, seed: int) -> list[Job]:
    """Generate two alternating hourly Dags, each with its own kind, that submit ``flight`` clips within a minute."""
    # The seed has the name of the load in 0.1, so that the published figures can be measured again.
    roll = random.Random(f"waves:{seed}")
    jobs: list[Job] = []
    for burst in range(math.ceil(hours * 2)):
        kind = BURST_KINDS[burst % len(BURST_KINDS)]
        for number in range(flight):
            now = burst * 1800.0 + 60.0 * number / flight
            started = now + queue_seconds(roll)
            jobs.append(Job(f"r{len(jobs)}", kind, now, started, started + run_seconds(roll, kind)))
    return jobs


def queued(flight: int, hours: float, seed: int, share: int = 10) -> list[Job]:
    """
    Generate a full queue: the service runs a tenth of ``flight`` at a time, in the order of submission.

    A new request arrives for each one that ends, so that ``flight`` are always in flight.
    """
    roll = random.Random(f"queued:{seed}")
    slots = [0.0] * max(1, flight // share)
    jobs: list[Job] = []
    ends: list[float] = []
    for number in range(flight):
        created = 60.0 * number / flight
        _run(roll, jobs, slots, ends, created)
    while (now := heapq.heappop(ends)) < hours * 3600:
        _run(roll, jobs, slots, ends, now + roll.uniform(0.0, 2.0))
    return jobs


def _run(roll: random.Random, jobs: list[Job], slots: list[float], ends: list[float], created: float) -> None:
    kind = KINDS[roll.randrange(len(KINDS))]
    started = max(created + 1.0, heapq.heappop(slots))
    ended = started + run_seconds(roll, kind)
    heapq.heappush(slots, ended)
    heapq.heappush(ends, ended)
    jobs.append(Job(f"r{len(jobs)}", kind, created, started, ended))


LOADS = {"steady": steady, "bursts": bursts, "queued": queued}
