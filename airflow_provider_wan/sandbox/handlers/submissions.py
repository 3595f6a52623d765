# SPDX-License-Identifier: Apache-2.0
"""``POST /requests``: validation, limits, faults, acceptance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_wan.sandbox import contract, responses, views
from airflow_provider_wan.sandbox.backend import SandboxBackend
from airflow_provider_wan.sandbox.faults import SILENTLY_ACCEPTED, Fault, InjectionPoint
from airflow_provider_wan.sandbox.job import JobOrigin, JobStatus, SandboxJob
from airflow_provider_wan.sandbox.rate_limit import SlidingWindow
from airflow_provider_wan.sandbox.responses import SandboxResponse

BACKEND_REASON = "Backend error (400). Please try again."
HOUR = 3600.0


class SubmissionHandler:
    """Handler of submissions."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend
        self._second = SlidingWindow(1.0)
        self._hour = SlidingWindow(HOUR)

    def submit(self, org: str, headers: Mapping[str, str], body: bytes) -> SandboxResponse:
        """Handle ``POST /requests``."""
        value = contract.read_object(headers, body)
        if isinstance(value, SandboxResponse):
            return value
        refusal = contract.check_submission(self._backend.config, value) or self._check_limits(value["payload"])
        if refusal:
            return refusal
        model, payload = value["model"], value["payload"]
        if self._backend.config.drop_unknown:
            payload = contract.drop_unknown(model, payload)
        fields = {**payload, "model": model}
        fault = self._backend.faults.take(InjectionPoint.SUBMIT, fields)
        refusal = self._refusal(fault, org, model, payload)
        if refusal:
            return refusal
        job = self._backend.create_job(org, model, payload, fields)
        if fault is Fault.IMMEDIATE_SUCCESS:
            job.life, job.ready_at, job.run_seconds = None, job.created_at, 0.0
        if Fault.FILED_ELSEWHERE in job.shapes:
            job.model = f"{model}-internal"
        self._backend.accept(job, fault)
        return self._accepted_response(job, fault)

    def _check_limits(self, payload: Mapping[str, Any]) -> SandboxResponse | None:
        backend, now = self._backend, self._backend.now()
        config = backend.config
        if now < backend.outage_until:
            return responses.no_capacity(backend.retry_after(backend.outage_until - now))
        waits = (
            self._second.wait(config.submits_per_second, now),
            self._hour.wait(config.submits_per_hour, now),
        )
        wait = max((each for each in waits if each is not None), default=None)
        if wait is not None:
            return responses.rate_limited(backend.retry_after(wait))
        if backend.credits is not None:
            resolution = payload.get("resolution", contract.DEFAULTS["resolution"])
            price = config.prices.get(resolution, 0.0) * payload.get("duration", contract.DEFAULTS["duration"])
            if backend.credits - backend.reserved < price - 1e-9:
                return responses.no_credit()
        return None

    def _refusal(self, fault: Fault | None, org: str, model: str, payload: Mapping[str, Any]) -> SandboxResponse | None:
        more: dict[str, Any] = {"fault": fault}
        match fault:
            case Fault.RESET_BEFORE_ACCEPT:
                return responses.reset(**more)
            case Fault.HANG_BEFORE_ACCEPT:
                return responses.hang(**more)
            case Fault.ERROR_500_REFUSED:
                return responses.internal_error(**more)
            case Fault.HTML_502:
                return responses.gateway_page(**more)
            case Fault.BACKEND_400 | Fault.API_STATUS_400:
                return self._hidden_refusal(fault, org, model, payload)
            case Fault.NESTED_ERROR_400:
                details = json.dumps({"code": "InvalidParameter", "message": "img_url is not reachable"})
                nested = {"code": 400, "message": "invalid request", "details": details}
                return responses.json_response(400, {"error": nested}, **more)
            case Fault.MESSAGE_ERROR_400:
                return responses.json_response(400, {"message": "invalid request: img_url is not reachable"}, **more)
            case Fault.DETAIL_ERROR_422:
                return responses.json_response(422, {"detail": "img_url is not reachable"}, **more)
            case Fault.RATE_LIMIT_429:
                return responses.rate_limited(responses.RETRY_AFTER_SECONDS, **more)
            case Fault.RATE_LIMIT_429_BARE:
                return responses.rate_limited(None, **more)
            case Fault.CAPACITY_503:
                return responses.no_capacity(responses.RETRY_AFTER_SECONDS, **more)
            case Fault.CAPACITY_503_BARE:
                return responses.no_capacity(None, **more)
            case Fault.NO_CREDIT_402:
                return responses.no_credit(**more)
            case Fault.BAD_KEY_401:
                return responses.error(401, "Invalid or missing API key", **more)
            case Fault.FORBIDDEN_403:
                return responses.error(403, "You do not have permission to access this resource", **more)
            case Fault.ECHO_401:
                return responses.echo(401, self._backend.config.api_key, dict(payload), **more)
            case Fault.NO_MODEL_404:
                return responses.no_model(model, **more)
        return None

    def _hidden_refusal(self, fault: Fault, org: str, model: str, payload: Mapping[str, Any]) -> SandboxResponse:
        job = self._backend.create_job(org, model, payload, {})
        inner = {"error": {"code": "InvalidParameter", "message": "the image cannot be used"}}
        reason = BACKEND_REASON
        if fault is Fault.API_STATUS_400:
            reason = f"API request failed with status 400: {json.dumps(inner)}"
        job.origin, job.life, job.shapes = JobOrigin.REFUSED, None, frozenset()
        self._backend.accept(job, fault)
        self._backend.lifecycle.end(job, JobStatus.FAILED, reason, job.created_at)
        return responses.error(500, reason, request_id=job.request_id, fault=fault)

    def _accepted_response(self, job: SandboxJob, fault: Fault | None) -> SandboxResponse:
        backend = self._backend
        self._second.take(job.created_at)
        self._hour.take(job.created_at)
        more: dict[str, Any] = {"request_id": job.request_id, "accepted": True, "fault": fault}
        body = views.submission(job, backend.now(), backend.config, backend.result_base)
        if fault in SILENTLY_ACCEPTED:
            return _silent_response(fault, body, more)
        if fault is Fault.ANSWER_201:
            return responses.json_response(201, body, **more)
        if fault is Fault.SLOW_SUBMIT:
            return responses.json_response(200, body, delay=backend.config.slow_seconds, **more)
        if fault is Fault.IMMEDIATE_SUCCESS and not job.status.ended:
            return SandboxResponse(200, wait_for=job.request_id, **more)
        return responses.json_response(200, body, **more)


def _silent_response(fault: Fault | None, body: dict[str, Any], more: dict[str, Any]) -> SandboxResponse:
    match fault:
        case Fault.RESET_AFTER_ACCEPT:
            return responses.reset(**more)
        case Fault.HANG_AFTER_ACCEPT:
            return responses.hang(**more)
        case Fault.ERROR_500_ACCEPTED:
            return responses.internal_error(**more)
        case Fault.HTML_502_ACCEPTED:
            return responses.gateway_page(**more)
        case Fault.GATEWAY_403_ACCEPTED:
            return responses.gateway_error(403, **more)
        case Fault.GATEWAY_404_ACCEPTED:
            return responses.gateway_error(404, **more)
        case Fault.GATEWAY_429_ACCEPTED:
            return responses.gateway_error(429, **more)
        case Fault.GATEWAY_503_ACCEPTED:
            return responses.gateway_error(503, **more)
        case Fault.NO_ID_ACCEPTED:
            return responses.json_response(200, {name: body[name] for name in body if name != "request_id"}, **more)
    return responses.garbage(**more)
