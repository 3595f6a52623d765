# SPDX-License-Identifier: Apache-2.0
"""Calls on existing requests: status, list, cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_wan.sandbox import responses, views
from airflow_provider_wan.sandbox.backend import SandboxBackend
from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.sandbox.faults import Fault, InjectionPoint
from airflow_provider_wan.sandbox.job import JobOrigin, JobStatus, SandboxJob
from airflow_provider_wan.sandbox.rate_limit import SlidingWindow
from airflow_provider_wan.sandbox.responses import SandboxResponse

LYING_PAGE = 50
LYING_END = 100


class ReadHandler:
    """Handler of status, list and cancel calls."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend
        self._window = SlidingWindow(1.0)

    def get(self, org: str, request_id: str) -> SandboxResponse:
        """Handle ``GET /requests/{id}``."""
        limited = self._limited()
        if limited:
            return limited
        backend = self._backend
        job = self._visible(org, request_id)
        fields = job.fields() if job and backend.faults.injections else {"request_id": request_id}
        fault = backend.faults.take(InjectionPoint.GET, fields)
        more = {"request_id": request_id, "fault": fault}
        broken = _fault_response(fault, more)
        if broken:
            return broken
        if job is None or fault is Fault.GET_404:
            return responses.no_request(request_id, fault=fault)
        if fault is Fault.GET_ECHO:
            return responses.echo(401, backend.config.api_key, dict(job.payload), **more)
        body = views.record(job, backend.now(), backend.config, backend.result_base)
        if fault is Fault.GET_OTHER_REQUEST:
            body["request_id"] = "00000000-0000-0000-0000-000000000000"
        return responses.json_response(200, body, delay=self._delay(fault), **more)

    def list(self, org: str, params: Mapping[str, str]) -> SandboxResponse:
        """Handle ``GET /requests``."""
        limited = self._limited()
        if limited:
            return limited
        backend = self._backend
        fault = backend.faults.take(InjectionPoint.LIST, params)
        broken = _fault_response(fault, {"fault": fault})
        if broken:
            return broken
        limit, offset = _parse_count(params.get("limit", "100")), _parse_count(params.get("offset", "0"))
        if limit is None or offset is None or limit == 0:
            return responses.error(400, "invalid query parameters: limit, offset (Expected a whole number)")
        model, now = params.get("model_id") or None, backend.now()
        if fault is Fault.LIST_NEEDS_MODEL and model is None:
            return responses.error(
                400, "invalid query parameters: model_id (Required parameter is missing)", fault=fault
            )
        before = now - backend.config.list_lag
        jobs, total, has_more = self._page(fault, org, model, min(limit, backend.config.list_max), offset, before)
        body: dict[str, Any] = {
            "requests": [views.record(job, now, backend.config, backend.result_base) for job in jobs]
        }
        if backend.config.list_totals:
            body |= {"total": total, "has_more": has_more}
        return responses.json_response(200, body, delay=self._delay(fault), fault=fault)

    def _page(
        self, fault: Fault | None, org: str, model: str | None, limit: int, offset: int, before: float
    ) -> tuple[Sequence[SandboxJob], int, bool]:
        """Return the requests of a page, ``total`` and ``has_more``, as true as the fault allows."""
        reverse = fault in (Fault.LIST_REVERSED, Fault.LIST_OLDEST_CAPPED)
        retained = None
        match fault:
            case Fault.LIST_WITHOUT_PAGING:
                limit, offset = LYING_PAGE, 0
            case Fault.LIST_TOTAL_OF_PAGE | Fault.LIST_SAYS_NO_MORE:
                limit = min(limit, LYING_PAGE)
            case Fault.LIST_OFFSET_IN_PAGES:
                offset *= limit
            case Fault.LIST_KEEPS_NEWEST | Fault.LIST_OLDEST_CAPPED | Fault.LIST_ENDS_AT_OFFSET:
                retained = LYING_END
            case Fault.LIST_EMPTY:
                return [], 0, False
        if retained is not None:
            limit = max(0, min(limit, retained - offset))
        jobs, total = self._backend.jobs.page(org, model, limit, offset, before, reverse)
        if fault in (Fault.LIST_KEEPS_NEWEST, Fault.LIST_OLDEST_CAPPED):
            total = min(total, LYING_END)
        if fault in (Fault.LIST_TOTAL_OF_PAGE, Fault.LIST_WITHOUT_PAGING):
            return jobs, len(jobs), False
        return jobs, total, fault is not Fault.LIST_SAYS_NO_MORE and offset + len(jobs) < total

    def cancel(self, org: str, request_id: str) -> SandboxResponse:
        """Handle ``DELETE /requests/{id}``."""
        backend = self._backend
        job = self._visible(org, request_id)
        if job is None or backend.config.cancel is CancelMode.MISSING:
            return responses.no_request(request_id)
        if backend.config.cancel is CancelMode.WORKS:
            if job.status is not JobStatus.QUEUED:
                word = views.status_text(job, backend.now())
                return responses.error(409, f"request cannot be cancelled: it is {word}", request_id=request_id)
            backend.lifecycle.end(job, JobStatus.CANCELLED, None, backend.now())
        body = views.record(job, backend.now(), backend.config, backend.result_base)
        return responses.json_response(200, body, request_id=request_id)

    def _visible(self, org: str, request_id: str) -> SandboxJob | None:
        job = self._backend.jobs.get(request_id)
        if job is None or job.org_id != org or job.origin is JobOrigin.CONSOLE:
            return None
        return job

    def _limited(self) -> SandboxResponse | None:
        limit, now = self._backend.config.reads_per_second, self._backend.now()
        wait = self._window.wait(limit, now)
        if wait is not None:
            return responses.rate_limited(self._backend.retry_after(wait))
        if limit is not None:
            self._window.take(now)
        return None

    def _delay(self, fault: Fault | None) -> float:
        return self._backend.config.slow_seconds if fault in (Fault.GET_SLOW, Fault.LIST_SLOW) else 0.0


def _fault_response(fault: Fault | None, more: dict[str, Any]) -> SandboxResponse | None:
    match fault:
        case Fault.GET_GARBAGE | Fault.LIST_GARBAGE:
            return responses.garbage(**more)
        case Fault.GET_RESET | Fault.LIST_RESET:
            return responses.reset(**more)
        case Fault.GET_HANG | Fault.LIST_HANG:
            return responses.hang(**more)
        case Fault.GET_500 | Fault.LIST_500:
            return responses.internal_error(**more)
        case Fault.GET_502:
            return responses.gateway_page(**more)
        case Fault.GET_401:
            return replace(responses.unauthorized(), **more)
        case Fault.GET_302:
            return responses.redirect(**more)
        case Fault.GET_403_PAGE:
            return responses.firewall_page(**more)
        case Fault.GET_410:
            return responses.error(410, "gone", **more)
        case Fault.GET_BACKEND_400:
            return responses.error(500, "Backend error (400). Please try again.", **more)
        case Fault.LIST_403:
            return replace(responses.forbidden(), **more)
        case Fault.LIST_NULL:
            return responses.json_response(200, {"requests": None}, **more)
        case Fault.LIST_404:
            return responses.error(404, "not found", **more)
        case Fault.GET_429 | Fault.LIST_429:
            return responses.rate_limited(responses.RETRY_AFTER_SECONDS, **more)
        case Fault.GET_429_BARE | Fault.LIST_429_BARE:
            return responses.rate_limited(None, **more)
    return None


def _parse_count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
