# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.ledger.listing import OVERLAP, read_back
from dev.testkit.ledger import NOW, Api


def records(count, *, step=10.0):
    """The newest first, ``step`` seconds apart."""
    return [RequestRecord(f"r{n}", RequestStatus.QUEUED, "queued", created_at=NOW - n * step) for n in range(count)]


def api_of(held, *, told=True, cap=100, before=lambda call: None):
    """An API that lists ``held``, with or without its totals; ``before`` may change the list between pages."""
    api = Api()
    calls = iter(range(10_000))

    def page_of(limit, offset):
        before(next(calls))
        page = tuple(held[offset : offset + min(limit, cap)])
        more = offset + len(page) < len(held)
        return RequestPage(page, len(page), len(held) if told else None, more if told else None)

    api.page_of = page_of
    return api


def read(api, since=0.0, *, page_size=20, max_pages=50):
    return read_back(api, "wan2.6-i2v", since, page_size=page_size, max_pages=max_pages)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 19, 20, 21, 35, 36, 200])
def test_the_whole_list_is_read_whether_or_not_the_api_tells_its_length(count, told):
    listing = read(api_of(records(count), told=told))
    assert [r.request_id for r in listing.records] == [f"r{n}" for n in range(count)]
    assert listing.gap is None


def test_a_server_that_gives_smaller_pages_than_asked_for_is_read_to_the_end():
    listing = read(api_of(records(100), told=False, cap=7))
    assert (len(listing.records), listing.gap) == (100, None)


def test_reading_ends_with_a_whole_page_that_is_older():
    api = api_of(records(1000))
    listing = read(api, since=NOW - 155)
    assert listing.gap is None
    assert {f"r{n}" for n in range(16)} <= {r.request_id for r in listing.records}
    assert len(api.pages) == 2


@pytest.mark.parametrize("order", ["oldest first", "mixed", "without times"])
def test_a_list_in_another_order_is_read_to_the_end(order):
    held = records(100)
    if order == "oldest first":
        held.reverse()
    elif order == "mixed":
        held = held[50:0:-1] + held[50:] + held[:1]
    else:
        held = [RequestRecord(r.request_id, r.status, r.status_text) for r in held]
    listing = read(api_of(held), since=NOW - 5)
    assert (len(listing.records), listing.gap) == (100, None)


def test_requests_that_come_while_it_is_read_hide_nothing():
    held = records(100)

    def one_more(call):
        held.insert(0, RequestRecord(f"new{call}", RequestStatus.QUEUED, "queued", created_at=NOW + call))

    listing = read(api_of(held, before=one_more))
    assert {f"r{n}" for n in range(100)} <= {r.request_id for r in listing.records}
    assert listing.gap is None


def test_requests_that_vanish_while_it_is_read_make_it_read_again():
    held = records(100)
    api = api_of(held, before=lambda call: held.__delitem__(slice(0, OVERLAP)) if call == 1 else None)
    listing = read(api)
    assert {f"r{n}" for n in range(OVERLAP, 100)} <= {r.request_id for r in listing.records}
    assert listing.gap is None
    assert [offset for _, offset in api.pages].count(0) == 2


def test_a_list_that_does_not_stand_still_does_not_tell():
    held = records(1000)
    api = api_of(held, before=lambda call: held.__delitem__(slice(0, 2 * OVERLAP)))
    assert "moved" in read(api).gap


def test_many_new_requests_between_two_pages_are_not_taken_for_the_end():
    held = records(60)

    def burst(call):
        if call == 1:
            held[:0] = [RequestRecord(f"new{n}", RequestStatus.QUEUED, "queued", created_at=NOW + 9) for n in range(12)]

    listing = read(api_of(held, told=False, before=burst))
    assert {f"r{n}" for n in range(60)} <= {r.request_id for r in listing.records}


@pytest.mark.parametrize("told", [True, False])
def test_an_api_that_knows_no_offset_does_not_tell_where_there_may_be_more(told):
    api = Api()
    page = tuple(records(20))
    api.page_of = lambda limit, offset: RequestPage(page, 20, None, True if told else None)
    assert "same page" in read(api).gap


def test_an_api_that_knows_no_offset_and_gives_everything_tells():
    api = Api()
    page = tuple(records(12))
    api.page_of = lambda limit, offset: RequestPage(page, 12)
    listing = read(api)
    assert (len(listing.records), listing.gap) == (12, None)


def test_an_element_that_can_not_be_read_may_be_ours():
    api = Api()
    api.page_of = lambda limit, offset: RequestPage(tuple(records(3)), 4, 4, False)
    assert "1 of its elements" in read(api).gap


def test_a_list_that_is_not_given_does_not_tell():
    api = Api()
    api.list_error = WanLookupError("HTTP 500")
    assert "HTTP 500" in read(api).gap


def test_a_list_without_an_end_is_given_up():
    assert "longer than 3 pages" in read(api_of(records(500)), max_pages=3).gap
