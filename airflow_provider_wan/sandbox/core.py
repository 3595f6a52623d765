# SPDX-License-Identifier: Apache-2.0
"""The API as a function of calls and time: no socket, no wall clock, the same for the same seed and calls.

:class:`SandboxCore` is what the server puts on sockets and what a simulation calls directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from airflow_provider_wan.sandbox import answers, checks, view
from airflow_provider_wan.sandbox.admin import Admin
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.blobs import Blobs, MemoryBlobs
from airflow_provider_wan.sandbox.boxes import skeleton
from airflow_provider_wan.sandbox.catalog import describe_model
from airflow_provider_wan.sandbox.config import BASE_PATH, SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault, FaultPlan
from airflow_provider_wan.sandbox.job import Job, Origin, Rendered, RenderFailed, Status
from airflow_provider_wan.sandbox.journal import Accepted, Call, Charge, Journal
from airflow_provider_wan.sandbox.life import Life
from airflow_provider_wan.sandbox.reads import Reads
from airflow_provider_wan.sandbox.results import Results
from airflow_provider_wan.sandbox.store import JobStore
from airflow_provider_wan.sandbox.submission import Submissions
from airflow_provider_wan.sandbox.uploads import Uploads

Sink = Callable[[dict[str, Any]], None]


class Renderer(Protocol):
    """Makes clips; tells the core through :meth:`SandboxCore.rendered` when one is made, at once or later."""

    def start(self, job: Job) -> None:
        """Begin to make a request's clip, unless that has begun."""


class SandboxCore:
    """The request-queue API.

    :param config: how it behaves.
    :param clock: Unix time in seconds.
    :param result_bytes: bytes of a request's clip where nothing is rendered; default: a skeleton of an MP4.
    :param blobs: where clips and uploads lie; default: in memory.
    :param sink: called with each event that must outlive the process, before the answer is sent.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        clock: Callable[[], float],
        result_bytes: Callable[[Job], bytes] | None = None,
        blobs: Blobs | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self.blobs: Blobs = blobs or MemoryBlobs()
        self.result_bytes = result_bytes or (lambda job: skeleton(job.duration))
        self.result_base = "http://results.sandbox.invalid"
        self.other_base = "http://elsewhere.sandbox.invalid"
        self.renderer: Renderer | None = None
        self.sink: Sink | None = sink
        self._clock = clock
        self._shift = 0.0
        self._fresh()

    def _fresh(self) -> None:
        self.faults = FaultPlan(self.config.seed, self.config.rates)
        self.journal = Journal(self.config.journal_limit)
        self.jobs = JobStore()
        self.life = Life(lambda: self.config, self._started, self._ended)
        self.uploads = Uploads(self)
        self.results = Results(self)
        self.reads = Reads(self)
        self.submissions = Submissions(self)
        self.admin = Admin(self)
        self.outage_until = 0.0
        self.credits = self.config.credits
        self.reserved = 0.0

    # -- time ---------------------------------------------------------------

    def now(self) -> float:
        """The time, with what an admin has moved it by."""
        return self._clock() + self._shift

    def shift(self, seconds: float) -> None:
        """Move the time on."""
        self._shift += seconds
        self.tick()

    def tick(self) -> float | None:
        """Let happen what is due; seconds until something happens next by itself, or None."""
        now = self.now()
        self.life.advance(now)
        at = self.life.next_at()
        return None if at is None else max(0.0, at - now)

    # -- calls --------------------------------------------------------------

    def handle(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Answer one call to the API (or to ``/admin``).

        :param path: with or without the base path.
        :param body: the bytes that were sent.
        :returns: the answer, or with ``wire`` other than ``send`` the way in which none is given.
        """
        params, lower = params or {}, _lower(headers)
        self.tick()
        if path == "/admin" or path.startswith("/admin/"):
            return self.admin.handle(method, path, params, body)
        inner = path.removeprefix(BASE_PATH)
        answer = checks.check_access(self.config, lower) or self._route(method, inner, params, lower, body)
        self._note("api", method, inner, params, lower, answer)
        return answer

    def handle_result(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Answer one call to the host of results and uploads."""
        params, lower = params or {}, _lower(headers)
        self.tick()
        answer = self.results.handle(method, path, params, lower, body)
        self._note("result", method, path, {}, lower, answer)
        return answer

    def submitted(self, request_id: str) -> Answer:
        """The answer to a submission that had to wait for its end (see ``Answer.wait_for``)."""
        job = self.jobs.get(request_id)
        if job is None:
            return answers.internal_error()
        return answers.as_json(200, view.submitted(job, self.now(), self.config, self.result_base))

    def _route(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        org = checks.organization_of(self.config, headers)
        match (method, path.strip("/").split("/")):
            case ("POST", ["requests"]):
                return self.submissions.submit(org, headers, body)
            case ("POST", ["upload-url"]):
                return self.uploads.ticket(headers, body)
            case ("DELETE", ["requests", request_id]):
                return self.reads.cancel(org, request_id)
            case ("GET", ["requests"]):
                return self.reads.list(org, params)
            case ("GET", ["requests", request_id]):
                return self.reads.get(org, request_id)
            case ("GET", ["models"]):
                return answers.as_json(200, {"model_ids": list(self.config.models)})
            case ("GET", ["models", model]):
                if model not in self.config.models:
                    return answers.no_model(model)
                return answers.as_json(200, describe_model(model, self.config))
            case (_, ["requests"] | ["requests", _] | ["models"] | ["models", _] | ["upload-url"]):
                return answers.error(405, "method not allowed")
        return answers.error(404, "not found")

    def retry_after(self, seconds: float) -> float | None:
        """What ``Retry-After`` says, where it is given."""
        return seconds if self.config.retry_after else None

    # -- requests -----------------------------------------------------------

    def accept(self, job: Job, fault: Fault | None = None) -> None:
        """Take a request in, and make it durable."""
        self._enter(job, fault)
        self.keep({"event": "accepted", "job": job.to_dict(), "fault": fault})
        if job.origin is not Origin.REFUSED:
            self.life.admit(job)
        self.life.advance(self.now())

    def _enter(self, job: Job, fault: Fault | None) -> None:
        self.jobs.add(job)
        if job.origin in (Origin.API, Origin.SEED):
            entry = Accepted(job.request_id, job.created_at, job.model, job.payload, job.origin, fault)
            self.journal.accepted.append(entry)
        if job.origin is Origin.API:
            self.reserved += job.price(self.config.prices)

    def rendered(self, request_id: str, render: Rendered | RenderFailed) -> None:
        """A renderer has made a clip, or could not."""
        job = self.jobs.get(request_id)
        if job is not None:
            self.life.rendered(job, render, self.now())

    def _started(self, job: Job) -> None:
        if self.renderer is None:
            self.life.rendered(job, Rendered(f"{job.request_id}.mp4"), self.now())
        else:
            self.renderer.start(job)

    def _ended(self, job: Job) -> None:
        render = job.render
        files = [render.video, render.thumbnail] if isinstance(render, Rendered) else None
        price = job.price(self.config.prices)
        self.keep(
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
        if job.origin is Origin.API:
            self.reserved -= price
        if job.status is Status.SUCCESS and job.origin is not Origin.CONSOLE:
            time = job.ended_at or 0.0
            charge = Charge(job.request_id, time, price, job.duration, job.resolution, job.origin)
            self.journal.charges.append(charge)
            if self.credits is not None:
                self.credits -= price

    # -- memory -------------------------------------------------------------

    def reset(self) -> None:
        """Forget requests, journal, faults and uploads; ids are not given twice."""
        last = self.jobs.last_number
        self._fresh()
        self.jobs.last_number = last
        self.keep({"event": "reset"})

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take up where a former run ended, from the events that its sink was given."""
        sink, self.sink = self.sink, None
        for event in events:
            self._replay_one(event)
        self.sink = sink
        for job in self.jobs:
            if not job.status.ended and job.origin is not Origin.REFUSED:
                self.life.admit(job)

    def _replay_one(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "reset":
                self.reset()
            case "accepted":
                job = Job.from_dict(event["job"])
                self._enter(job, Fault(event["fault"]) if event["fault"] else None)
            case "ended":
                ended = self.jobs.get(event["request_id"])
                if ended is not None:
                    ended.started_at = event["started_at"]
                    ended.life = Fault(event["life"]) if event["life"] else None
                    ended.render = Rendered(*event["files"]) if event["files"] else None
                    ended.status, ended.reason = Status(event["status"]), event["reason"]
                    ended.updated_at = ended.ended_at = event["time"]
                    self._ended(ended)
            case "upload":
                self.uploads.restore(event)
            case "call":
                self.journal.called(Call(**event["call"]))

    def keep(self, event: dict[str, Any]) -> None:
        """Make an event durable."""
        if self.sink is not None:
            self.sink(event)

    def _note(
        self,
        host: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        answer: Answer,
    ) -> None:
        call = Call(
            number=self.journal.total_calls,
            time=self.now(),
            host=host,
            method=method,
            path=path,
            status=answer.status,
            wire=answer.wire,
            request_id=answer.request_id,
            accepted=answer.accepted,
            authorization="authorization" in headers,
            fault=answer.fault,
            limit=params.get("limit"),
            offset=params.get("offset"),
        )
        self.journal.called(call)
        if self.sink is not None:
            self.keep({"event": "call", "call": {name: getattr(call, name) for name in Call.__slots__}})

    def configure(self, **changes: Any) -> None:
        """Change settings while it runs."""
        self.config = replace(self.config, **changes)
        if "credits" in changes:
            self.credits = self.config.credits


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}
