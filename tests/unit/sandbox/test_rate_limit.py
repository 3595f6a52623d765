# SPDX-License-Identifier: Apache-2.0
"""Rate limits, outages and credit."""

from __future__ import annotations

from dev.testkit.sandbox import SandboxHarness


def test_submissions_above_the_limit_of_a_second_are_429_and_not_accepted() -> None:
    harness = SandboxHarness(submits_per_second=2)
    assert [harness.submit().status for _ in range(3)] == [200, 200, 429]
    harness.wait(0.9)
    refused = harness.submit()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    harness.wait(0.2)
    assert harness.submit().status == 200
    assert len(harness.core.journal.accepted) == 3


def test_the_limit_of_an_hour_says_how_long_to_wait_or_does_not() -> None:
    verbose, silent = SandboxHarness(submits_per_hour=1), SandboxHarness(submits_per_hour=1, retry_after=False)
    for harness in (verbose, silent):
        harness.submit()
        harness.wait(600)
    assert verbose.submit().headers == {"Retry-After": "3000"}
    assert silent.submit().headers == {}
    verbose.wait(3001)
    assert verbose.submit().status == 200


def test_reads_can_be_limited_too() -> None:
    harness = SandboxHarness(reads_per_second=2)
    assert [harness.call("GET", "/requests").status for _ in range(3)] == [200, 200, 429]
    harness.wait(1)
    assert harness.call("GET", "/requests").status == 200


def test_in_an_outage_submissions_are_503_and_polls_go_on(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    harness.call("POST", "/admin/state", {"outage_seconds": 1200})
    refused = harness.submit()
    assert (refused.status, refused.json()["error"]) == (503, "Upstream capacity temporarily exhausted")
    assert refused.headers["Retry-After"] == "1200"
    assert harness.get(request_id)["status"] == "queued"
    harness.wait(1201)
    assert harness.submit().status == 200


def test_without_credit_a_submission_is_402_until_somebody_pays() -> None:
    harness = SandboxHarness(credits=0.5)
    assert harness.submit().status == 200
    refused = harness.submit()
    assert refused.status == 402
    assert refused.json() == {"error": "Insufficient credits. Please add more credits to your account."}
    harness.wait(1000)
    assert harness.submit().status == 402
    harness.call("POST", "/admin/state", {"credits": 10})
    assert harness.submit().status == 200


def test_credit_that_a_failure_did_not_use_is_free_again() -> None:
    harness = SandboxHarness(credits=0.5)
    harness.core.faults.inject("failed_string")
    harness.submit()
    harness.wait(1000)
    assert harness.submit().status == 200
