# SPDX-License-Identifier: Apache-2.0
"""Every trap of the contract can be played, and does what its name says."""

from __future__ import annotations

import json

import pytest

from airflow_provider_wan.sandbox.answers import Wire
from airflow_provider_wan.sandbox.faults import ACCEPTED_UNSAID, Fault, Point
from dev.testkit.sandbox import Desk

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
def test_a_submission_whose_connection_dies_was_accepted_or_not_as_the_fault_says(desk: Desk, fault: Fault) -> None:
    desk.core.faults.inject(fault)
    answer = desk.submit(seed=4)
    assert (answer.wire, answer.status, answer.body) == (DEAD[fault], 0, b"")
    accepted = fault in ACCEPTED_UNSAID
    assert answer.accepted is accepted
    assert [each["payload"]["seed"] for each in desk.listed()] == [4] * accepted
    assert len(desk.core.journal.accepted) == accepted
    desk.wait(1000)
    desk.listed()
    assert len(desk.core.journal.charges) == accepted


@pytest.mark.parametrize("fault", list(REFUSALS))
def test_a_refusal_has_its_status_and_leaves_no_request(desk: Desk, fault: Fault) -> None:
    desk.core.faults.inject(fault)
    assert desk.submit().status == REFUSALS[fault]
    assert desk.listed() == []
    assert desk.submit().status == 200


def test_limits_carry_retry_after_or_not(desk: Desk) -> None:
    for fault, given in (
        (Fault.RATE_LIMIT_429, True),
        (Fault.RATE_LIMIT_429_BARE, False),
        (Fault.CAPACITY_503, True),
        (Fault.CAPACITY_503_BARE, False),
    ):
        desk.core.faults.inject(fault)
        assert ("Retry-After" in desk.submit().headers) is given


def test_nested_error_bodies_have_the_shapes_that_gateways_give_them(desk: Desk) -> None:
    desk.core.faults.inject(Fault.NESTED_ERROR_400)
    nested = desk.submit().json()["error"]
    assert nested["message"] == "invalid request"
    assert json.loads(nested["details"])["code"] == "InvalidParameter"
    desk.core.faults.inject(Fault.MESSAGE_ERROR_400)
    assert set(desk.submit().json()) == {"message"}
    desk.core.faults.inject(Fault.DETAIL_ERROR_422)
    assert set(desk.submit().json()) == {"detail"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.BACKEND_400, "Backend error (400). Please try again."),
        (Fault.API_STATUS_400, "API request failed with status 400: {"),
    ],
)
def test_a_disguised_500_leaves_a_failed_record_that_costs_nothing(desk: Desk, fault: Fault, words: str) -> None:
    desk.core.faults.inject(fault)
    answer = desk.submit(seed=8)
    assert answer.status == 500
    assert answer.json()["error"].startswith(words)
    (left,) = desk.listed()
    assert (left["status"], left["payload"]["seed"]) == ("failed", 8)
    assert left["outcome"]["error"] == answer.json()["error"]
    assert desk.core.journal.accepted == []
    desk.wait(1000)
    desk.listed()
    assert desk.core.journal.charges == []


@pytest.mark.parametrize("fault", [Fault.ERROR_500_ACCEPTED, Fault.HTML_502_ACCEPTED])
def test_a_5xx_may_have_been_accepted_all_the_same(desk: Desk, fault: Fault) -> None:
    desk.core.faults.inject(fault)
    assert desk.submit().status >= 500
    assert len(desk.listed()) == 1


def test_an_acceptance_may_come_as_garbage_without_its_id_or_as_201(desk: Desk) -> None:
    desk.core.faults.inject(Fault.GARBAGE_ACCEPTED)
    with pytest.raises(ValueError, match=r"."):
        desk.submit().json()
    desk.core.faults.inject(Fault.NO_ID_ACCEPTED)
    assert "request_id" not in desk.submit().json()
    desk.core.faults.inject(Fault.ANSWER_201)
    answer = desk.submit()
    assert answer.status == 201
    assert "request_id" in answer.json()
    assert len(desk.listed()) == 3


def test_a_submission_may_be_answered_with_its_success(desk: Desk) -> None:
    desk.core.faults.inject(Fault.IMMEDIATE_SUCCESS)
    told = desk.submit().json()
    assert told["status"] == "success"
    assert told["outcome"]["media_urls"][0]["url"].endswith(".mp4")
    assert len(desk.core.journal.charges) == 1


def test_a_request_may_never_run_or_never_end(desk: Desk) -> None:
    desk.core.faults.inject(Fault.NEVER_RUNS)
    never = desk.submit_id()
    desk.core.faults.inject(Fault.RUNS_FOREVER)
    forever = desk.submit_id()
    desk.wait(10_000_000)
    assert desk.get(never)["status"] == "queued"
    assert desk.get(forever)["status"] == "processing"
    assert desk.core.journal.charges == []


def test_a_late_failure_strikes_after_ten_minutes(desk: Desk) -> None:
    desk.core.faults.inject(Fault.LATE_FAILURE)
    request_id = desk.submit_id()
    desk.wait(20 + 599)
    assert desk.get(request_id)["status"] == "processing"
    desk.wait(2)
    failed = desk.get(request_id)
    assert (failed["status"], failed["outcome"]) == ("failed", {"error": "Failed to download media"})


def test_an_upstream_rate_limit_comes_as_a_failed_record(desk: Desk) -> None:
    desk.core.faults.inject(Fault.RATE_LIMIT_RECORD)
    request_id = desk.submit_id()
    desk.wait(21)
    assert desk.get(request_id)["outcome"] == {"error": "rate limit exceeded(RPM)"}


REASON = "Video generation failed: internal inference error"


@pytest.mark.parametrize(
    ("fault", "told"),
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
def test_a_failure_tells_its_reason_in_each_of_the_known_places(desk: Desk, fault: Fault, told: object) -> None:
    desk.core.faults.inject(fault)
    request_id = desk.submit_id()
    desk.wait(1000)
    answer = desk.call("GET", f"/requests/{request_id}")
    record = answer.json()
    assert (answer.status, record["status"]) == (200, "failed")
    assert {name: record[name] for name in ("outcome", "error", "reason") if name in record} == told
    assert desk.core.journal.charges == []


def test_a_request_may_be_cancelled_by_the_service_in_either_spelling(desk: Desk) -> None:
    desk.core.faults.inject(Fault.CANCELLED, count=2)
    first = desk.submit_id()
    desk.core.faults.inject(Fault.CANCELED_SPELLING)
    second = desk.submit_id()
    desk.wait(1000)
    assert [desk.get(each)["status"] for each in (first, second)] == ["cancelled", "canceled"]


@pytest.mark.parametrize(
    ("fault", "queued", "running"),
    [
        (Fault.CREATED_STATUS, "created", "processing"),
        (Fault.DISPATCHED_STATUS, "queued", "dispatched"),
        (Fault.UNKNOWN_STATUS, "warming_up", "warming_up"),
    ],
)
def test_other_status_words_are_said_on_the_way_to_success(desk: Desk, fault: Fault, queued: str, running: str) -> None:
    desk.core.faults.inject(fault)
    told = desk.submit().json()
    assert told["status"] == queued
    desk.wait(21)
    assert desk.get(told["request_id"])["status"] == running
    desk.wait(60)
    assert desk.get(told["request_id"])["status"] == "success"


def test_outcomes_have_each_of_the_known_shapes(desk: Desk) -> None:
    shapes = (Fault.BARE_MEDIA_URLS, Fault.VIDEO_URL_ONLY, Fault.MP4_THUMBNAIL)
    ids = []
    for shape in shapes:
        desk.core.faults.inject(shape)
        ids.append(desk.submit_id())
    desk.core.faults.inject(Fault.SUCCESS_WITHOUT_MEDIA)
    ids.append(desk.submit_id())
    desk.wait(1000)
    urls = [f"http://results.sandbox.invalid/{each}.mp4" for each in ids]
    assert [desk.get(each)["outcome"] for each in ids] == [
        {"media_urls": [urls[0]]},
        {"video_url": urls[1]},
        {"media_urls": [{"id": "0", "url": urls[2]}], "thumbnail_image_url": urls[2]},
        {"media_urls": []},
    ]


def test_the_echo_may_be_empty_and_the_model_another(desk: Desk) -> None:
    desk.core.faults.inject(Fault.EMPTY_ECHO)
    desk.core.faults.inject(Fault.MODEL_DIFFERS)
    told = desk.submit().json()
    assert told["model"] != "wan2.6-i2v"
    assert desk.get(told["request_id"])["payload"] == {}
    silent = Desk(echo_payload=False)
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
def test_one_bad_status_answer_changes_nothing(desk: Desk, fault: Fault, status: int, wire: Wire) -> None:
    request_id = desk.submit_id()
    desk.core.faults.inject(fault)
    answer = desk.call("GET", f"/requests/{request_id}")
    assert (answer.status, answer.wire) == (status, wire)
    assert desk.get(request_id)["status"] == "queued"


@pytest.mark.parametrize(
    ("fault", "status", "wire"),
    [
        (Fault.LIST_404, 404, Wire.SEND), (Fault.LIST_500, 500, Wire.SEND), (Fault.LIST_GARBAGE, 200, Wire.SEND),
        (Fault.LIST_HANG, 0, Wire.HANG), (Fault.LIST_RESET, 0, Wire.RESET), (Fault.LIST_429, 429, Wire.SEND),
        (Fault.LIST_429_BARE, 429, Wire.SEND),
    ],
)  # fmt: skip
def test_one_page_of_the_list_may_fail(desk: Desk, fault: Fault, status: int, wire: Wire) -> None:
    desk.submit()
    desk.core.faults.inject(fault, match={"offset": "0"})
    assert desk.listed("?offset=1") == []
    answer = desk.call("GET", "/requests?offset=0")
    assert (answer.status, answer.wire) == (status, wire)
    assert len(desk.listed("?offset=0")) == 1


def test_slow_answers_are_right_but_late(desk: Desk) -> None:
    request_id = desk.submit_id()
    desk.core.faults.inject(Fault.GET_SLOW)
    desk.core.faults.inject(Fault.LIST_SLOW)
    desk.core.faults.inject(Fault.SLOW_SUBMIT)
    for method, path in (("GET", f"/requests/{request_id}"), ("GET", "/requests")):
        answer = desk.call(method, path)
        assert (answer.status, answer.delay) == (200, 5.0)
    assert desk.submit().delay == 5.0


def test_the_order_of_the_list_may_be_reversed(desk: Desk) -> None:
    ids = [desk.submit_id(seed=number) for number in range(3)]
    desk.core.faults.inject(Fault.LIST_REVERSED, count=None)
    assert [each["request_id"] for each in desk.listed()] == ids
    assert [each["request_id"] for each in desk.listed("?limit=1&offset=1")] == [ids[1]]


def test_a_request_of_the_console_is_listed_and_404_by_id(desk: Desk) -> None:
    made = desk.call("POST", "/admin/console", {}).json()
    assert [each["request_id"] for each in desk.listed()] == [made["request_id"]]
    assert desk.call("GET", f"/requests/{made['request_id']}").status == 404
    assert desk.core.journal.charges == []


def test_an_injected_fault_strikes_only_what_it_matches(desk: Desk) -> None:
    desk.core.faults.inject(Fault.RESET_AFTER_ACCEPT, match={"seed": 2})
    desk.core.faults.inject(Fault.NO_CREDIT_402, match={"img_url": {"contains": "/dog"}})
    assert desk.submit(seed=1).status == 200
    assert desk.submit(seed=2).wire is Wire.RESET
    assert desk.submit(seed=2).status == 200
    assert desk.submit(img_url="https://images.example/dog.jpg?signature=x").status == 402


def test_rates_strike_as_often_as_they_say_and_the_same_ones_for_a_seed() -> None:
    def struck(seed: int) -> list[int]:
        desk = Desk(seed=seed, rates={Fault.ERROR_500_REFUSED: 0.2})
        return [number for number in range(500) if desk.submit().status == 500]

    assert 70 < len(struck(1)) < 130
    assert struck(1) == struck(1)
    assert struck(1) != struck(2)


def test_a_rate_outside_0_and_1_and_an_unknown_fault_are_refused() -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        Desk(rates={"get_500": 1.5})
    with pytest.raises(ValueError, match="no_such_fault"):
        Desk(rates={"no_such_fault": 0.5})


def test_every_fault_has_its_point() -> None:
    by_name = {fault: fault.point for fault in Fault}
    assert by_name[Fault.RESET_AFTER_ACCEPT] is by_name[Fault.IMMEDIATE_SUCCESS] is Point.SUBMIT
    assert by_name[Fault.NEVER_RUNS] is by_name[Fault.SUCCESS_WITHOUT_MEDIA] is Point.LIFE
    for fault, point in by_name.items():
        for prefix in ("get", "list", "result"):
            assert (point.value == prefix) is fault.value.startswith(f"{prefix}_")
