# SPDX-License-Identifier: Apache-2.0
"""``POST /requests``: checks, limits, faults, acceptance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import answers, checks, view
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.faults import ACCEPTED_UNSAID, Fault, Point
from airflow_provider_wan.sandbox.job import Job, Origin, Status, request_id_of
from airflow_provider_wan.sandbox.life import draw_latency
from airflow_provider_wan.sandbox.limits import Window

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.core import SandboxCore

BACKEND_REASON = "Backend error (400). Please try again."
HOUR = 3600.0


class Submissions:
    """Takes requests in, or refuses them."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._second = Window(1.0)
        self._hour = Window(HOUR)

    def submit(self, org: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one submission."""
        value = checks.read_object(headers, body)
        if isinstance(value, Answer):
            return value
        refusal = checks.check_submission(self._core.config, value) or self._over_limits(value["payload"])
        if refusal:
            return refusal
        model, payload = value["model"], value["payload"]
        fields = {**payload, "model": model}
        fault = self._core.faults.take_one(Point.SUBMIT, fields)
        refused = self._refused(fault, org, model, payload)
        if refused:
            return refused
        job = self.draw(org, model, payload, fields)
        if fault is Fault.IMMEDIATE_SUCCESS:
            job.life, job.ready_at, job.run_seconds = None, job.created_at, 0.0
        self._core.accept(job, fault)
        return self._accepted(job, fault)

    def draw(self, org: str, model: str, payload: Mapping[str, Any], fields: Mapping[str, Any]) -> Job:
        """A new request, its latency and its faults drawn."""
        core, now = self._core, self._core.now()
        number = core.jobs.last_number + 1
        job = Job(
            request_id=request_id_of(core.config.seed, number),
            number=number,
            model=model,
            payload=payload,
            org_id=org,
            created_at=now,
            updated_at=now,
            ready_at=now,
            run_seconds=0.0,
        )
        wait, job.run_seconds = draw_latency(core.config, number, job.duration, job.resolution)
        job.ready_at = now + wait
        job.life = core.faults.take_one(Point.LIFE, fields)
        job.shapes = core.faults.take_all(Point.SHAPE, fields)
        job.result_fault = core.faults.take_rolled(Point.RESULT)
        if job.life is Fault.LATE_FAILURE:
            job.run_seconds = core.config.late_failure_seconds / core.config.speed
        elif job.life is Fault.RATE_LIMIT_RECORD:
            job.run_seconds = 0.0
        return job

    def _over_limits(self, payload: Mapping[str, Any]) -> Answer | None:
        core, now = self._core, self._core.now()
        config = core.config
        if now < core.outage_until:
            return answers.no_capacity(core.retry_after(core.outage_until - now))
        waits = (
            self._second.wait(config.submits_per_second, now),
            self._hour.wait(config.submits_per_hour, now),
        )
        wait = max((each for each in waits if each is not None), default=None)
        if wait is not None:
            return answers.rate_limited(core.retry_after(wait))
        if core.credits is not None:
            resolution = payload.get("resolution", checks.DEFAULTS["resolution"])
            price = config.prices[resolution] * payload.get("duration", checks.DEFAULTS["duration"])
            if core.credits - core.reserved < price - 1e-9:
                return answers.no_credit()
        return None

    def _refused(self, fault: Fault | None, org: str, model: str, payload: Mapping[str, Any]) -> Answer | None:
        more: dict[str, Any] = {"fault": fault}
        match fault:
            case Fault.RESET_BEFORE_ACCEPT:
                return answers.reset(**more)
            case Fault.HANG_BEFORE_ACCEPT:
                return answers.hang(**more)
            case Fault.ERROR_500_REFUSED:
                return answers.internal_error(**more)
            case Fault.HTML_502:
                return answers.gateway_page(**more)
            case Fault.BACKEND_400 | Fault.API_STATUS_400:
                return self._disguised(fault, org, model, payload)
            case Fault.NESTED_ERROR_400:
                details = json.dumps({"code": "InvalidParameter", "message": "img_url is not reachable"})
                nested = {"code": 400, "message": "invalid request", "details": details}
                return answers.as_json(400, {"error": nested}, **more)
            case Fault.MESSAGE_ERROR_400:
                return answers.as_json(400, {"message": "invalid request: img_url is not reachable"}, **more)
            case Fault.DETAIL_ERROR_422:
                return answers.as_json(422, {"detail": "img_url is not reachable"}, **more)
            case Fault.RATE_LIMIT_429:
                return answers.rate_limited(answers.RETRY_AFTER_SECONDS, **more)
            case Fault.RATE_LIMIT_429_BARE:
                return answers.rate_limited(None, **more)
            case Fault.CAPACITY_503:
                return answers.no_capacity(answers.RETRY_AFTER_SECONDS, **more)
            case Fault.CAPACITY_503_BARE:
                return answers.no_capacity(None, **more)
            case Fault.NO_CREDIT_402:
                return answers.no_credit(**more)
            case Fault.BAD_KEY_401:
                return answers.error(401, "Invalid or missing API key", **more)
            case Fault.FORBIDDEN_403:
                return answers.error(403, "You do not have permission to access this resource", **more)
            case Fault.NO_MODEL_404:
                return answers.no_model(model, **more)
        return None

    def _disguised(self, fault: Fault, org: str, model: str, payload: Mapping[str, Any]) -> Answer:
        job = self.draw(org, model, payload, {})
        inner = {"error": {"code": "InvalidParameter", "message": "the image cannot be used"}}
        reason = BACKEND_REASON
        if fault is Fault.API_STATUS_400:
            reason = f"API request failed with status 400: {json.dumps(inner)}"
        job.origin, job.life, job.shapes = Origin.REFUSED, None, frozenset()
        self._core.accept(job, fault)
        self._core.life.end(job, Status.FAILED, reason, job.created_at)
        return answers.error(500, reason, request_id=job.request_id, fault=fault)

    def _accepted(self, job: Job, fault: Fault | None) -> Answer:
        core = self._core
        self._second.take(job.created_at)
        self._hour.take(job.created_at)
        more: dict[str, Any] = {"request_id": job.request_id, "accepted": True, "fault": fault}
        told = view.submitted(job, core.now(), core.config, core.result_base)
        if fault in ACCEPTED_UNSAID:
            return _unsaid(fault, told, more)
        if fault is Fault.ANSWER_201:
            return answers.as_json(201, told, **more)
        if fault is Fault.SLOW_SUBMIT:
            return answers.as_json(200, told, delay=core.config.slow_seconds, **more)
        if fault is Fault.IMMEDIATE_SUCCESS and not job.status.ended:
            return Answer(200, wait_for=job.request_id, **more)
        return answers.as_json(200, told, **more)


def _unsaid(fault: Fault | None, told: dict[str, Any], more: dict[str, Any]) -> Answer:
    match fault:
        case Fault.RESET_AFTER_ACCEPT:
            return answers.reset(**more)
        case Fault.HANG_AFTER_ACCEPT:
            return answers.hang(**more)
        case Fault.ERROR_500_ACCEPTED:
            return answers.internal_error(**more)
        case Fault.HTML_502_ACCEPTED:
            return answers.gateway_page(**more)
        case Fault.NO_ID_ACCEPTED:
            return answers.as_json(200, {name: told[name] for name in told if name != "request_id"}, **more)
    return answers.garbage(**more)
