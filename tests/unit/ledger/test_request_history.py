# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanBadRequestError, WanLookupError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.ledger.request_history import MAX_ZONE_DIFFERENCE, PAGE_OVERLAP, list_requests_since
from dev.testkit.ledger import NOW, Api


def records(count: Any, *, step: float = 10.0) -> Any:
    """The newest first, ``step`` seconds apart."""
    return [RequestRecord(f"r{n}", RequestStatus.QUEUED, "queued", created_at=NOW - n * step) for n in range(count)]


def build_api(listed: Any, *, has_totals: bool = True, cap: int = 100, before: Any = lambda call: None) -> Any:
    """An API that lists ``listed``, with or without its totals; ``before`` may change the list between pages."""
    api = Api()
    calls = iter(range(10_000))

    def serve_page(limit: Any, offset: Any) -> Any:
        before(next(calls))
        page = tuple(listed[offset : offset + min(limit, cap)])
        more = offset + len(page) < len(listed)
        return RequestPage(page, len(page), len(listed) if has_totals else None, more if has_totals else None)

    api.serve_page = serve_page
    return api


def read(api: Any, since: float = 0.0, *, page_size: int = 20, max_pages: int = 50, known: Any = None) -> Any:
    history = list_requests_since(api, "wan2.6-i2v", since, page_size=page_size, max_pages=max_pages, known=known)
    assert history is not None
    return history


@pytest.mark.parametrize("has_totals", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 19, 20, 21, 35, 36, 200])
def test_the_whole_list_is_read_whether_or_not_the_api_returns_totals(count: int, has_totals: bool) -> None:
    history = read(build_api(records(count), has_totals=has_totals))
    assert [r.request_id for r in history.records] == [f"r{n}" for n in range(count)]
    assert history.gap is None


def test_smaller_pages_than_requested_are_read_to_the_end() -> None:
    history = read(build_api(records(100), has_totals=False, cap=7))
    assert (len(history.records), history.gap) == (100, None)


def test_the_scan_ends_with_a_whole_page_that_is_older() -> None:
    api = build_api(records(1000))
    history = read(api, since=NOW - 155, known={"r3": NOW - 30})
    assert history.gap is None
    assert {f"r{n}" for n in range(16)} <= {r.request_id for r in history.records}
    assert len(api.pages) == 2


@pytest.mark.parametrize(
    "known",
    [None, {"another": NOW}, {"r3": NOW - 30 + 5 * 3600}],
    ids=["nothing is known", "not listed", "at another hour"],
)
def test_without_a_known_time_the_scan_goes_on_for_the_hours_of_a_time_zone(known: Any) -> None:
    api = build_api(records(1000, step=300.0))
    history = read(api, since=NOW - 600, known=known)
    oldest = min(record.created_at for record in history.records)
    assert NOW - 600 - MAX_ZONE_DIFFERENCE - 40 * 300 <= oldest < NOW - 600 - MAX_ZONE_DIFFERENCE


def test_what_the_api_says_of_the_end_is_compared_with_what_it_showed() -> None:
    assert read(build_api(records(30))).ended
    api = Api()
    page = tuple(records(20))
    for total, has_more in ((131, False), (20, True), (131, None)):
        api.serve_page = lambda limit, offset, total=total, more=has_more: RequestPage(
            page if offset == 0 else page[offset:], max(20 - offset, 0), total, more
        )
        assert not read(api).ended


@pytest.mark.parametrize("order", ["oldest first", "mixed", "without times"])
def test_a_list_in_another_order_is_read_to_the_end(order: str) -> None:
    listed = records(100)
    if order == "oldest first":
        listed.reverse()
    elif order == "mixed":
        listed = listed[50:0:-1] + listed[50:] + listed[:1]
    else:
        listed = [RequestRecord(r.request_id, r.status, r.status_text) for r in listed]
    history = read(build_api(listed), since=NOW - 5)
    assert (len(history.records), history.gap) == (100, None)
    assert history.read_back_to == float("inf")


def test_requests_made_during_the_scan_hide_nothing() -> None:
    listed = records(100)

    def one_more(call: Any) -> None:
        listed.insert(0, RequestRecord(f"new{call}", RequestStatus.QUEUED, "queued", created_at=NOW + call))

    history = read(build_api(listed, before=one_more))
    assert {f"r{n}" for n in range(100)} <= {r.request_id for r in history.records}
    assert history.gap is None


def test_requests_that_vanish_during_the_scan_restart_it() -> None:
    listed = records(100)
    api = build_api(listed, before=lambda call: listed.__delitem__(slice(0, PAGE_OVERLAP)) if call == 1 else None)
    history = read(api)
    assert {f"r{n}" for n in range(PAGE_OVERLAP, 100)} <= {r.request_id for r in history.records}
    assert history.gap is None
    assert [offset for _, offset in api.pages].count(0) == 2


def test_a_list_that_keeps_moving_has_a_gap() -> None:
    listed = records(1000)
    api = build_api(listed, before=lambda call: listed.__delitem__(slice(0, 2 * PAGE_OVERLAP)))
    assert "moved" in read(api).gap


def test_many_new_requests_between_two_pages_are_not_taken_for_the_end() -> None:
    listed = records(60)

    def burst(call: Any) -> None:
        if call == 1:
            listed[:0] = [
                RequestRecord(f"new{n}", RequestStatus.QUEUED, "queued", created_at=NOW + 9) for n in range(12)
            ]

    history = read(build_api(listed, has_totals=False, before=burst))
    assert {f"r{n}" for n in range(60)} <= {r.request_id for r in history.records}


@pytest.mark.parametrize("has_totals", [True, False])
def test_an_api_without_offset_is_read_back_as_far_as_its_one_page(has_totals: bool) -> None:
    api = Api()
    page = tuple(records(20))
    api.serve_page = lambda limit, offset: RequestPage(page, 20, None, True if has_totals else None)
    history = read(api)
    assert (len(history.records), history.ended, history.read_back_to) == (20, False, NOW - 190)


def test_an_unreadable_element_is_a_gap() -> None:
    api = Api()
    api.serve_page = lambda limit, offset: RequestPage(tuple(records(3)), 4, 4, False)
    assert "1 of its elements" in read(api).gap


def test_an_unreadable_list_is_a_gap() -> None:
    api = Api()
    api.list_error = WanLookupError("HTTP 500")
    assert "HTTP 500" in read(api).gap


def test_an_endless_list_is_a_gap() -> None:
    assert "longer than 3 pages" in read(build_api(records(500)), max_pages=3).gap


def test_an_api_that_lists_no_requests_of_all_models_has_no_such_history_unless_it_began_to() -> None:
    api = Api()
    api.list_error = WanBadRequestError("HTTP 400: model_id (Required parameter is missing)")
    assert list_requests_since(api, None, 0.0, page_size=20, max_pages=5) is None
    assert "HTTP 400" in str(read(api).gap)

    def fail_later(call: int) -> None:
        if call == 1:
            raise WanNotFoundError("HTTP 404")

    history = list_requests_since(build_api(records(40), before=fail_later), None, 0.0, page_size=20, max_pages=5)
    assert history is not None
    assert (len(history.records), history.ended, "HTTP 404" in str(history.gap)) == (20, False, True)
