# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanProtocolError
from airflow_provider_wan.api.record import (
    ModelInfo,
    RequestPage,
    RequestRecord,
    RequestStatus,
    extract_error,
    parse_time,
)
from airflow_provider_wan.api.redaction import register_secret
from airflow_provider_wan.api.stepwise import run_cooperatively

VIDEO = "https://storage.example.com/r1.mp4"


def answer(**fields: Any) -> Any:
    return {"request_id": "r1", "model": "wan2.6-i2v", "status": "success", "created_at": 1700000000, **fields}


@pytest.mark.parametrize("word", ["created", "queued", "dispatched", "processing"])
def test_a_request_in_flight_is_not_terminal(word: str) -> None:
    assert not RequestRecord.parse(answer(status=word)).status.is_terminal


@pytest.mark.parametrize(("word", "status"), [("canceled", "cancelled"), ("SUCCESS", "success"), ("failed", "failed")])
def test_the_spellings_of_an_end_are_all_understood(word: str, status: str) -> None:
    record = RequestRecord.parse(answer(status=word))
    assert record.status == status
    assert record.status.is_terminal
    assert record.status_text == word


def test_an_unknown_status_is_kept_and_reported_once_and_not_terminal(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        record = RequestRecord.parse(answer(status="musing"))
    assert record.status is RequestStatus.UNKNOWN
    assert record.status_text == "musing"
    assert not record.status.is_terminal
    assert caplog.text.count("musing") == 1


@pytest.mark.parametrize(
    "outcome",
    [
        {"media_urls": [{"id": "0", "url": VIDEO}], "video_url": "https://storage.example.com/other.mp4"},
        {"media_urls": [VIDEO]},
        {"media_urls": [], "video_url": VIDEO},
        {"media_urls": [{"id": "0"}], "video_url": VIDEO},
        {"video_url": VIDEO},
    ],
)
def test_the_clip_is_found_in_every_known_shape_of_outcome(outcome: dict[str, Any]) -> None:
    assert RequestRecord.parse(answer(outcome=outcome)).video_url == VIDEO


@pytest.mark.parametrize("outcome", [None, {}, "done", {"media_urls": None}, {"media_urls": [{}]}])
def test_urls_of_the_payload_echo_are_never_taken_for_the_clip(outcome: dict[str, Any] | str | None) -> None:
    record = RequestRecord.parse(answer(outcome=outcome, payload={"img_url": "https://example.com/in.jpg"}))
    assert record.video_url is None


def test_a_thumbnail_that_is_the_clip_itself_is_none() -> None:
    outcome = {"video_url": VIDEO, "thumbnail_image_url": VIDEO}
    assert RequestRecord.parse(answer(outcome=outcome)).thumbnail_url is None


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": {"error": "bad media"}},
        {"outcome": {"error": {"message": "bad media", "status": "failed"}}},
        {"outcome": {"errors": ["bad media"]}},
        {"outcome": None, "errors": [{"message": "bad media"}]},
        {"outcome": {"message": "bad media"}},
        {"outcome": None, "error": "bad media"},
        {"outcome": {}, "reason": "bad media"},
    ],
)
def test_the_reason_of_a_failure_is_found_in_every_known_field(fields: dict[str, Any]) -> None:
    assert RequestRecord.parse(answer(status="failed", **fields)).error == "bad media"


def test_the_code_and_the_status_of_a_failure_are_kept_and_decide_whether_it_is_permanent() -> None:
    from airflow_provider_wan.ledger.failures import FailureKind, classify_failure

    def classify(code: object, status: object, message: str = "The request was not processed, try again later") -> str:
        error = {"code": code, "message": message, "status": status}
        reason = RequestRecord.parse(answer(status="failed", outcome={"error": error})).error
        assert reason is not None
        assert f"code {code}" in reason
        assert str(status) in reason
        return classify_failure(reason)

    assert classify(400, "INVALID_INPUT") is FailureKind.PERMANENT
    assert classify("InvalidParameter", "INVALID_INPUT") is FailureKind.PERMANENT
    assert classify(422, "x") is FailureKind.PERMANENT
    assert classify(429, "RESOURCE_EXHAUSTED") is FailureKind.RATE_LIMIT
    assert classify(503, "UNAVAILABLE") is FailureKind.TRANSIENT
    assert classify(400, "INVALID_INPUT", "Failed to download media") is FailureKind.TRANSIENT_ONCE


def test_a_failure_without_a_reason_has_none() -> None:
    assert RequestRecord.parse(answer(status="failed", outcome=None)).error is None


@pytest.mark.parametrize("bad", [None, [], "success", {}, {"request_id": 7, "status": "queued"}, {"request_id": "r1"}])
def test_what_is_not_a_request_is_refused(bad: Any) -> None:
    with pytest.raises(WanProtocolError):
        RequestRecord.parse(bad)


def test_urls_and_payload_are_in_no_representation_of_a_record() -> None:
    record = RequestRecord.parse(answer(outcome={"video_url": VIDEO}, payload={"prompt": "a secret cat"}))
    assert VIDEO not in repr(record)
    assert "secret" not in repr(record)


def test_a_page_leaves_out_what_it_can_not_read_and_still_counts_it() -> None:
    page = RequestPage.parse({"requests": [answer(), {"status": "queued"}], "total": 2, "has_more": False})
    assert [record.request_id for record in page.records] == ["r1"]
    assert (page.size, page.total, page.has_more) == (2, 2, False)


@pytest.mark.parametrize("total", [-1, 10**400, 2**63 - 1, True, 2.0, "2"])
def test_a_total_that_can_not_be_one_says_nothing(total: object) -> None:
    assert RequestPage.parse({"requests": [answer()], "total": total}).total is None


def test_a_page_without_totals_says_so() -> None:
    page = RequestPage.parse({"requests": []})
    assert (page.total, page.has_more) == (None, None)


@pytest.mark.parametrize("bad", [None, [], {"requests": {}}, {}])
def test_what_is_not_a_page_is_refused(bad: Any) -> None:
    with pytest.raises(WanProtocolError):
        RequestPage.parse(bad)


def test_a_price_comes_in_micro_dollars() -> None:
    info = ModelInfo.parse("m", {"price_info": {"price": 150000, "pricing_type": "duration", "unit": "second"}})
    assert (info.price, info.unit) == (0.15, "second")
    assert ModelInfo.parse("m", {}).price is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "no"}, "no"),
        ({"error": {"message": "no", "details": '{"why": 1}'}}, 'no · {"why": 1}'),
        ({"message": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"detail": [{"msg": "no"}]}, "no"),
        ({}, None),
        ([], None),
        ("", None),
    ],
)
def test_the_reason_of_a_refusal_is_found_in_every_known_shape(body: Any, text: str | None) -> None:
    assert extract_error(body) == text


def test_a_long_reason_is_cut() -> None:
    assert len(extract_error({"error": "x" * 10_000}) or "") == 500


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Failed to download https://h.example.com/a.png?X-Amz-Signature=secret, tried 3 times"},
        {"error": {"message": "no", "details": '{"url": "https://user:secret@h.example.com/a.png#secret"}'}},
        {"detail": [{"msg": "https://h.example.com/a.png?sig=secret"}]},
        "https://h.example.com/a.png?" + "secret" * 200,
    ],
)
def test_a_reason_that_repeats_our_url_reports_nothing_that_opens_it(body: Any) -> None:
    reason = extract_error(body) or ""

    assert "secret" not in reason
    assert "h.example.com/a.png" in reason


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1_700_000_000, 1_700_000_000.0),
        (1_700_000_000_123, 1_700_000_000.123),
        (1_700_000_000_123_456, 1_700_000_000.123456),
        (1_700_000_000_123_456_789, 1_700_000_000.1234567),
        ("1700000000123", 1_700_000_000.123),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        (0, None),
        (-5, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (True, None),
        ("soon", None),
        ([], None),
    ],
)
def test_times_are_unix_seconds_whatever_their_unit(given: Any, seconds: float | None) -> None:
    record = RequestRecord.parse({"request_id": "r1", "status": "queued", "created_at": given})
    assert record.created_at == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


@pytest.mark.parametrize("request_id", ["half \ud83d", "nul \x00", "x" * 513])
def test_a_request_id_that_cannot_be_one_is_refused(request_id: str) -> None:
    with pytest.raises(WanProtocolError, match="request_id"):
        RequestRecord.parse({"request_id": request_id, "status": "queued"})


@pytest.mark.parametrize(
    "outcome",
    [
        {"media_urls": ["https://storage.example.com/thumb.png", VIDEO]},
        {"media_urls": ["https://storage.example.com/thumb.JPG?sig=1"], "video_url": VIDEO},
        {"media_urls": VIDEO},
        {"media_urls": {"url": VIDEO}},
        {"media_urls": {"0": VIDEO}},
        [{"id": "0", "url": VIDEO}],
        json.dumps({"video_url": VIDEO}),
    ],
    ids=str,
)
def test_the_clip_is_found_beside_pictures_and_in_odd_shapes(outcome: Any) -> None:
    assert RequestRecord.parse(answer(outcome=outcome)).video_url == VIDEO


def test_a_picture_is_taken_where_the_outcome_has_nothing_else() -> None:
    outcome = {"media_urls": ["https://storage.example.com/a.png"]}
    assert RequestRecord.parse(answer(outcome=outcome)).video_url == "https://storage.example.com/a.png"


@pytest.mark.parametrize("text", ["2026-11-29T04:00:00", "2026-11-29", "2026-11-29 04:00"])
def test_a_time_without_a_zone_is_none(text: str) -> None:
    # It may be half a day off, which would prove that a list reaches back further than it does.
    assert parse_time(text) is None
    assert parse_time("2026-11-29T04:00:00-05:00") == parse_time("2026-11-29T09:00:00Z") is not None


def test_the_key_is_not_taken_for_a_request_id() -> None:
    register_secret("key-that-is-echoed-0123456789")
    with pytest.raises(WanProtocolError, match="can't be one"):
        RequestRecord.parse(answer(request_id="key-that-is-echoed-0123456789"))


def test_what_can_not_be_parsed_concerns_its_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnicodeError("undefined encoding")

    monkeypatch.setattr("airflow_provider_wan.api.record.parse_time", fail)
    with pytest.raises(WanProtocolError, match=r"can't be read \(UnicodeError\)"):
        RequestRecord.parse(answer())


def test_a_reason_hides_the_prompts_that_lie_deeper_in_the_echo() -> None:
    words = "a lighthouse keeper climbs the stairs"
    row = answer(status="failed", outcome={"error": f"refused: {words}"}, payload={"input": {"prompt": words}})
    assert words not in str(RequestRecord.parse(row).error)


async def test_while_a_page_is_parsed_in_small_steps_the_loop_does_other_things() -> None:
    response = {"requests": [answer(request_id=f"r{number}") for number in range(1000)], "total": 1000}
    parsing = asyncio.create_task(run_cooperatively(RequestPage.parse_stepwise(response)))
    iterations = 0
    while not parsing.done():
        await asyncio.sleep(0)
        iterations += 1
    assert parsing.result() == RequestPage.parse(response)
    assert iterations >= 10
