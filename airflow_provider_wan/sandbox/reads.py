# SPDX-License-Identifier: Apache-2.0
"""The calls on requests that are there: status, list, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import answers, view
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.sandbox.faults import Fault, Point
from airflow_provider_wan.sandbox.job import Job, Origin, Status
from airflow_provider_wan.sandbox.limits import Window

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.core import SandboxCore


class Reads:
    """Looks requests up."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._window = Window(1.0)

    def get(self, org: str, request_id: str) -> Answer:
        """``GET /requests/{id}``."""
        limited = self._limited()
        if limited:
            return limited
        core = self._core
        job = self._visible(org, request_id)
        fields = job.fields() if job and core.faults.injections else {"request_id": request_id}
        fault = core.faults.take_one(Point.GET, fields)
        more = {"request_id": request_id, "fault": fault}
        broken = _broken(fault, more)
        if broken:
            return broken
        if job is None or fault is Fault.GET_404:
            return answers.no_request(request_id, fault=fault)
        told = view.record(job, core.now(), core.config, core.result_base)
        return answers.as_json(200, told, delay=self._delay(fault), **more)

    def list(self, org: str, params: Mapping[str, str]) -> Answer:
        """``GET /requests``."""
        limited = self._limited()
        if limited:
            return limited
        core = self._core
        fault = core.faults.take_one(Point.LIST, params)
        broken = _broken(fault, {"fault": fault})
        if broken:
            return broken
        limit, offset = _count(params.get("limit", "100")), _count(params.get("offset", "0"))
        if limit is None or offset is None or limit == 0:
            return answers.error(400, "invalid query parameters: limit, offset (Expected a whole number)")
        model, now = params.get("model_id") or None, core.now()
        before = now - core.config.list_lag
        reverse = fault is Fault.LIST_REVERSED
        page, total = core.jobs.page(org, model, min(limit, core.config.list_max), offset, before, reverse)
        told: dict[str, Any] = {"requests": [view.record(job, now, core.config, core.result_base) for job in page]}
        if core.config.list_totals:
            told |= {"total": total, "has_more": offset + len(page) < total}
        return answers.as_json(200, told, delay=self._delay(fault), fault=fault)

    def cancel(self, org: str, request_id: str) -> Answer:
        """``DELETE /requests/{id}``."""
        core = self._core
        job = self._visible(org, request_id)
        if job is None or core.config.cancel is CancelMode.MISSING:
            return answers.no_request(request_id)
        if core.config.cancel is CancelMode.WORKS:
            if job.status is not Status.QUEUED:
                word = view.status_word(job, core.now())
                return answers.error(409, f"request cannot be cancelled: it is {word}", request_id=request_id)
            core.life.end(job, Status.CANCELLED, None, core.now())
        told = view.record(job, core.now(), core.config, core.result_base)
        return answers.as_json(200, told, request_id=request_id)

    def _visible(self, org: str, request_id: str) -> Job | None:
        job = self._core.jobs.get(request_id)
        if job is None or job.org_id != org or job.origin is Origin.CONSOLE:
            return None
        return job

    def _limited(self) -> Answer | None:
        limit, now = self._core.config.reads_per_second, self._core.now()
        wait = self._window.wait(limit, now)
        if wait is not None:
            return answers.rate_limited(self._core.retry_after(wait))
        if limit is not None:
            self._window.take(now)
        return None

    def _delay(self, fault: Fault | None) -> float:
        return self._core.config.slow_seconds if fault in (Fault.GET_SLOW, Fault.LIST_SLOW) else 0.0


def _broken(fault: Fault | None, more: dict[str, Any]) -> Answer | None:
    match fault:
        case Fault.GET_GARBAGE | Fault.LIST_GARBAGE:
            return answers.garbage(**more)
        case Fault.GET_RESET | Fault.LIST_RESET:
            return answers.reset(**more)
        case Fault.GET_HANG | Fault.LIST_HANG:
            return answers.hang(**more)
        case Fault.GET_500 | Fault.LIST_500:
            return answers.internal_error(**more)
        case Fault.GET_502:
            return answers.gateway_page(**more)
        case Fault.GET_401:
            return replace(answers.unauthorized(), **more)
        case Fault.LIST_404:
            return answers.error(404, "not found", **more)
        case Fault.GET_429 | Fault.LIST_429:
            return answers.rate_limited(answers.RETRY_AFTER_SECONDS, **more)
        case Fault.GET_429_BARE | Fault.LIST_429_BARE:
            return answers.rate_limited(None, **more)
    return None


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
