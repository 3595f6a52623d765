# SPDX-License-Identifier: Apache-2.0
"""The list, its pages, and its cost."""

from __future__ import annotations

import time

import pytest

from dev.testkit.sandbox import MODEL, PAYLOAD, SandboxHarness


def test_the_list_is_paged_newest_first() -> None:
    harness = SandboxHarness()
    ids = []
    for number in range(7):
        ids.append(harness.submit_id(seed=number))
        harness.wait(0.5)
    first = harness.call("GET", "/requests?limit=3").json()
    last = harness.call("GET", "/requests?limit=3&offset=6").json()
    assert [each["request_id"] for each in first["requests"]] == ids[:3:-1]
    assert (first["total"], first["has_more"]) == (7, True)
    assert [each["request_id"] for each in last["requests"]] == [ids[0]]
    assert (last["total"], last["has_more"]) == (7, False)
    assert harness.listed("?offset=7") == []


def test_a_new_request_shifts_the_pages() -> None:
    harness = SandboxHarness()
    ids = [harness.submit_id(seed=number) for number in range(4)]
    page = harness.listed("?limit=2")
    harness.submit_id(seed=9)
    assert harness.listed("?limit=2&offset=2")[0] == page[1]
    assert page[1]["request_id"] == ids[2]


def test_totals_can_be_left_out() -> None:
    assert set(SandboxHarness(list_totals=False).call("GET", "/requests").json()) == {"requests"}


def test_the_list_can_be_filtered_by_model() -> None:
    harness = SandboxHarness(models=(MODEL, "other"))
    mine = harness.submit_id()
    harness.call("POST", "/requests", {"model": "other", "payload": PAYLOAD})
    assert [each["request_id"] for each in harness.listed(f"?model_id={MODEL}")] == [mine]
    assert len(harness.listed()) == 2
    assert harness.listed("?model_id=third") == []


@pytest.mark.parametrize("query", ["?limit=0", "?limit=-1", "?limit=x", "?offset=-2", "?offset=1.5"])
def test_paging_that_makes_no_sense_is_400(harness: SandboxHarness, query: str) -> None:
    assert harness.call("GET", f"/requests{query}").status == 400


def test_a_new_request_can_come_late_into_the_list() -> None:
    harness = SandboxHarness(list_lag=5.0)
    request_id = harness.submit_id()
    assert harness.listed() == []
    assert harness.get(request_id)["status"] == "queued"
    harness.wait(5)
    assert [each["request_id"] for each in harness.listed()] == [request_id]


def test_a_clock_that_is_off_shows_in_the_answers_only() -> None:
    harness = SandboxHarness(clock_skew=-90.0)
    request_id = harness.submit_id()
    assert harness.get(request_id)["created_at"] == 1_800_000_000 - 90
    harness.wait(81)
    assert harness.get(request_id)["status"] == "success"


def test_ten_thousand_waiting_requests_are_polled_cheaply() -> None:
    harness = SandboxHarness()
    ids = harness.core.admin.seed(10_000, never=True)
    begun = time.process_time()
    for request_id in ids[:500]:
        harness.call("GET", f"/requests/{request_id}")
    single = (time.process_time() - begun) / 500
    begun = time.process_time()
    for offset in range(0, 10_000, 1000):
        assert len(harness.listed(f"?limit=100&offset={offset}")) == 100
    page = (time.process_time() - begun) / 10
    assert single < 0.001
    assert page < 0.02
