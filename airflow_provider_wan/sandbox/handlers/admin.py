# SPDX-License-Identifier: Apache-2.0
"""The admin API of the sandbox under ``/admin``, which is not part of the emulated API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from airflow_provider_wan.sandbox import contract, responses, views
from airflow_provider_wan.sandbox.backend import SandboxBackend
from airflow_provider_wan.sandbox.faults import Fault, FaultInjection, InjectionPoint
from airflow_provider_wan.sandbox.job import JobOrigin, JobStatus, RenderedFiles, SandboxJob
from airflow_provider_wan.sandbox.responses import SandboxResponse

#: Settings that can be changed at run time.
MUTABLE_SETTINGS = {
    "credits", "speed", "concurrency", "submits_per_second", "submits_per_hour", "reads_per_second",
    "retry_after", "cancel", "echo_payload", "list_totals", "list_lag", "result_seconds", "hang_seconds",
    "slow_seconds", "slow_bytes_per_second", "huge_bytes", "queue_seconds", "queue_sigma", "run_sigma",
    "late_failure_seconds", "clock_skew",
}  # fmt: skip
SEED_PAYLOAD = {"img_url": "https://example.com/image.jpg", "resolution": "720P", "duration": 5}


class AdminHandler:
    """Admin calls; each is a method and a call of the same name under ``/admin``."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend

    def handle(self, method: str, path: str, params: Mapping[str, str], body: bytes) -> SandboxResponse:
        """Handle one call."""
        try:
            value = json.loads(body) if body.strip() else {}
            if not isinstance(value, dict):
                raise ValueError("the body must be a JSON object")
            parts = path.strip("/").split("/")[1:]
            result = self._read(parts, params) if method == "GET" else self._change(method, parts, value)
        except (ValueError, TypeError, KeyError) as problem:
            return responses.error(400, f"{type(problem).__name__}: {problem}")
        if result is None:
            return responses.error(404, f"no such control: {method} {path}")
        return responses.json_response(200, result)

    def _read(self, parts: list[str], params: Mapping[str, str]) -> object:
        journal = self._backend.journal
        match parts:
            case [] | [""]:
                return {"server": "wan-sandbox", "time": self._backend.now(), **self.status()}
            case ["journal"]:
                limit = int(params["limit"]) if "limit" in params else None
                entries = journal.list_calls(limit, int(params.get("since", 0)))
                return {**journal.summary(), "entries": entries}
            case ["counters"]:
                return journal.summary()
            case ["accepted"]:
                return {"accepted": journal.list_accepted()}
            case ["charges"]:
                return {"charges": journal.list_charges()}
            case ["faults"]:
                return {
                    "known": [fault.value for fault in Fault],
                    "rates": self._backend.faults.rates,
                    "injected": [asdict(each) for each in self._backend.faults.injections],
                }
            case ["requests", request_id]:
                job = self._backend.jobs.get(request_id)
                return None if job is None else self._describe(job)
        return None

    def _change(self, method: str, parts: list[str], value: dict[str, Any]) -> object:
        match (method, parts):
            case ("POST", ["faults"]):
                return self.inject(**value)
            case ("DELETE", ["faults"]):
                self._backend.faults.clear()
                return {}
            case ("POST", ["rates"]):
                return self.rates(value)
            case ("POST", ["state"]):
                return self.state(value)
            case ("POST", ["advance"]):
                self._backend.shift(float(value["seconds"]))
                return {"time": self._backend.now()}
            case ("POST", ["requests", request_id]):
                job = self._backend.jobs.get(request_id)
                return None if job is None else self.force(job, value["status"], value.get("reason"))
            case ("POST", ["seed"]):
                return {"request_ids": self.seed(**value)}
            case ("POST", ["console"]):
                return self._describe(self.console(**value))
            case ("POST", ["reset"]):
                self._backend.reset()
                return {}
        return None

    def status(self) -> dict[str, Any]:
        """Return the number of requests by status, and the current conditions."""
        by_status: dict[str, int] = {}
        for job in self._backend.jobs:
            by_status[job.status] = by_status.get(job.status, 0) + 1
        backend = self._backend
        return {
            "requests": by_status,
            "running": backend.lifecycle.running,
            "outage_seconds": max(0.0, backend.outage_until - backend.now()),
            "credits": backend.credits,
        }

    def inject(self, fault: str, count: int | None = 1, match: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Inject a fault into the next matching calls.

        For a ``life`` or ``shape`` fault (and a ``result`` fault without a count), a match on ``request_id``
        names an existing request, which gets the fault immediately.

        :param fault: name of the fault.
        :param count: number of calls; None: all, until the faults are cleared.
        :param match: payload fields (or ``model``, ``request_id``) by value or by ``{"contains": text}``.
        """
        kind, match = Fault(fault), dict(match or {})
        sticky = kind.point in (InjectionPoint.LIFE, InjectionPoint.SHAPE) or (
            kind.point is InjectionPoint.RESULT and count is None
        )
        if sticky and "request_id" in match:
            job = self._backend.jobs.get(match["request_id"])
            if job is None:
                raise ValueError(f"no request {match['request_id']}")
            if kind.point is InjectionPoint.LIFE:
                job.life = kind
            elif kind.point is InjectionPoint.SHAPE:
                job.shapes |= {kind}
            else:
                job.result_fault = kind
            return {"request": job.request_id, "fault": kind}
        injection: FaultInjection = self._backend.faults.inject(kind, count, match)
        return asdict(injection)

    def rates(self, value: Mapping[str, float]) -> dict[str, float]:
        """Set the probabilities of faults; 0 disables one."""
        for name, rate in value.items():
            if not 0 <= float(rate) <= 1:
                raise ValueError(f"the rate of {name} is {rate}: it must be within 0 and 1")
            self._backend.faults.rates[Fault(name)] = float(rate)
        return {fault.value: rate for fault, rate in self._backend.faults.rates.items()}

    def state(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, or start an outage (``outage_seconds``) during which submissions are answered with 503."""
        changes = dict(value)
        if "outage_seconds" in changes:
            self._backend.outage_until = self._backend.now() + float(changes.pop("outage_seconds"))
        unknown = sorted(set(changes) - MUTABLE_SETTINGS)
        if unknown:
            known = ", ".join(sorted(MUTABLE_SETTINGS))
            raise ValueError(f"{unknown[0]} can't be changed while the sandbox runs; what can: {known}")
        self._backend.configure(**changes)
        return self.status()

    def force(self, job: SandboxJob, status: str, reason: object = None) -> dict[str, Any]:
        """Set the status of a request (success: as soon as its clip is rendered)."""
        wanted = JobStatus("cancelled" if status == "canceled" else status)
        self._backend.lifecycle.force(job, wanted, reason, self._backend.now())
        return self._describe(job)

    def seed(
        self,
        count: int,
        payload: Mapping[str, Any] | None = None,
        model: str | None = None,
        never: bool = False,
        finish_between: tuple[float, float] | None = None,
    ) -> list[str]:
        """Create queued requests, each with a distinct payload ``seed``.

        :param never: whether they stay queued forever.
        :param finish_between: they run concurrently and end evenly spread within this interval in seconds
            from now, in mixed order.
        """
        backend = self._backend
        base = dict(SEED_PAYLOAD if payload is None else payload)
        problems = contract.find_payload_problems(base, model or backend.config.models[0])
        if problems:
            raise ValueError(", ".join(problems))
        org = contract.resolve_organization(backend.config, {})
        made = []
        for index in range(count):
            each = {**base, "seed": (backend.jobs.last_number + 1) % (contract.MAX_SEED + 1)}
            job = backend.create_job(org, model or backend.config.models[0], each, each)
            job.origin = JobOrigin.SEED
            if never:
                job.life = Fault.NEVER_RUNS
            elif finish_between is not None:
                first, last = finish_between
                share = (index * 0.6180339887498949) % 1.0
                job.ready_at, job.run_seconds = job.created_at, first + (last - first) * share
            backend.accept(job)
            made.append(job.request_id)
        return made

    def console(
        self, payload: Mapping[str, Any] | None = None, status: str = "success", age: float = 0.0
    ) -> SandboxJob:
        """Create a request of the web console: listed, but answered with 404 by id.

        :param age: seconds since it was created.
        """
        backend = self._backend
        org = contract.resolve_organization(backend.config, {})
        each = dict(SEED_PAYLOAD if payload is None else payload)
        job = backend.create_job(org, backend.config.models[0], each, {})
        job.origin, job.life, job.shapes = JobOrigin.CONSOLE, Fault.NEVER_RUNS, frozenset()
        job.created_at = job.updated_at = job.ready_at = job.created_at - age
        backend.accept(job)
        job.render = RenderedFiles(f"{job.request_id}.mp4")
        backend.lifecycle.force(job, JobStatus(status), None, backend.now())
        return job

    def _describe(self, job: SandboxJob) -> dict[str, Any]:
        backend = self._backend
        return {
            **views.record(job, backend.now(), backend.config, backend.result_base),
            "origin": job.origin,
            "life": job.life,
            "shapes": sorted(job.shapes),
            "result_fault": job.result_fault,
            "ready_at": job.ready_at,
            "run_seconds": job.run_seconds,
            "ended_at": job.ended_at,
        }
