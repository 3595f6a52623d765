# SPDX-License-Identifier: Apache-2.0
"""The lifecycle of requests (queued, processing, ended), driven by events in order of their times."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.job import JobStatus, RenderedFiles, RenderFailure, SandboxJob

GENERATION_FAILED = "Video generation failed: internal inference error"
#: Reason by fault, for faults that end in failure.
REASONS: dict[Fault, object] = {
    Fault.LATE_FAILURE: "Failed to download media",
    Fault.RATE_LIMIT_RECORD: "rate limit exceeded(RPM)",
    Fault.FAILED_NULL: None,
    Fault.FAILED_STRING: GENERATION_FAILED,
    Fault.FAILED_DICT: {"code": "InternalError", "message": GENERATION_FAILED, "status": 500},
    Fault.FAILED_CODE: {"code": 400, "message": "The request was not processed", "status": "INVALID_INPUT"},
    Fault.FAILED_ERRORS: GENERATION_FAILED,
    Fault.FAILED_MESSAGE: GENERATION_FAILED,
    Fault.FAILED_TOP_ERROR: GENERATION_FAILED,
    Fault.FAILED_TOP_REASON: GENERATION_FAILED,
}


def draw_latency(config: SandboxConfig, number: int, duration: int, resolution: str) -> tuple[float, float]:
    """Draw the queue time and the run time of the n-th request in seconds, divided by the speed."""
    roll = random.Random(f"latency:{config.seed}:{number}")
    factor = config.full_hd_factor if resolution == "1080P" else 1.0
    wait = _lognormal(roll, config.queue_seconds, config.queue_sigma)
    run = _lognormal(roll, _median_run(config.run_seconds, duration) * factor, config.run_sigma)
    return wait / config.speed, run / config.speed


def _median_run(medians: Mapping[int, float], duration: int) -> float:
    """Return the median for the next longer clip that has one, or the longest."""
    longer = [seconds for seconds in sorted(medians) if seconds >= duration]
    return medians[longer[0] if longer else max(medians)]


def _lognormal(roll: random.Random, median: float, sigma: float) -> float:
    draw = roll.gauss(0.0, 1.0)
    return median * math.exp(sigma * draw)


class Lifecycle:
    """State machine of all requests.

    :param config: returns the current configuration, which the admin API can change.
    :param on_start: called when a request starts running and needs a clip.
    :param on_end: called when a request has ended.
    """

    def __init__(
        self,
        config: Callable[[], SandboxConfig],
        on_start: Callable[[SandboxJob], None],
        on_end: Callable[[SandboxJob], None],
    ) -> None:
        self._config = config
        self._on_start = on_start
        self._on_end = on_end
        self._events: list[tuple[float, int, SandboxJob]] = []
        self._waiting: deque[SandboxJob] = deque()
        self._counter = 0
        self.running = 0

    def enqueue(self, job: SandboxJob) -> None:
        """Schedule a queued request."""
        if job.life is not Fault.NEVER_RUNS:
            self._schedule(job.ready_at, job)

    def next_event_at(self) -> float | None:
        """Return the Unix time of the next event, or None if none is scheduled."""
        return self._events[0][0] if self._events else None

    def advance(self, now: float) -> None:
        """Process all events that are due."""
        while self._events and self._events[0][0] <= now:
            at, _, job = heapq.heappop(self._events)
            if job.status is JobStatus.QUEUED:
                self._enqueue(job, at)
            elif job.status is JobStatus.PROCESSING:
                self._finish(job, at)

    def complete_render(self, job: SandboxJob, render: RenderedFiles | RenderFailure, now: float) -> None:
        """Handle a rendered clip or a failure to render."""
        if job.status.ended:
            return
        job.render = render
        if isinstance(render, RenderFailure):
            self.end(job, JobStatus.FAILED, render.reason, now)
        elif job.overdue:
            self.end(job, JobStatus.SUCCESS, None, now)

    def force(self, job: SandboxJob, status: JobStatus, reason: object, now: float) -> None:
        """Set the status of a request; success waits for its clip."""
        if job.status.ended:
            return
        if status is JobStatus.PROCESSING or status is JobStatus.SUCCESS:
            if status is JobStatus.SUCCESS:
                job.life = None
            if job.status is JobStatus.QUEUED:
                self._start(job, now)
            elif job.render is None:
                self._on_start(job)
            if status is JobStatus.SUCCESS:
                self._finish(job, now)
        elif status.ended:
            self.end(job, status, reason, now)

    def end(self, job: SandboxJob, status: JobStatus, reason: object, at: float) -> None:
        """End a request and start the next one."""
        if job.status.ended:
            return
        was_running = job.status is JobStatus.PROCESSING
        job.status, job.reason, job.updated_at, job.ended_at = status, reason, at, at
        self._on_end(job)
        if was_running:
            self.running -= 1
            self._start_next(at)

    def _schedule(self, when: float, job: SandboxJob) -> None:
        self._counter += 1
        heapq.heappush(self._events, (when, self._counter, job))

    def _enqueue(self, job: SandboxJob, at: float) -> None:
        if job.life is Fault.NEVER_RUNS:
            return
        self._waiting.append(job)
        self._start_next(at)

    def _start_next(self, at: float) -> None:
        limit = self._config().concurrency
        while self._waiting and (limit is None or self.running < limit):
            job = self._waiting.popleft()
            if job.status is JobStatus.QUEUED:
                self._start(job, at)

    def _start(self, job: SandboxJob, at: float) -> None:
        job.status, job.started_at, job.updated_at = JobStatus.PROCESSING, at, at
        self.running += 1
        if job.render is None and job.life in (None, Fault.SUCCESS_WITHOUT_MEDIA):
            self._on_start(job)
        if job.status is JobStatus.PROCESSING and job.life is not Fault.RUNS_FOREVER:
            self._schedule(at + job.run_seconds, job)

    def _finish(self, job: SandboxJob, at: float) -> None:
        if job.status.ended or job.life is Fault.RUNS_FOREVER:
            return
        if job.life is Fault.CANCELLED:
            self.end(job, JobStatus.CANCELLED, None, at)
        elif job.life in REASONS:
            self.end(job, JobStatus.FAILED, REASONS[job.life], at)
        elif isinstance(job.render, RenderedFiles):
            self.end(job, JobStatus.SUCCESS, None, at)
        else:
            job.overdue = True
