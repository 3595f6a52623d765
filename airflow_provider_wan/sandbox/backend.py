# SPDX-License-Identifier: Apache-2.0
"""The state of the sandbox behind its handlers: requests, journal, faults, account balance and time.

It opens no socket and reads no wall clock: the same seed and the same calls give the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from airflow_provider_wan.sandbox.blob_store import BlobStore, MemoryBlobStore
from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault, FaultPlan, InjectionPoint
from airflow_provider_wan.sandbox.job import (
    JobOrigin,
    JobStatus,
    RenderedFiles,
    RenderFailure,
    SandboxJob,
    build_request_id,
)
from airflow_provider_wan.sandbox.job_store import JobStore
from airflow_provider_wan.sandbox.journal import AcceptedRecord, CallJournal, CallRecord, ChargeRecord
from airflow_provider_wan.sandbox.lifecycle import Lifecycle, draw_latency
from airflow_provider_wan.sandbox.rendering.mp4_boxes import skeleton

EventSink = Callable[[dict[str, Any]], None]


@dataclass
class UploadTicket:
    """One presigned upload URL.

    :param expires_at: Unix time in seconds.
    """

    name: str
    content_type: str
    signature: str
    expires_at: float


class Renderer(Protocol):
    """Renders clips and reports each one with :meth:`SandboxBackend.complete_render`, at once or later."""

    def start(self, job: SandboxJob) -> None:
        """Start rendering the clip of a request, unless that has been started already."""


class SandboxBackend:
    """State and transitions of the request queue.

    :param config: behaviour of the sandbox.
    :param clock: returns the Unix time in seconds.
    :param result_bytes: returns the bytes of a clip where nothing is rendered; default: a minimal MP4 file.
    :param blobs: storage of clips and uploads; default: in memory.
    :param sink: called with each event that must outlive the process, before the response is sent.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        clock: Callable[[], float],
        result_bytes: Callable[[SandboxJob], bytes] | None = None,
        blobs: BlobStore | None = None,
        sink: EventSink | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self.blobs: BlobStore = blobs or MemoryBlobStore()
        self.result_bytes = result_bytes or (lambda job: skeleton(job.duration))
        self.result_base = "http://results.sandbox.invalid"
        self.other_base = "http://elsewhere.sandbox.invalid"
        self.renderer: Renderer | None = None
        self.sink: EventSink | None = sink
        self._clock = clock
        self._offset = 0.0
        self._clear()

    def _clear(self) -> None:
        self.faults = FaultPlan(self.config.seed, self.config.rates)
        self.journal = CallJournal(self.config.journal_limit)
        self.jobs = JobStore()
        self.lifecycle = Lifecycle(lambda: self.config, self._on_job_started, self._on_job_ended)
        self.tickets: dict[str, UploadTicket] = {}
        self.outage_until = 0.0
        self.credits = self.config.credits
        self.reserved = 0.0

    # -- time ---------------------------------------------------------------

    def now(self) -> float:
        """Return the Unix time in seconds, including the offset set through the admin API."""
        return self._clock() + self._offset

    def shift(self, seconds: float) -> None:
        """Ledger the time by ``seconds``."""
        self._offset += seconds
        self.tick()

    def tick(self) -> float | None:
        """Process all events that are due.

        :returns: seconds until the next event, or None if none is scheduled.
        """
        now = self.now()
        self.lifecycle.advance(now)
        at = self.lifecycle.next_event_at()
        return None if at is None else max(0.0, at - now)

    def retry_after(self, seconds: float) -> float | None:
        """Return the value for ``Retry-After`` in seconds, or None if the header is turned off."""
        return seconds if self.config.retry_after else None

    # -- requests -----------------------------------------------------------

    def create_job(self, org: str, model: str, payload: Mapping[str, Any], fields: Mapping[str, Any]) -> SandboxJob:
        """Create a request and draw its latency and its faults.

        :param fields: values that injected faults are matched with.
        """
        now = self.now()
        number = self.jobs.last_number + 1
        job = SandboxJob(
            request_id=build_request_id(self.config.seed, number),
            number=number,
            model=model,
            payload=payload,
            org_id=org,
            created_at=now,
            updated_at=now,
            ready_at=now,
            run_seconds=0.0,
        )
        wait, job.run_seconds = draw_latency(self.config, number, job.duration, job.resolution)
        job.ready_at = now + wait
        job.life = self.faults.take(InjectionPoint.LIFE, fields)
        job.shapes = self.faults.take_all(InjectionPoint.SHAPE, fields)
        job.result_fault = self.faults.take_rolled(InjectionPoint.RESULT)
        if job.life is Fault.LATE_FAILURE:
            job.run_seconds = self.config.late_failure_seconds / self.config.speed
        elif job.life is Fault.RATE_LIMIT_RECORD:
            job.run_seconds = 0.0
        return job

    def accept(self, job: SandboxJob, fault: Fault | None = None) -> None:
        """Accept a request and persist it."""
        self._register(job, fault)
        self.persist({"event": "accepted", "job": job.to_dict(), "fault": fault})
        if job.origin is not JobOrigin.REFUSED:
            self.lifecycle.enqueue(job)
        self.lifecycle.advance(self.now())

    def _register(self, job: SandboxJob, fault: Fault | None) -> None:
        self.jobs.add(job)
        if job.origin in (JobOrigin.API, JobOrigin.SEED):
            record = AcceptedRecord(job.request_id, job.created_at, job.model, job.payload, job.origin, fault)
            self.journal.accepted.append(record)
        if job.origin is JobOrigin.API:
            self.reserved += job.price(self.config.prices)

    def complete_render(self, request_id: str, render: RenderedFiles | RenderFailure) -> None:
        """Handle the outcome of a renderer."""
        job = self.jobs.get(request_id)
        if job is not None:
            self.lifecycle.complete_render(job, render, self.now())

    def _on_job_started(self, job: SandboxJob) -> None:
        if self.renderer is None:
            self.lifecycle.complete_render(job, RenderedFiles(f"{job.request_id}.mp4"), self.now())
        else:
            self.renderer.start(job)

    def _on_job_ended(self, job: SandboxJob) -> None:
        render = job.render
        files = [render.video, render.thumbnail] if isinstance(render, RenderedFiles) else None
        price = job.price(self.config.prices)
        self.persist(
            {
                "event": "ended",
                "request_id": job.request_id,
                "status": job.status,
                "reason": job.reason,
                "time": job.ended_at,
                "started_at": job.started_at,
                "life": job.life,
                "files": files,
            }
        )
        if job.origin is JobOrigin.API:
            self.reserved -= price
        if job.status is JobStatus.SUCCESS and job.origin is not JobOrigin.CONSOLE:
            time = job.ended_at or 0.0
            charge = ChargeRecord(job.request_id, time, price, job.duration, job.resolution, job.origin)
            self.journal.charges.append(charge)
            if self.credits is not None:
                self.credits -= price

    # -- persistence and administration -------------------------------------

    def reset(self) -> None:
        """Forget requests, journal, faults and uploads; request ids are not reused."""
        last = self.jobs.last_number
        self._clear()
        self.jobs.last_number = last
        self.persist({"event": "reset"})

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Restore the state of an earlier process from the events that its sink received."""
        sink, self.sink = self.sink, None
        for event in events:
            self._replay_event(event)
        self.sink = sink
        for job in self.jobs:
            if not job.status.ended and job.origin is not JobOrigin.REFUSED:
                self.lifecycle.enqueue(job)

    def _replay_event(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "reset":
                self.reset()
            case "accepted":
                job = SandboxJob.from_dict(event["job"])
                self._register(job, Fault(event["fault"]) if event["fault"] else None)
            case "ended":
                ended = self.jobs.get(event["request_id"])
                if ended is not None:
                    ended.started_at = event["started_at"]
                    ended.life = Fault(event["life"]) if event["life"] else None
                    ended.render = RenderedFiles(*event["files"]) if event["files"] else None
                    ended.status, ended.reason = JobStatus(event["status"]), event["reason"]
                    ended.updated_at = ended.ended_at = event["time"]
                    self._on_job_ended(ended)
            case "upload":
                ticket = UploadTicket(**event["ticket"])
                self.tickets[ticket.name] = ticket
            case "call":
                self.journal.record_call(CallRecord(**event["call"]))

    def persist(self, event: dict[str, Any]) -> None:
        """Hand an event to the sink."""
        if self.sink is not None:
            self.sink(event)

    def configure(self, **changes: Any) -> None:
        """Change settings at run time."""
        self.config = replace(self.config, **changes)
        if "credits" in changes:
            self.credits = self.config.credits
