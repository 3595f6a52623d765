# SPDX-License-Identifier: Apache-2.0
"""The sandbox's admin API and its journal."""

from __future__ import annotations

import json

import pytest

from dev.testkit.sandbox import KEY, START, SandboxHarness


def test_the_journal_contains_every_call_and_never_the_key(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    harness.call("GET", f"/requests/{request_id}")
    harness.call("GET", "/requests?limit=7&offset=2", Authorization="Bearer stolen-key")
    journal = harness.call("GET", "/admin/journal").json()
    assert journal["calls"] == 3
    submit, get, refused = journal["entries"]
    assert (submit["method"], submit["path"], submit["status"]) == ("POST", "/requests", 200)
    assert (submit["accepted"], submit["request_id"], submit["time"]) == (True, request_id, START)
    assert (get["request_id"], get["accepted"]) == (request_id, False)
    assert (refused["status"], refused["limit"], refused["offset"]) == (401, "7", "2")
    assert all(entry["authorization"] for entry in journal["entries"])
    stored = json.dumps(journal) + json.dumps(harness.events)
    assert KEY not in stored
    assert "stolen-key" not in stored


def test_the_journal_separates_accepted_requests_from_charges(harness: SandboxHarness) -> None:
    harness.core.faults.inject("reset_after_accept")
    harness.submit(seed=1)
    harness.core.faults.inject("failed_string")
    harness.submit(seed=2)
    harness.wait(1000)
    accepted = harness.call("GET", "/admin/accepted").json()["accepted"]
    charges = harness.call("GET", "/admin/charges").json()["charges"]
    assert [(each["payload"]["seed"], each["fault"]) for each in accepted] == [(1, "reset_after_accept"), (2, None)]
    assert [each["request_id"] for each in charges] == [accepted[0]["request_id"]]
    assert charges[0] | {"request_id": ""} == {
        "request_id": "", "time": START + 80, "usd": 0.5, "seconds": 5, "resolution": "720P", "origin": "api",
    }  # fmt: skip


def test_a_capped_journal_keeps_the_newest_calls_and_all_counts() -> None:
    harness = SandboxHarness(journal_limit=5)
    request_id = harness.submit_id()
    for _ in range(20):
        harness.get(request_id)
    journal = harness.call("GET", "/admin/journal?limit=2").json()
    assert journal["calls"] == 21
    assert [entry["number"] for entry in journal["entries"]] == [19, 20]
    assert journal["counters"] == {"api GET /requests/{id} 200": 20, "api POST /requests 200": 1}
    assert len(harness.core.journal.calls) == 5


def test_faults_are_injected_listed_and_cleared_over_http(harness: SandboxHarness) -> None:
    fault = harness.call("POST", "/admin/faults", {"fault": "get_500", "count": 2}).json()
    assert fault == {"fault": "get_500", "count": 2, "match": {}}
    harness.call("POST", "/admin/rates", {"list_500": 1.0})
    assert harness.call("GET", "/admin/faults").json()["rates"] == {"list_500": 1.0}
    request_id = harness.submit_id()
    assert harness.call("GET", f"/requests/{request_id}").status == 500
    assert harness.call("GET", "/requests").status == 500
    harness.call("DELETE", "/admin/faults")
    assert harness.call("GET", f"/requests/{request_id}").status == 200
    assert harness.call("GET", "/requests").status == 200


def test_a_request_that_is_there_can_be_given_a_fate(harness: SandboxHarness) -> None:
    first, second = harness.submit_id(), harness.submit_id()
    harness.call("POST", "/admin/faults", {"fault": "failed_null", "match": {"request_id": first}})
    harness.call("POST", "/admin/faults", {"fault": "bare_media_urls", "match": {"request_id": second}})
    harness.wait(1000)
    assert harness.get(first)["status"] == "failed"
    assert isinstance(harness.get(second)["outcome"]["media_urls"][0], str)


@pytest.mark.parametrize("status", ["processing", "success", "failed", "cancelled", "canceled"])
def test_a_request_can_be_brought_to_a_status_at_once(harness: SandboxHarness, status: str) -> None:
    request_id = harness.submit_id()
    harness.call("POST", f"/admin/requests/{request_id}", {"status": status, "reason": "because"})
    assert harness.get(request_id)["status"] == status.replace("canceled", "cancelled")
    assert len(harness.core.journal.charges) == (status == "success")


def test_time_can_be_moved_on(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    harness.call("POST", "/admin/advance", {"seconds": 81})
    assert harness.get(request_id)["status"] == "success"


def test_waiting_requests_can_be_made_that_end_within_a_span(harness: SandboxHarness) -> None:
    made = harness.call("POST", "/admin/seed", {"count": 100, "finish_between": [100, 200]}).json()["request_ids"]
    assert len({json.dumps(each["payload"]) for each in harness.listed("?limit=100")}) == 100
    harness.wait(99)
    assert harness.call("GET", "/admin").json()["requests"] == {"processing": 100}
    harness.wait(51)
    assert harness.call("GET", "/admin").json()["requests"]["success"] == pytest.approx(50, abs=2)
    harness.wait(51)
    assert harness.get(made[0])["status"] == "success"
    assert harness.call("GET", "/admin").json()["requests"] == {"success": 100}


def test_settings_can_change_while_it_runs_but_not_all(harness: SandboxHarness) -> None:
    assert harness.call("POST", "/admin/state", {"submits_per_hour": 0}).status == 200
    assert harness.submit().status == 429
    refused = harness.call("POST", "/admin/state", {"api_key": "x"})
    assert refused.status == 400
    assert "api_key" in refused.json()["error"]


def test_a_reset_forgets_everything_and_gives_no_id_twice(harness: SandboxHarness) -> None:
    before = harness.submit_id()
    harness.call("POST", "/admin/reset")
    assert harness.listed() == []
    assert harness.core.journal.accepted == []
    assert harness.submit_id() != before


@pytest.mark.parametrize(
    ("method", "path", "value", "status"),
    [
        ("POST", "/admin/faults", {"fault": "nope"}, 400), ("POST", "/admin/faults", {"count": 1}, 400),
        ("POST", "/admin/faults", {"fault": "never_runs", "match": {"request_id": "x"}}, 400),
        ("POST", "/admin/rates", {"get_500": 2}, 400), ("POST", "/admin/requests/x", {"status": "failed"}, 404),
        ("GET", "/admin/nothing", None, 404), ("POST", "/admin/seed", {"count": 1, "payload": {}}, 400),
    ],
)  # fmt: skip
def test_a_wrong_control_is_an_error(
    harness: SandboxHarness, method: str, path: str, value: object, status: int
) -> None:
    assert harness.call(method, path, value).status == status
