# SPDX-License-Identifier: Apache-2.0
"""Entries, requests and an API of the tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import WanBudgetError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.api.request import I2VRequest, WanRequest
from airflow_provider_wan.ledger import Budget, LedgerEntry, Owner, compute_fingerprint
from airflow_provider_wan.ledger.entry import NO_REFERENCE, claim, record_intent, rejected
from airflow_provider_wan.ledger.fingerprint import hash_payload
from airflow_provider_wan.ledger.rules import Policy

NOW = 1_700_000_000.0
REQUEST = I2VRequest(img_url="https://images.example.com/cat.png?sig=1", prompt="a cat", resolution="720P")
ACCOUNT = WanConfig(api_key="tests-key-1f9d3b", base_url="https://api.example.com/queue").account
FINGERPRINT = compute_fingerprint(REQUEST)
ME = Owner("dag/run/clip/-1", 1, "me")
MY_RETRY = Owner("dag/run/clip/-1", 2, "me again")
#: Short intervals for real processes beside a sandbox, which responds at once.
QUICK_POLICY = Policy(
    post_timeout=1.0,
    longest_post=1.0,
    list_lag=0.0,
    max_intent_age=1.0,
    absence_confirm_interval=2.0,
    doubt_poll_interval=0.5,
)
OTHER = Owner("dag/other/clip/-1", 1, "other")


def a_claim(owner: Owner = ME, *, seed: int = 7, drawn: bool = True, now: float = NOW, **more: Any) -> LedgerEntry:
    entry = claim(
        fingerprint=more.pop("fingerprint", FINGERPRINT),
        owner=owner,
        account=more.pop("account", ACCOUNT),
        scope="",
        now=now,
        model=REQUEST.model,
        resolution="720P",
        duration=5,
        seed=seed,
        seed_drawn=drawn,
        payload_sha256=hash_payload(REQUEST.with_seed(seed).to_payload()),
        price=0.1,
        cost_estimate=0.5,
        reference=more.pop("reference", NO_REFERENCE),
    )
    return replace(entry, **more)


def a_post(owner: Owner = ME, **more: Any) -> LedgerEntry:
    return record_intent(a_claim(owner, **more), more.get("now", NOW))


def spend_budget(budget: Budget, name: str, numbers: Iterable[int]) -> int:
    """Reserve clips, every third of which is refused and released; return how many are paid."""
    paid = 0
    for number in numbers:
        entry = a_claim(fingerprint=f"{name}{number}")
        try:
            budget.reserve(entry)
        except WanBudgetError:
            continue
        if number % 3:
            paid += 1
            budget.commit(entry.fingerprint)
        else:
            budget.release(rejected(entry, "refused", NOW))
    budget.flush()
    return paid


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()


class PreparedCall:
    """A POST without a connection."""

    def __init__(self, call: Callable[[], RequestRecord]) -> None:
        self._call = call

    def send(self, timeout: float) -> RequestRecord:
        return self._call()

    def close(self) -> None:
        pass


class Api:
    """
    An API that accepts requests and lists them, newest first; two of them are older than any test.

    :ivar answers: what the next submissions do: an error to raise, or one to raise after accepting (a pair).
    """

    def __init__(self, clock: Callable[[], float] = lambda: NOW) -> None:
        self.clock = clock
        self.account = ACCOUNT
        self.records: list[RequestRecord] = []
        self.hidden: set[str] = set()
        self.answers: list[Exception | tuple[str, Exception]] = []
        self.posts: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.pages: list[tuple[int, int]] = []
        self.serve_page: Callable[[int, int], RequestPage] | None = None
        self.list_error: Exception | None = None
        for n in (2, 1):
            self._ids = itertools.count(1)
            self.add({"seed": n}, "success", request_id=f"old{n}", created_at=NOW - 7200 * n)
        self._ids = itertools.count(1)

    def prepare_submission(self, request: WanRequest) -> PreparedCall:
        return PreparedCall(lambda: self.submit(request))

    def submit(self, request: WanRequest) -> RequestRecord:
        self.posts.append(request.to_payload())
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        record = self.add(request.to_payload())
        if answer is not None:
            raise answer[1]
        return record

    def add(self, payload: dict[str, Any], status: str = "queued", **more: Any) -> RequestRecord:
        record = RequestRecord(
            request_id=more.pop("request_id", f"r{next(self._ids)}"),
            status=RequestStatus(status),
            status_text=status,
            created_at=more.pop("created_at", self.clock()),
            payload=payload,
            **more,
        )
        self.records.insert(0, record)
        return record

    def turn(self, request_id: str, status: str, error: str | None = None) -> RequestRecord:
        found = self.get_request(request_id)
        video_url = f"https://results.example.com/{request_id}.mp4" if status == "success" else None
        new = replace(found, status=RequestStatus(status), status_text=status, error=error, video_url=video_url)
        self.records[self.records.index(found)] = new
        return new

    def get_request(self, request_id: str) -> RequestRecord:
        for record in self.records:
            if record.request_id == request_id and request_id not in self.hidden:
                return record
        raise WanNotFoundError(f"Request {request_id}: HTTP 404")

    def list_requests(
        self, *, model_id: str | None = None, limit: int = 100, offset: int = 0, all_models: bool = False
    ) -> RequestPage:
        self.pages.append((limit, offset))
        if self.list_error is not None:
            raise self.list_error
        if self.serve_page is not None:
            return self.serve_page(limit, offset)
        records = tuple(self.records[offset : offset + limit])
        return RequestPage(records, len(records), len(self.records), offset + limit < len(self.records))

    def cancel(self, request_id: str) -> bool:
        self.cancelled.append(request_id)
        return True
