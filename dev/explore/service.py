# SPDX-License-Identifier: Apache-2.0
"""
A service whose phases the caller controls: when it accepts a POST, when it lists the request, what it responds.

It stays within the documented envelope if its callers do; nothing here checks that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_wan.api.errors import WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus

OLD = (20_000.0, 10_000.0)


@dataclass
class FlyingPost:
    """
    A POST that has left its worker.

    :param fingerprint: the clip.
    :param attempt: task and try number.
    :param payload: what it asks for.
    :param sent_at: the true time of its first byte.
    :param request_id: the request that it became; None if it was not accepted.
    :param refused: whether the service's own response refused it.
    :param over: whether the service has taken it, or never will.
    :param due: the true time at which the service will accept it; None if that is not decided.
    :param lag: how long after that the list does not show it.
    """

    fingerprint: str
    attempt: str
    payload: dict[str, Any]
    sent_at: float
    request_id: str | None = None
    refused: bool = False
    over: bool = False
    due: float | None = None
    lag: float = 0.0


class SimulatedService:
    """
    Accepts, lists and finishes requests.

    :param now: true time of the start.
    :param clock_error: how far its clock is ahead.
    :ivar listed_from: request id → true time from which the list shows it.
    """

    def __init__(self, now: float, clock_error: float = 0.0) -> None:
        self.clock_error = clock_error
        self.records: dict[str, RequestRecord] = {}
        self.listed_from: dict[str, float] = {}
        self.payloads: dict[str, dict[str, Any]] = {}
        # The account has older requests; without them the list proves nothing.
        for number, age in enumerate(OLD):
            self._add(f"old{number}", {"seed": number}, now - age, now - age, RequestStatus.SUCCESS)

    def accept(self, post: FlyingPost, now: float, lag: float) -> str:
        """Accept a POST; the list shows it after ``lag`` seconds."""
        post.over = True
        post.request_id = f"r{len(self.payloads) + 1}"
        self.payloads[post.request_id] = post.payload
        self._add(post.request_id, post.payload, now, now + lag, RequestStatus.QUEUED)
        return post.request_id

    def finish(self, request_id: str, status: RequestStatus, error: str | None = None) -> None:
        """End a request."""
        self.records[request_id] = replace(
            self.records[request_id], status=status, status_text=status.value, error=error
        )

    def running(self) -> list[str]:
        """Return the ids of the requests that have not ended."""
        return [name for name in self.payloads if not self.records[name].status.is_terminal]

    def paid(self) -> list[str]:
        """Return the ids of the requests that are charged, or will be if they succeed."""
        free = (RequestStatus.FAILED, RequestStatus.CANCELLED)
        return [name for name in self.payloads if self.records[name].status not in free]

    def page(self, now: float, limit: int, offset: int, newest: int | None = None) -> RequestPage:
        """
        Return a page of the list.

        :param newest: how many requests a list shows that is cut; None for all.
        """
        listed = [each for name, each in self.records.items() if self.listed_from[name] <= now]
        listed.sort(key=lambda each: -(each.created_at or 0.0))
        listed = listed[:newest]
        part = tuple(listed[offset : offset + limit])
        return RequestPage(part, len(part), len(listed), offset + limit < len(listed))

    def get(self, request_id: str, now: float) -> RequestRecord:
        """Return one request, once the list shows it too."""
        if request_id not in self.records or self.listed_from[request_id] > now:
            raise WanNotFoundError(f"Request {request_id}: HTTP 404")
        return self.records[request_id]

    def _add(
        self, request_id: str, payload: dict[str, Any], now: float, listed_from: float, status: RequestStatus
    ) -> None:
        created_at = now + self.clock_error
        self.records[request_id] = RequestRecord(
            request_id=request_id, status=status, status_text=status.value, created_at=created_at, payload=payload
        )
        self.listed_from[request_id] = listed_from
