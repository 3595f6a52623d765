# SPDX-License-Identifier: Apache-2.0
"""Every fault of the contract can be simulated, and does what its name says."""

from __future__ import annotations

import json

import pytest

from airflow_provider_wan.sandbox.faults import SILENTLY_ACCEPTED, Fault, InjectionPoint
from airflow_provider_wan.sandbox.responses import WireBehavior as Wire
from dev.testkit.sandbox import SandboxHarness

REFUSALS = {
    Fault.ERROR_500_REFUSED: 500,
    Fault.HTML_502: 502,
    Fault.NESTED_ERROR_400: 400,
    Fault.MESSAGE_ERROR_400: 400,
    Fault.DETAIL_ERROR_422: 422,
    Fault.RATE_LIMIT_429: 429,
    Fault.RATE_LIMIT_429_BARE: 429,
    Fault.CAPACITY_503: 503,
    Fault.CAPACITY_503_BARE: 503,
    Fault.NO_CREDIT_402: 402,
    Fault.BAD_KEY_401: 401,
    Fault.FORBIDDEN_403: 403,
    Fault.NO_MODEL_404: 404,
}
DEAD = {
    Fault.RESET_AFTER_ACCEPT: Wire.RESET,
    Fault.RESET_BEFORE_ACCEPT: Wire.RESET,
    Fault.HANG_AFTER_ACCEPT: Wire.HANG,
    Fault.HANG_BEFORE_ACCEPT: Wire.HANG,
}


@pytest.mark.parametrize("fault", list(DEAD))
def test_a_submission_whose_connection_dies_was_accepted_or_not_as_the_fault_says(
    harness: SandboxHarness, fault: Fault
) -> None:
    harness.core.faults.inject(fault)
    answer = harness.submit(seed=4)
    assert (answer.wire, answer.status, answer.body) == (DEAD[fault], 0, b"")
    accepted = fault in SILENTLY_ACCEPTED
    assert answer.accepted is accepted
    assert [each["payload"]["seed"] for each in harness.listed()] == [4] * accepted
    assert len(harness.core.journal.accepted) == accepted
    harness.wait(1000)
    harness.listed()
    assert len(harness.core.journal.charges) == accepted


@pytest.mark.parametrize("fault", list(REFUSALS))
def test_a_refusal_has_its_status_and_leaves_no_request(harness: SandboxHarness, fault: Fault) -> None:
    harness.core.faults.inject(fault)
    assert harness.submit().status == REFUSALS[fault]
    assert harness.listed() == []
    assert harness.submit().status == 200


def test_limits_carry_retry_after_or_not(harness: SandboxHarness) -> None:
    for fault, given in (
        (Fault.RATE_LIMIT_429, True),
        (Fault.RATE_LIMIT_429_BARE, False),
        (Fault.CAPACITY_503, True),
        (Fault.CAPACITY_503_BARE, False),
    ):
        harness.core.faults.inject(fault)
        assert ("Retry-After" in harness.submit().headers) is given


def test_nested_error_bodies_have_the_shapes_that_gateways_give_them(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.NESTED_ERROR_400)
    nested = harness.submit().json()["error"]
    assert nested["message"] == "invalid request"
    assert json.loads(nested["details"])["code"] == "InvalidParameter"
    harness.core.faults.inject(Fault.MESSAGE_ERROR_400)
    assert set(harness.submit().json()) == {"message"}
    harness.core.faults.inject(Fault.DETAIL_ERROR_422)
    assert set(harness.submit().json()) == {"detail"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.BACKEND_400, "Backend error (400). Please try again."),
        (Fault.API_STATUS_400, "API request failed with status 400: {"),
    ],
)
def test_a_disguised_500_leaves_a_failed_record_that_costs_nothing(
    harness: SandboxHarness, fault: Fault, words: str
) -> None:
    harness.core.faults.inject(fault)
    answer = harness.submit(seed=8)
    assert answer.status == 500
    assert answer.json()["error"].startswith(words)
    (left,) = harness.listed()
    assert (left["status"], left["payload"]["seed"]) == ("failed", 8)
    assert left["outcome"]["error"] == answer.json()["error"]
    assert harness.core.journal.accepted == []
    harness.wait(1000)
    harness.listed()
    assert harness.core.journal.charges == []


@pytest.mark.parametrize("fault", [Fault.ERROR_500_ACCEPTED, Fault.HTML_502_ACCEPTED])
def test_a_5xx_may_have_been_accepted_all_the_same(harness: SandboxHarness, fault: Fault) -> None:
    harness.core.faults.inject(fault)
    assert harness.submit().status >= 500
    assert len(harness.listed()) == 1


def test_an_acceptance_may_come_as_garbage_without_its_id_or_as_201(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.GARBAGE_ACCEPTED)
    with pytest.raises(ValueError, match=r"."):
        harness.submit().json()
    harness.core.faults.inject(Fault.NO_ID_ACCEPTED)
    assert "request_id" not in harness.submit().json()
    harness.core.faults.inject(Fault.ANSWER_201)
    answer = harness.submit()
    assert answer.status == 201
    assert "request_id" in answer.json()
    assert len(harness.listed()) == 3


def test_a_submission_may_be_answered_with_its_success(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.IMMEDIATE_SUCCESS)
    submitted = harness.submit().json()
    assert submitted["status"] == "success"
    assert submitted["outcome"]["media_urls"][0]["url"].endswith(".mp4")
    assert len(harness.core.journal.charges) == 1


def test_a_request_may_never_run_or_never_end(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.NEVER_RUNS)
    never = harness.submit_id()
    harness.core.faults.inject(Fault.RUNS_FOREVER)
    forever = harness.submit_id()
    harness.wait(10_000_000)
    assert harness.get(never)["status"] == "queued"
    assert harness.get(forever)["status"] == "processing"
    assert harness.core.journal.charges == []


def test_a_late_failure_strikes_after_ten_minutes(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.LATE_FAILURE)
    request_id = harness.submit_id()
    harness.wait(20 + 599)
    assert harness.get(request_id)["status"] == "processing"
    harness.wait(2)
    failed = harness.get(request_id)
    assert (failed["status"], failed["outcome"]) == ("failed", {"error": "Failed to download media"})


def test_an_upstream_rate_limit_comes_as_a_failed_record(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.RATE_LIMIT_RECORD)
    request_id = harness.submit_id()
    harness.wait(21)
    assert harness.get(request_id)["outcome"] == {"error": "rate limit exceeded(RPM)"}


REASON = "Video generation failed: internal inference error"


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        (Fault.FAILED_NULL, {"outcome": None}),
        (Fault.FAILED_STRING, {"outcome": {"error": REASON}}),
        (
            Fault.FAILED_DICT,
            {"outcome": {"error": {"code": "InternalError", "message": REASON, "status": 500}}},
        ),
        (Fault.FAILED_MESSAGE, {"outcome": {"message": REASON}}),
        (Fault.FAILED_TOP_ERROR, {"outcome": None, "error": REASON}),
        (Fault.FAILED_TOP_REASON, {"outcome": None, "reason": REASON}),
    ],
)
def test_a_failure_has_its_reason_in_each_of_the_known_places(
    harness: SandboxHarness, fault: Fault, fields: object
) -> None:
    harness.core.faults.inject(fault)
    request_id = harness.submit_id()
    harness.wait(1000)
    answer = harness.call("GET", f"/requests/{request_id}")
    record = answer.json()
    assert (answer.status, record["status"]) == (200, "failed")
    assert {name: record[name] for name in ("outcome", "error", "reason") if name in record} == fields
    assert harness.core.journal.charges == []


def test_a_request_may_be_cancelled_by_the_service_in_either_spelling(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.CANCELLED, count=2)
    first = harness.submit_id()
    harness.core.faults.inject(Fault.CANCELED_SPELLING)
    second = harness.submit_id()
    harness.wait(1000)
    assert [harness.get(each)["status"] for each in (first, second)] == ["cancelled", "canceled"]


@pytest.mark.parametrize(
    ("fault", "queued", "running"),
    [
        (Fault.CREATED_STATUS, "created", "processing"),
        (Fault.DISPATCHED_STATUS, "queued", "dispatched"),
        (Fault.UNKNOWN_STATUS, "warming_up", "warming_up"),
    ],
)
def test_other_status_words_are_returned_on_the_way_to_success(
    harness: SandboxHarness, fault: Fault, queued: str, running: str
) -> None:
    harness.core.faults.inject(fault)
    submitted = harness.submit().json()
    assert submitted["status"] == queued
    harness.wait(21)
    assert harness.get(submitted["request_id"])["status"] == running
    harness.wait(60)
    assert harness.get(submitted["request_id"])["status"] == "success"


def test_outcomes_have_each_of_the_known_shapes(harness: SandboxHarness) -> None:
    shapes = (Fault.BARE_MEDIA_URLS, Fault.VIDEO_URL_ONLY, Fault.MP4_THUMBNAIL)
    ids = []
    for shape in shapes:
        harness.core.faults.inject(shape)
        ids.append(harness.submit_id())
    harness.core.faults.inject(Fault.SUCCESS_WITHOUT_MEDIA)
    ids.append(harness.submit_id())
    harness.wait(1000)
    urls = [f"http://results.sandbox.invalid/{each}.mp4" for each in ids]
    assert [harness.get(each)["outcome"] for each in ids] == [
        {"media_urls": [urls[0]]},
        {"video_url": urls[1]},
        {"media_urls": [{"id": "0", "url": urls[2]}], "thumbnail_image_url": urls[2]},
        {"media_urls": []},
    ]


def test_the_echo_may_be_empty_and_the_model_another(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.EMPTY_ECHO)
    harness.core.faults.inject(Fault.MODEL_DIFFERS)
    submitted = harness.submit().json()
    assert submitted["model"] != "wan2.6-i2v"
    assert harness.get(submitted["request_id"])["payload"] == {}
    silent = SandboxHarness(echo_payload=False)
    silent.submit()
    assert silent.listed()[0]["payload"] == {}


@pytest.mark.parametrize(
    ("fault", "status", "wire"),
    [
        (Fault.GET_GARBAGE, 200, Wire.SEND), (Fault.GET_HANG, 0, Wire.HANG), (Fault.GET_RESET, 0, Wire.RESET),
        (Fault.GET_500, 500, Wire.SEND), (Fault.GET_502, 502, Wire.SEND), (Fault.GET_404, 404, Wire.SEND),
        (Fault.GET_401, 401, Wire.SEND), (Fault.GET_429, 429, Wire.SEND), (Fault.GET_429_BARE, 429, Wire.SEND),
    ],
)  # fmt: skip
def test_one_bad_status_answer_changes_nothing(harness: SandboxHarness, fault: Fault, status: int, wire: Wire) -> None:
    request_id = harness.submit_id()
    harness.core.faults.inject(fault)
    answer = harness.call("GET", f"/requests/{request_id}")
    assert (answer.status, answer.wire) == (status, wire)
    assert harness.get(request_id)["status"] == "queued"


@pytest.mark.parametrize(
    ("fault", "status", "wire"),
    [
        (Fault.LIST_404, 404, Wire.SEND), (Fault.LIST_500, 500, Wire.SEND), (Fault.LIST_GARBAGE, 200, Wire.SEND),
        (Fault.LIST_HANG, 0, Wire.HANG), (Fault.LIST_RESET, 0, Wire.RESET), (Fault.LIST_429, 429, Wire.SEND),
        (Fault.LIST_429_BARE, 429, Wire.SEND),
    ],
)  # fmt: skip
def test_one_page_of_the_list_may_fail(harness: SandboxHarness, fault: Fault, status: int, wire: Wire) -> None:
    harness.submit()
    harness.core.faults.inject(fault, match={"offset": "0"})
    assert harness.listed("?offset=1") == []
    answer = harness.call("GET", "/requests?offset=0")
    assert (answer.status, answer.wire) == (status, wire)
    assert len(harness.listed("?offset=0")) == 1


def test_slow_answers_are_right_but_late(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    harness.core.faults.inject(Fault.GET_SLOW)
    harness.core.faults.inject(Fault.LIST_SLOW)
    harness.core.faults.inject(Fault.SLOW_SUBMIT)
    for method, path in (("GET", f"/requests/{request_id}"), ("GET", "/requests")):
        answer = harness.call(method, path)
        assert (answer.status, answer.delay) == (200, 5.0)
    assert harness.submit().delay == 5.0


def test_the_order_of_the_list_may_be_reversed(harness: SandboxHarness) -> None:
    ids = [harness.submit_id(seed=number) for number in range(3)]
    harness.core.faults.inject(Fault.LIST_REVERSED, count=None)
    assert [each["request_id"] for each in harness.listed()] == ids
    assert [each["request_id"] for each in harness.listed("?limit=1&offset=1")] == [ids[1]]


def test_a_request_of_the_console_is_listed_and_404_by_id(harness: SandboxHarness) -> None:
    made = harness.call("POST", "/admin/console", {}).json()
    assert [each["request_id"] for each in harness.listed()] == [made["request_id"]]
    assert harness.call("GET", f"/requests/{made['request_id']}").status == 404
    assert harness.core.journal.charges == []


def test_an_injected_fault_strikes_only_what_it_matches(harness: SandboxHarness) -> None:
    harness.core.faults.inject(Fault.RESET_AFTER_ACCEPT, match={"seed": 2})
    harness.core.faults.inject(Fault.NO_CREDIT_402, match={"img_url": {"contains": "/dog"}})
    assert harness.submit(seed=1).status == 200
    assert harness.submit(seed=2).wire is Wire.RESET
    assert harness.submit(seed=2).status == 200
    assert harness.submit(img_url="https://images.example/dog.jpg?signature=x").status == 402


def test_rates_strike_as_often_as_they_say_and_the_same_ones_for_a_seed() -> None:
    def struck(seed: int) -> list[int]:
        harness = SandboxHarness(seed=seed, rates={Fault.ERROR_500_REFUSED: 0.2})
        return [number for number in range(500) if harness.submit().status == 500]

    assert 70 < len(struck(1)) < 130
    assert struck(1) == struck(1)
    assert struck(1) != struck(2)


def test_a_rate_outside_0_and_1_and_an_unknown_fault_are_refused() -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        SandboxHarness(rates={"get_500": 1.5})
    with pytest.raises(ValueError, match="no_such_fault"):
        SandboxHarness(rates={"no_such_fault": 0.5})


def test_every_fault_has_its_point() -> None:
    by_name = {fault: fault.point for fault in Fault}
    assert by_name[Fault.RESET_AFTER_ACCEPT] is by_name[Fault.IMMEDIATE_SUCCESS] is InjectionPoint.SUBMIT
    assert by_name[Fault.NEVER_RUNS] is by_name[Fault.SUCCESS_WITHOUT_MEDIA] is InjectionPoint.LIFE
    for fault, point in by_name.items():
        for prefix in ("get", "list", "result"):
            assert (point.value == prefix) is fault.value.startswith(f"{prefix}_")
