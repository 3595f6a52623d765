# SPDX-License-Identifier: Apache-2.0
"""Whether each response is paid, not paid or in doubt."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.api.wire import (
    HttpResponse,
    TransportError,
    parse_lookup_response,
    parse_request,
    parse_retry_after,
    parse_submit_response,
)
from airflow_provider_wan.api.wire import classify_lost_submission as lost


def build_response(status: Any, body: Any, **headers: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, {"content-type": "application/json", **headers}, data)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_accepted_submission_gives_its_request(status: int) -> None:
    assert parse_submit_response(build_response(status, {"request_id": "r1", "status": "queued"})).request_id == "r1"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            400,
            {"error": "invalid payload parameters: img_url (Required parameter is missing)"},
            errors.WanBadRequestError,
        ),
        (422, {"error": "no"}, errors.WanBadRequestError),
        (413, {"error": "too large"}, errors.WanBadRequestError),
        (401, {"error": "Invalid or missing API key"}, errors.WanAuthError),
        (403, {"error": "forbidden"}, errors.WanAuthError),
        (402, {"error": "Insufficient credits."}, errors.WanCreditError),
        (404, {"error": "model x does not exist"}, errors.WanNotFoundError),
        (429, {"error": "rate limit exceeded"}, errors.WanRateLimitError),
        (503, {"error": "Upstream capacity temporarily exhausted"}, errors.WanCapacityError),
        (500, {"error": "Backend error (400). Please try again."}, errors.WanBadRequestError),
        (500, {"error": "API request failed with status 400: {…}"}, errors.WanBadRequestError),
        (500, {"error": "API request failed with status 429: slow down"}, errors.WanRateLimitError),
    ],
)
def test_a_refusal_proves_that_nothing_was_paid(status: int, body: bytes | dict[str, Any], kind: Any) -> None:
    with pytest.raises(kind) as refused:
        parse_submit_response(build_response(status, body))
    assert isinstance(refused.value, errors.WanRefusedError)
    assert refused.value.paid is errors.Paid.NO


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error": "Internal error"}),
        (500, {"error": "Backend error (504). Please try again."}),
        (500, {"error": "Backend error (408). Please try again."}),
        (502, {"error": "Bad gateway"}),
        (502, b"<html>Bad gateway</html>"),
        (504, b""),
        (408, {}),
        (307, b""),
        (400, {"error": {"message": "no"}}),
        (400, {"error": "no", "status": 400, "path": "/requests", "timestamp": 1}),
        (422, {"detail": "no"}),
        (413, b"<html>too large</html>"),
        (401, {}),
        (401, {"message": "Unauthorized"}),
        (403, b""),
        (403, b"<html>blocked by policy</html>"),
        (404, {"message": "no Route matched with those values"}),
        (404, b"default backend - 404"),
        (429, {}),
        (429, {"error": ""}),
        (503, b"upstream connect error or disconnect/reset before headers"),
        (503, b"<html>Service Temporarily Unavailable</html>"),
        (500, {"error": {"message": "API request failed with status 429: slow down"}}),
        (499, {}),
        (303, {"error": "see other"}),
        (307, {"error": "moved"}),
        (409, {"error": "request r1 with this payload exists already"}),
        (423, {"error": "the account is locked by another request"}),
        (200, {"request_id": " ", "status": "queued"}),
        (200, {"request_id": "..", "status": "queued"}),
        (200, b"<html>Welcome</html>"),
        (200, {"status": "queued"}),
        (200, b""),
        (204, b""),
    ],
)
def test_every_other_response_to_a_submission_is_a_doubt(status: int, body: bytes | dict[str, Any]) -> None:
    with pytest.raises(errors.WanInDoubtError) as doubt:
        parse_submit_response(build_response(status, body))
    assert doubt.value.paid is errors.Paid.MAYBE
    assert not doubt.value.retryable


def test_no_response_is_a_doubt_only_where_bytes_may_have_left() -> None:
    assert isinstance(lost(TransportError("reset", sent=True)), errors.WanInDoubtError)
    assert isinstance(lost(TransportError("refused", sent=False)), errors.WanConnectError)


@pytest.mark.parametrize("status", [500, 502, 504, 408])
def test_a_failed_lookup_may_be_repeated(status: int) -> None:
    with pytest.raises(errors.WanLookupError) as failed:
        parse_lookup_response(build_response(status, {}), "Request r1")
    assert failed.value.retryable
    assert "Request r1" in str(failed.value)


def test_what_the_api_asks_to_wait_is_handed_on() -> None:
    with pytest.raises(errors.WanRateLimitError) as refused:
        parse_submit_response(build_response(429, {"error": "rate limit exceeded"}, **{"retry-after": "17"}))
    assert refused.value.retry_after == 17


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        ("1.5", 1.5),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", None),
        ("Sun, 22 Nov 2027 11:00:00 GMT", 600.0),
        ("Sun, 22 Nov 99999 11:00:00 GMT", None),
        ("0", None),
        ("0.001", 1.0),
        ("9999999", 600.0),
        ("9" * 400, 600.0),
        ("NaN", None),
        ("inf", None),
        ("", None),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    assert parse_retry_after({"retry-after": value}, now) == seconds


def test_every_error_says_whether_money_was_spent_and_whether_a_retry_helps() -> None:
    def below(kind: Any) -> Any:
        return {kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))}

    for kind in below(errors.WanError):
        assert isinstance(kind.paid, errors.Paid), kind
        assert isinstance(kind.retryable, bool | property), kind
        if kind.__module__ == errors.__name__ and kind.__name__.startswith("Wan"):
            assert kind.__name__ in errors.__doc__


def test_an_answer_with_an_id_and_no_status_is_an_accepted_submission() -> None:
    for word in (None, "", 1):
        record = parse_submit_response(build_response(200, {"request_id": "r1", "status": word}))
        assert (record.request_id, record.status) == ("r1", RequestStatus.UNKNOWN)


@pytest.mark.parametrize("charset", ["undefined", "no-such", "utf-8", "hex"])
def test_a_charset_that_can_not_be_used_hides_nothing(charset: str) -> None:
    kind = {"content-type": f"text/plain; charset={charset}"}
    with pytest.raises(errors.WanCapacityError, match="Stra"):
        parse_lookup_response(build_response(503, b"Stra\xdfe", **kind), "Request r1")
    with pytest.raises(errors.WanInDoubtError):
        parse_submit_response(build_response(503, b"Stra\xdfe", **kind))


def test_the_reason_of_an_error_with_megabytes_is_not_read() -> None:
    body = {"error": "x-amz-" * 20_000}
    with pytest.raises(errors.WanLookupError, match="bytes of application/json"):
        parse_lookup_response(build_response(500, body), "Request r1")
    # Nor is it the service's own word, which might prove a refusal.
    with pytest.raises(errors.WanInDoubtError):
        parse_submit_response(build_response(400, body))


def test_an_id_in_other_capitals_is_the_same_request() -> None:
    response = build_response(200, {"request_id": "AB-cd ", "status": "queued"})
    assert parse_request(response, "ab-CD").request_id == "ab-CD"
    with pytest.raises(errors.WanProtocolError, match="describes another one"):
        parse_request(response, "ab-ce")
