# SPDX-License-Identifier: Apache-2.0
"""The sandbox's own controls, under ``/admin``: no part of the API that it stands in for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import answers, checks, view
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.faults import Fault, Injection, Point
from airflow_provider_wan.sandbox.job import Job, Origin, Rendered, Status

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.core import SandboxCore

#: Settings that may change while it runs.
LIVE = {
    "credits", "speed", "concurrency", "submits_per_second", "submits_per_hour", "reads_per_second",
    "retry_after", "cancel", "echo_payload", "list_totals", "list_lag", "result_seconds", "hang_seconds",
    "slow_seconds", "slow_bytes_per_second", "huge_bytes", "queue_seconds", "queue_sigma", "run_sigma",
    "late_failure_seconds", "clock_skew",
}  # fmt: skip
SEED_PAYLOAD = {"img_url": "https://example.com/image.jpg", "resolution": "720P", "duration": 5}


class Admin:
    """Controls of one sandbox; each is a method, and a call of the same name under ``/admin``."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core

    def handle(self, method: str, path: str, params: Mapping[str, str], body: bytes) -> Answer:
        """Answer one call."""
        try:
            value = json.loads(body) if body.strip() else {}
            if not isinstance(value, dict):
                raise ValueError("the body must be a JSON object")
            parts = path.strip("/").split("/")[1:]
            result = self._read(parts, params) if method == "GET" else self._change(method, parts, value)
        except (ValueError, TypeError, KeyError) as problem:
            return answers.error(400, f"{type(problem).__name__}: {problem}")
        if result is None:
            return answers.error(404, f"no such control: {method} {path}")
        return answers.as_json(200, result)

    def _read(self, parts: list[str], params: Mapping[str, str]) -> object:
        journal = self._core.journal
        match parts:
            case [] | [""]:
                return {"server": "wan-sandbox", "time": self._core.now(), **self.status()}
            case ["journal"]:
                limit = int(params["limit"]) if "limit" in params else None
                entries = journal.tell_calls(limit, int(params.get("since", 0)))
                return {**journal.summary(), "entries": entries}
            case ["counters"]:
                return journal.summary()
            case ["accepted"]:
                return {"accepted": journal.tell_accepted()}
            case ["charges"]:
                return {"charges": journal.tell_charges()}
            case ["faults"]:
                return {
                    "known": [fault.value for fault in Fault],
                    "rates": self._core.faults.rates,
                    "injected": [asdict(each) for each in self._core.faults.injections],
                }
            case ["requests", request_id]:
                job = self._core.jobs.get(request_id)
                return None if job is None else self._tell(job)
        return None

    def _change(self, method: str, parts: list[str], value: dict[str, Any]) -> object:
        match (method, parts):
            case ("POST", ["faults"]):
                return self.inject(**value)
            case ("DELETE", ["faults"]):
                self._core.faults.clear()
                return {}
            case ("POST", ["rates"]):
                return self.rates(value)
            case ("POST", ["state"]):
                return self.state(value)
            case ("POST", ["advance"]):
                self._core.shift(float(value["seconds"]))
                return {"time": self._core.now()}
            case ("POST", ["requests", request_id]):
                job = self._core.jobs.get(request_id)
                return None if job is None else self.force(job, value["status"], value.get("reason"))
            case ("POST", ["seed"]):
                return {"request_ids": self.seed(**value)}
            case ("POST", ["console"]):
                return self._tell(self.console(**value))
            case ("POST", ["reset"]):
                self._core.reset()
                return {}
        return None

    def status(self) -> dict[str, Any]:
        """Requests by status, and what is going on."""
        by_status: dict[str, int] = {}
        for job in self._core.jobs:
            by_status[job.status] = by_status.get(job.status, 0) + 1
        core = self._core
        return {
            "requests": by_status,
            "running": core.life.running,
            "outage_seconds": max(0.0, core.outage_until - core.now()),
            "credits": core.credits,
        }

    def inject(self, fault: str, count: int | None = 1, match: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make a fault strike the next matching calls.

        For a ``life`` or ``shape`` fault (and a ``result`` fault without a count) a match on ``request_id``
        means a request that is there: it gets the fault at once.

        :param fault: its name.
        :param count: how many calls; None: all, until faults are cleared.
        :param match: payload fields (or ``model``, ``request_id``) by value or by ``{"contains": text}``.
        """
        kind, match = Fault(fault), dict(match or {})
        sticky = kind.point in (Point.LIFE, Point.SHAPE) or (kind.point is Point.RESULT and count is None)
        if sticky and "request_id" in match:
            job = self._core.jobs.get(match["request_id"])
            if job is None:
                raise ValueError(f"no request {match['request_id']}")
            if kind.point is Point.LIFE:
                job.life = kind
            elif kind.point is Point.SHAPE:
                job.shapes |= {kind}
            else:
                job.result_fault = kind
            return {"request": job.request_id, "fault": kind}
        injection: Injection = self._core.faults.inject(kind, count, match)
        return asdict(injection)

    def rates(self, value: Mapping[str, float]) -> dict[str, float]:
        """Change the probabilities of faults; 0 takes one away."""
        for name, rate in value.items():
            if not 0 <= float(rate) <= 1:
                raise ValueError(f"the rate of {name} is {rate}: it must be within 0 and 1")
            self._core.faults.rates[Fault(name)] = float(rate)
        return {fault.value: rate for fault, rate in self._core.faults.rates.items()}

    def state(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, or begin an outage (``outage_seconds``) in which submissions answer 503."""
        changes = dict(value)
        if "outage_seconds" in changes:
            self._core.outage_until = self._core.now() + float(changes.pop("outage_seconds"))
        unknown = sorted(set(changes) - LIVE)
        if unknown:
            known = ", ".join(sorted(LIVE))
            raise ValueError(f"{unknown[0]} can't be changed while the sandbox runs; what can: {known}")
        self._core.configure(**changes)
        return self.status()

    def force(self, job: Job, status: str, reason: object = None) -> dict[str, Any]:
        """Bring a request to a status at once (a success as soon as its clip is made)."""
        wanted = Status("cancelled" if status == "canceled" else status)
        self._core.life.force(job, wanted, reason, self._core.now())
        return self._tell(job)

    def seed(
        self,
        count: int,
        payload: Mapping[str, Any] | None = None,
        model: str | None = None,
        never: bool = False,
        finish_between: tuple[float, float] | None = None,
    ) -> list[str]:
        """Make waiting requests, each with a payload ``seed`` of its own.

        :param never: they stay queued for ever.
        :param finish_between: they run at once and end evenly spread within these seconds from now, in a
            mixed order.
        """
        core = self._core
        base = dict(SEED_PAYLOAD if payload is None else payload)
        problems = checks.payload_problems(base)
        if problems:
            raise ValueError(", ".join(problems))
        org = checks.organization_of(core.config, {})
        made = []
        for index in range(count):
            each = {**base, "seed": (core.jobs.last_number + 1) % (checks.MAX_SEED + 1)}
            job = core.submissions.draw(org, model or core.config.models[0], each, each)
            job.origin = Origin.SEED
            if never:
                job.life = Fault.NEVER_RUNS
            elif finish_between is not None:
                first, last = finish_between
                share = (index * 0.6180339887498949) % 1.0
                job.ready_at, job.run_seconds = job.created_at, first + (last - first) * share
            core.accept(job)
            made.append(job.request_id)
        return made

    def console(self, payload: Mapping[str, Any] | None = None, status: str = "success") -> Job:
        """Make a request as the web console does: in the list, and 404 by id."""
        core = self._core
        org = checks.organization_of(core.config, {})
        each = dict(SEED_PAYLOAD if payload is None else payload)
        job = core.submissions.draw(org, core.config.models[0], each, {})
        job.origin, job.life, job.shapes = Origin.CONSOLE, Fault.NEVER_RUNS, frozenset()
        core.accept(job)
        job.render = Rendered(f"{job.request_id}.mp4")
        core.life.force(job, Status(status), None, core.now())
        return job

    def _tell(self, job: Job) -> dict[str, Any]:
        core = self._core
        return {
            **view.record(job, core.now(), core.config, core.result_base),
            "origin": job.origin,
            "life": job.life,
            "shapes": sorted(job.shapes),
            "result_fault": job.result_fault,
            "ready_at": job.ready_at,
            "run_seconds": job.run_seconds,
            "ended_at": job.ended_at,
        }
