# SPDX-License-Identifier: Apache-2.0
"""Rate limits, outages and credit."""

from __future__ import annotations

from dev.testkit.sandbox import Desk


def test_submissions_above_the_limit_of_a_second_are_429_and_not_accepted() -> None:
    desk = Desk(submits_per_second=2)
    assert [desk.submit().status for _ in range(3)] == [200, 200, 429]
    desk.wait(0.9)
    refused = desk.submit()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    desk.wait(0.2)
    assert desk.submit().status == 200
    assert len(desk.core.journal.accepted) == 3


def test_the_limit_of_an_hour_says_how_long_to_wait_or_does_not() -> None:
    telling, silent = Desk(submits_per_hour=1), Desk(submits_per_hour=1, retry_after=False)
    for desk in (telling, silent):
        desk.submit()
        desk.wait(600)
    assert telling.submit().headers == {"Retry-After": "3000"}
    assert silent.submit().headers == {}
    telling.wait(3001)
    assert telling.submit().status == 200


def test_reads_can_be_limited_too() -> None:
    desk = Desk(reads_per_second=2)
    assert [desk.call("GET", "/requests").status for _ in range(3)] == [200, 200, 429]
    desk.wait(1)
    assert desk.call("GET", "/requests").status == 200


def test_in_an_outage_submissions_are_503_and_looks_go_on(desk: Desk) -> None:
    request_id = desk.submit_id()
    desk.call("POST", "/admin/state", {"outage_seconds": 1200})
    refused = desk.submit()
    assert (refused.status, refused.json()["error"]) == (503, "Upstream capacity temporarily exhausted")
    assert refused.headers["Retry-After"] == "1200"
    assert desk.get(request_id)["status"] == "queued"
    desk.wait(1201)
    assert desk.submit().status == 200


def test_without_credit_a_submission_is_402_until_somebody_pays() -> None:
    desk = Desk(credits=0.5)
    assert desk.submit().status == 200
    refused = desk.submit()
    assert refused.status == 402
    assert refused.json() == {"error": "Insufficient credits. Please add more credits to your account."}
    desk.wait(1000)
    assert desk.submit().status == 402
    desk.call("POST", "/admin/state", {"credits": 10})
    assert desk.submit().status == 200


def test_credit_that_a_failure_did_not_use_is_free_again() -> None:
    desk = Desk(credits=0.5)
    desk.core.faults.inject("failed_string")
    desk.submit()
    desk.wait(1000)
    assert desk.submit().status == 200
