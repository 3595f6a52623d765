# SPDX-License-Identifier: Apache-2.0
"""Lag against requests, simulated: the hub's scheduler, fixed intervals, back-off, the even sweep and an oracle."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.polling.decision import PAGE_SIZE, PollTarget
from airflow_provider_wan.polling.runtime_stats import RuntimeStats
from airflow_provider_wan.polling.scheduler import TICK_SECONDS, PollScheduler
from airflow_provider_wan.polling.throttle import RateLimiter
from benchmarks.service import Job, Service

# Response time of a request.
ANSWER_SECONDS = 0.2
# How long a trigger waits after its deferral.
DEFERRAL_SECONDS = 8.0


@dataclass(frozen=True)
class Result:
    """Result of one polling strategy: lags in seconds of the clips that count, and the number of requests."""

    lags: Sequence[float]
    requests: int

    def lag(self, share: float) -> float:
        """A quantile of the lags."""
        ordered = sorted(self.lags)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def ours(service: Service, warm: float, poll: float, rate: float, largest: int = 1000) -> Result:
    """The scheduler and the rate limiter of the hub, driven by the clock of the simulation."""
    scheduler, limiter, roll = PollScheduler(RuntimeStats()), RateLimiter(), random.Random(1)
    tick = min(TICK_SECONDS, poll / 4)
    now, coming, requests, lags = 0.0, 0, 0, []
    jobs = service.jobs
    answers: list[tuple[float, int, Callable[[float], None]]] = []
    count = 0

    def on_page(poll_: Any, polled_at: Any) -> Any:
        def take(at: Any) -> None:
            for record in scheduler.on_page(
                poll_, service.page(poll_.offset, min(poll_.limit, largest), polled_at), polled_at, at
            ):
                end(record, at)

        return take

    def on_record(poll_: Any, polled_at: Any) -> Any:
        def take(at: Any) -> None:
            record = service.by_id[poll_.request_id].record(polled_at)
            scheduler.on_record(poll_, record, polled_at, at)
            end(record, at)

        return take

    def end(record: Any, at: Any) -> None:
        # A page may have contained it while it was polled by its id.
        if record.status.is_terminal and record.request_id in scheduler.requests:
            job = service.by_id[record.request_id]
            scheduler.remove(record.request_id)
            if job.ended >= warm:
                lags.append(at - job.ended)

    while coming < len(jobs) or scheduler.requests:
        while coming < len(jobs) and jobs[coming].created <= now:
            job = jobs[coming]
            coming += 1
            scheduler.add(
                PollTarget(
                    job.request_id,
                    job.created + 86400,
                    job.created + DEFERRAL_SECONDS,
                    poll,
                    None,
                    *job.kind,
                    math.floor(job.created),
                ),
                now,
                roll.uniform(-1, 1),
            )
        while answers and answers[0][0] <= now:
            at, _, take = heapq.heappop(answers)
            take(at)
        polls, again = scheduler.select_polls(now, max(1, round(rate * tick)), rate)
        last = now
        for poll_ in polls:
            while (left := limiter.acquire(last, rate)) > 0:
                last += left
            polled_at = last
            requests += polled_at >= warm
            take = on_page(poll_, polled_at) if poll_.request_id is None else on_record(poll_, polled_at)
            count += 1
            heapq.heappush(answers, (polled_at + ANSWER_SECONDS, count, take))
        arrival = jobs[coming].created if coming < len(jobs) else math.inf
        # As in the hub, responses in between do not bring the next choice forward.
        now = max(last, now + tick, min(again, arrival, answers[0][0] if answers else math.inf))
    return Result(lags, requests)


def even_sweep(
    service: Service, warm: float, poll: float, rate: float, page: int = PAGE_SIZE, *, listed: bool = False
) -> tuple[Result, float]:
    """
    Read all waiting requests at an even pace.

    :param page: requests on one page.
    :param listed: read the list as it is, with finished requests between the waiting ones, from the newest waiting
        request to the oldest. Otherwise it is the bound: pages that contain only waiting requests.
    :return: its requests and its lags, and the longest sweep.
    """
    moments = sorted(
        [(job.created, 1, number) for number, job in enumerate(service.jobs)]
        + [(job.ended, -1, number) for number, job in enumerate(service.jobs)]
    )
    waits = [False] * len(service.jobs)
    requests, waiting, before, longest, oldest, newest = 0.0, 0, 0.0, 0.0, 0, -1
    sweeps: list[tuple[float, float]] = []
    for at, change, number in moments:
        pages = math.ceil((newest - oldest + 1 if listed and waiting else waiting) / page)
        sweep = max(poll, pages / rate)
        if waiting and at > warm:
            requests += pages * (at - max(before, warm)) / sweep
        waiting, before = waiting + change, at
        waits[number] = change > 0
        newest = max(newest, number)
        while waiting and not waits[newest]:
            newest -= 1
        while waiting and not waits[oldest]:
            oldest += 1
        if at > warm and change < 0:
            sweeps.append((at, sweep))
            longest = max(longest, sweep)
    roll = random.Random(2)
    lags = [roll.random() * sweep + ANSWER_SECONDS for _, sweep in sweeps]
    return Result(lags, round(requests)), longest


def singles(service: Service, warm: float, rate: float, pause: Callable[[int], float]) -> Result:
    """Send one request per clip and poll, in the order in which they are due, within the rate."""
    roll = random.Random(3)
    due = [
        (job.created + DEFERRAL_SECONDS + roll.random() * pause(0), number, 0)
        for number, job in enumerate(service.jobs)
    ]
    heapq.heapify(due)
    free, requests, lags = 0.0, 0, []
    while due:
        at, number, polls = heapq.heappop(due)
        at = max(at, free)
        free = at + 1.0 / rate
        requests += at >= warm
        job = service.jobs[number]
        if job.ended <= at:
            if job.ended >= warm:
                lags.append(at + ANSWER_SECONDS - job.ended)
        else:
            heapq.heappush(due, (at + pause(polls) * roll.uniform(0.9, 1.1), number, polls + 1))
    return Result(lags, requests)


def oracle(service: Service, warm: float, rate: float) -> Result:
    """One request per clip, at its end or as soon after as the rate allows."""
    free, lags = 0.0, []
    for ended in sorted(job.ended for job in service.jobs):
        at = max(ended, free)
        free = at + 1.0 / rate
        if ended >= warm:
            lags.append(at + ANSWER_SECONDS - ended)
    return Result(lags, len(lags))


def jobs_in_flight(jobs: Sequence[Job], warm: float) -> float:
    """Return how many were in flight on average."""
    end = max(job.ended for job in jobs)
    return sum(max(0.0, job.ended - max(job.created, warm)) for job in jobs) / (end - warm)
