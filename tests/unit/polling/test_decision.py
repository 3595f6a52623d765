# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestPage, RequestRecord
from airflow_provider_wan.polling.decision import (
    MAX_SINGLE_POLLS,
    PAGE_SIZE,
    PollTarget,
    StatusScan,
    WaitDecision,
    WaitStatus,
    evaluate_poll,
    prefer_page,
)

TARGET = PollTarget("r1", end_time=1000.0, not_before=8.0, poll_interval=10.0)


def record(status: Any, **more: Any) -> Any:
    return RequestRecord.parse({"request_id": "r1", "status": status, **more})


def decide(result: Any, target: PollTarget, now: float) -> WaitDecision:
    decision = evaluate_poll(result, target, now)
    assert decision is not None
    return decision


@pytest.mark.parametrize("end", ["success", "failed", "cancelled"])
def test_an_end_ends_the_wait(end: str) -> None:
    outcome = {"video_url": "https://s.example.com/a.mp4"} if end == "success" else None
    assert decide(record(end, outcome=outcome), TARGET, 500.0).status == end


@pytest.mark.parametrize("outcome", [None, {}, {"media_urls": []}])
def test_a_success_whose_outcome_comes_later_is_waited_for_until_the_end_time(outcome: Any) -> None:
    late = record("success", outcome=outcome)
    assert evaluate_poll(late, TARGET, 999.0) is None
    assert decide(late, TARGET, 1000.0).status is WaitStatus.TIMEOUT
    assert decide(late, replace(TARGET, needs_file=False), 500.0).status is WaitStatus.SUCCESS


@pytest.mark.parametrize("word", ["created", "queued", "dispatched", "processing", "pondering"])
def test_everything_else_is_waited_for_until_the_end_time(word: str) -> None:
    assert evaluate_poll(record(word), TARGET, 999.0) is None
    assert decide(record(word), TARGET, 1000.0).status is WaitStatus.TIMEOUT


@pytest.mark.parametrize(
    "error",
    [
        errors.WanLookupError("x"),
        errors.WanProtocolError("x"),
        errors.WanRateLimitError("x"),
        errors.WanCapacityError("x"),
        errors.WanConnectError("x"),
        errors.WanAuthError("x"),
        errors.WanCreditError("x"),
        errors.WanBadRequestError("x"),
        errors.WanNotFoundError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_ends_the_wait_for_a_paid_request_before_its_end_time(error: Any) -> None:
    assert evaluate_poll(error, replace(TARGET, missing_since=1.0), 999.0) is None
    assert decide(error, TARGET, 1000.0).status is WaitStatus.TIMEOUT


def test_an_unknown_id_ends_the_wait_only_after_the_grace_that_the_target_sets() -> None:
    missing = replace(TARGET, missing_since=100.0, not_found_grace=60.0)
    assert evaluate_poll(errors.WanNotFoundError("x"), replace(missing, missing_since=None), 100.0) is None
    assert evaluate_poll(errors.WanNotFoundError("x"), missing, 159.0) is None
    assert decide(errors.WanNotFoundError("x"), missing, 160.0).status is WaitStatus.ERROR


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (1, {}, False),
        (2, {}, True),
        (3, {"max_single_polls": 3}, False),
        (4, {"max_single_polls": 3}, True),
        (1, {"id_lookup_works": False}, True),
        (9, {"list_available": False}, False),
        (1, {"list_available": False, "id_lookup_works": False}, False),
    ],
)
def test_a_page_is_preferred_for_several_requests_and_for_unknown_ids(count: int, options: Any, expected: bool) -> None:
    assert prefer_page(count, **options) is expected


class TestStatusScan:
    IDS = tuple(f"r{number}" for number in range(MAX_SINGLE_POLLS + 3))

    @staticmethod
    def page(*ids: str, has_more: bool | None = None) -> RequestPage:
        rows = [{"request_id": each, "status": "queued"} for each in ids]
        return RequestPage.parse({"requests": rows, "has_more": has_more})

    def test_few_requests_are_polled_one_by_one(self) -> None:
        scan = StatusScan(self.IDS[:MAX_SINGLE_POLLS])
        while (poll := scan.next_poll()) is not None:
            scan.on_record(poll, record("queued"))
        assert list(scan.records) == list(self.IDS[:MAX_SINGLE_POLLS])
        assert scan.polls == MAX_SINGLE_POLLS

    def test_many_are_polled_by_pages_and_the_rest_one_by_one(self) -> None:
        scan = StatusScan(self.IDS)
        first = scan.next_poll()
        assert first is not None
        assert (first.request_id, first.offset, first.limit) == (None, 0, PAGE_SIZE)
        scan.on_page(self.page(*self.IDS[:2]))
        second = scan.next_poll()
        assert second is not None
        assert (second.request_id, second.offset) == (None, 2)
        scan.on_page(self.page("other"))
        singles = []
        while (poll := scan.next_poll()) is not None:
            singles.append(poll.request_id)
            scan.on_error(poll, errors.WanNotFoundError("x"))
        assert singles == list(self.IDS[2:])
        assert scan.unknown == set(singles)
        assert scan.error is None

    def test_an_error_of_a_page_leaves_the_single_polls(self) -> None:
        scan = StatusScan(self.IDS, max_single_polls=2)
        page = scan.next_poll()
        assert page is not None
        scan.on_error(page, errors.WanLookupError("x"))
        singles = [poll.request_id for _ in range(5) if (poll := scan.next_poll()) is not None]
        assert singles == list(self.IDS[:2])

    def test_a_key_that_may_not_list_may_still_get_requests(self) -> None:
        scan = StatusScan(self.IDS)
        page = scan.next_poll()
        assert page is not None
        scan.on_error(page, errors.WanAuthError("x"))
        assert scan.error is None
        single = scan.next_poll()
        assert single is not None
        assert single.request_id == self.IDS[0]

    def test_a_key_that_is_rejected_for_a_single_request_ends_the_scan(self) -> None:
        scan = StatusScan(self.IDS[:1])
        single = scan.next_poll()
        assert single is not None
        scan.on_error(single, errors.WanAuthError("x"))
        assert scan.next_poll() is None

    def test_it_sends_no_more_polls_than_allowed_but_at_least_one(self) -> None:
        scan = StatusScan(self.IDS, max_polls=0)
        assert scan.next_poll() is not None
        assert scan.next_poll() is None

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_that_a_request_ended_without_a_clip_is_believed_by_its_id_only(self, status: str) -> None:
        scan = StatusScan(self.IDS)
        scan.next_poll()
        rows = [{"request_id": each, "status": status} for each in self.IDS]
        scan.on_page(RequestPage.parse({"requests": rows}))
        assert scan.records == {}
        running, ended, unknown, unanswered = scan.missing()[:4]
        results = {running: record("processing"), ended: record(status), unanswered: errors.WanLookupError("x")}
        for request_id in (running, ended, unknown, unanswered):
            poll = scan.next_poll()
            assert poll is not None
            assert poll.request_id == request_id
            result = results.get(request_id, errors.WanNotFoundError("x"))
            if isinstance(result, errors.WanError):
                scan.on_error(poll, result)
            else:
                scan.on_record(poll, result)
        found = {request_id: each.status_text for request_id, each in scan.records.items()}
        assert found == {running: "processing", ended: status, unknown: status}
        assert scan.unknown == set()

    def test_a_success_without_its_file_is_polled_by_id(self) -> None:
        scan = StatusScan(self.IDS)
        scan.next_poll()
        rows = [{"request_id": each, "status": "success"} for each in self.IDS]
        scan.on_page(RequestPage.parse({"requests": rows}))
        assert scan.missing() == list(self.IDS)
