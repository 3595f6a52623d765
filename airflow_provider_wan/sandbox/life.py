# SPDX-License-Identifier: Apache-2.0
"""The life of requests: queued, processing, ended; moved by events in the order of their times."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.job import Job, Rendered, RenderFailed, Status

GENERATION_FAILED = "Video generation failed: internal inference error"
#: Lives that end badly, and what is said of them.
REASONS: dict[Fault, object] = {
    Fault.LATE_FAILURE: "Failed to download media",
    Fault.RATE_LIMIT_RECORD: "rate limit exceeded(RPM)",
    Fault.FAILED_NULL: None,
    Fault.FAILED_STRING: GENERATION_FAILED,
    Fault.FAILED_DICT: {"code": "InternalError", "message": GENERATION_FAILED, "status": 500},
    Fault.FAILED_MESSAGE: GENERATION_FAILED,
    Fault.FAILED_TOP_ERROR: GENERATION_FAILED,
    Fault.FAILED_TOP_REASON: GENERATION_FAILED,
}


def draw_latency(config: SandboxConfig, number: int, duration: int, resolution: str) -> tuple[float, float]:
    """Seconds in the queue and seconds running for the n-th request, after the speed-up."""
    roll = random.Random(f"latency:{config.seed}:{number}")
    factor = config.full_hd_factor if resolution == "1080P" else 1.0
    wait = _lognormal(roll, config.queue_seconds, config.queue_sigma)
    run = _lognormal(roll, config.run_seconds[duration] * factor, config.run_sigma)
    return wait / config.speed, run / config.speed


def _lognormal(roll: random.Random, median: float, sigma: float) -> float:
    draw = roll.gauss(0.0, 1.0)
    return median * math.exp(sigma * draw)


class Life:
    """Moves requests from one status to the next.

    :param config: asked anew each time, since an admin may change it.
    :param on_start: called when a request begins to run and a clip will be wanted of it.
    :param on_end: called when a request has ended.
    """

    def __init__(
        self,
        config: Callable[[], SandboxConfig],
        on_start: Callable[[Job], None],
        on_end: Callable[[Job], None],
    ) -> None:
        self._config = config
        self._on_start = on_start
        self._on_end = on_end
        self._events: list[tuple[float, int, Job]] = []
        self._waiting: deque[Job] = deque()
        self._counter = 0
        self.running = 0

    def admit(self, job: Job) -> None:
        """Take a queued request in."""
        if job.life is not Fault.NEVER_RUNS:
            self._at(job.ready_at, job)

    def next_at(self) -> float | None:
        """When something happens next by itself."""
        return self._events[0][0] if self._events else None

    def advance(self, now: float) -> None:
        """Let everything happen that is due."""
        while self._events and self._events[0][0] <= now:
            at, _, job = heapq.heappop(self._events)
            if job.status is Status.QUEUED:
                self._ready(job, at)
            elif job.status is Status.PROCESSING:
                self._due(job, at)

    def rendered(self, job: Job, render: Rendered | RenderFailed, now: float) -> None:
        """The clip was made, or could not be."""
        if job.status.ended:
            return
        job.render = render
        if isinstance(render, RenderFailed):
            self.end(job, Status.FAILED, render.reason, now)
        elif job.overdue:
            self.end(job, Status.SUCCESS, None, now)

    def force(self, job: Job, status: Status, reason: object, now: float) -> None:
        """Bring a request to ``status`` at once; a success waits for its clip."""
        if job.status.ended:
            return
        if status is Status.PROCESSING or status is Status.SUCCESS:
            if status is Status.SUCCESS:
                job.life = None
            if job.status is Status.QUEUED:
                self._start(job, now)
            elif job.render is None:
                self._on_start(job)
            if status is Status.SUCCESS:
                self._due(job, now)
        elif status.ended:
            self.end(job, status, reason, now)

    def end(self, job: Job, status: Status, reason: object, at: float) -> None:
        """End a request and give its place to the next."""
        if job.status.ended:
            return
        was_running = job.status is Status.PROCESSING
        job.status, job.reason, job.updated_at, job.ended_at = status, reason, at, at
        self._on_end(job)
        if was_running:
            self.running -= 1
            self._fill(at)

    def _at(self, when: float, job: Job) -> None:
        self._counter += 1
        heapq.heappush(self._events, (when, self._counter, job))

    def _ready(self, job: Job, at: float) -> None:
        if job.life is Fault.NEVER_RUNS:
            return
        self._waiting.append(job)
        self._fill(at)

    def _fill(self, at: float) -> None:
        limit = self._config().concurrency
        while self._waiting and (limit is None or self.running < limit):
            job = self._waiting.popleft()
            if job.status is Status.QUEUED:
                self._start(job, at)

    def _start(self, job: Job, at: float) -> None:
        job.status, job.started_at, job.updated_at = Status.PROCESSING, at, at
        self.running += 1
        if job.render is None and job.life in (None, Fault.SUCCESS_WITHOUT_MEDIA):
            self._on_start(job)
        if job.status is Status.PROCESSING and job.life is not Fault.RUNS_FOREVER:
            self._at(at + job.run_seconds, job)

    def _due(self, job: Job, at: float) -> None:
        if job.status.ended or job.life is Fault.RUNS_FOREVER:
            return
        if job.life is Fault.CANCELLED:
            self.end(job, Status.CANCELLED, None, at)
        elif job.life in REASONS:
            self.end(job, Status.FAILED, REASONS[job.life], at)
        elif isinstance(job.render, Rendered):
            self.end(job, Status.SUCCESS, None, at)
        else:
            job.overdue = True
