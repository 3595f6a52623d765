# SPDX-License-Identifier: Apache-2.0
"""
The API's calls and answers as values, without I/O: both clients share them.

Here it is decided what an answer means for the money: :func:`read_submission` is the only place that
tells a refusal, which proves that nothing was accepted, from a doubt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

from airflow_provider_wan.api.errors import (
    WanAuthError,
    WanBadRequestError,
    WanCapacityError,
    WanConnectError,
    WanCreditError,
    WanError,
    WanInDoubtError,
    WanLookupError,
    WanNotFoundError,
    WanProtocolError,
    WanRateLimitError,
)
from airflow_provider_wan.api.record import RequestRecord, error_text
from airflow_provider_wan.api.request import I2VRequest

CONNECT_TIMEOUT: Final = 10.0
SUBMIT_TIMEOUT: Final = 60.0
LOOKUP_TIMEOUT: Final = 30.0
MAX_BODY: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class HttpCall:
    """
    One HTTP request.

    :param url: absolute.
    :param authorized: whether the key goes with it; only calls to the API itself are.
    :param timeout: seconds without a byte before it is given up.
    :param fresh: use a new connection, so that no stale one can die under it.
    """

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    authorized: bool = True
    timeout: float = LOOKUP_TIMEOUT
    fresh: bool = False


@dataclass(frozen=True)
class HttpAnswer:
    """One HTTP response: its status, headers (names in lower case) and whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


class TransportError(Exception):
    """
    No HTTP response arrived.

    :param reason: what happened, without URL queries and headers.
    :param sent: whether bytes of the request may have left; False only where that is certain.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(reason)


def submit_call(base_url: str, request: I2VRequest) -> HttpCall:
    """Build the paid POST."""
    body = {"model": request.model, "payload": request.to_payload()}
    return HttpCall(
        "POST",
        f"{base_url}/requests",
        body=json.dumps(body).encode(),
        content_type="application/json",
        timeout=SUBMIT_TIMEOUT,
        fresh=True,
    )


def request_call(base_url: str, request_id: str, method: str = "GET") -> HttpCall:
    """Build the look-up of one request, or with ``DELETE`` its cancellation."""
    return HttpCall(method, f"{base_url}/requests/{quote(request_id, safe='')}")


def list_call(base_url: str, model_id: str, limit: int, offset: int) -> HttpCall:
    """Build the look-up of one page of the list."""
    params = {"model_id": model_id, "limit": str(limit), "offset": str(offset)}
    return HttpCall("GET", f"{base_url}/requests", params=params)


def read_submission(answer: HttpAnswer) -> RequestRecord:
    """
    Read the answer to the paid POST.

    :raises WanRefusedError: one of its kinds, where the answer proves that nothing was accepted.
    :raises WanInDoubtError: where it does not.
    """
    status = answer.status
    if 200 <= status < 300:
        try:
            return RequestRecord.parse(_json(answer))
        except WanProtocolError as error:
            raise WanInDoubtError(
                f"The submission was answered with HTTP {status}, but the answer can't be read ({error}). "
                "The request was probably accepted."
            ) from None
    if refusal := _refusal(answer):
        raise refusal
    raise WanInDoubtError(
        f"The submission was answered with HTTP {status} ({_said(answer)}): it may have been accepted all the same."
    )


def submission_lost(error: TransportError) -> WanError:
    """Say what a submission without an answer means."""
    if error.sent:
        return WanInDoubtError(f"The submission got no answer ({error}): it may have been accepted all the same.")
    return WanConnectError(f"The API could not be reached, nothing was sent: {error}")


def read_json(answer: HttpAnswer, what: str) -> object:
    """
    Read the answer to a call that spends nothing.

    :param what: what was asked for, for the message.
    :raises WanRefusedError: one of its kinds.
    :raises WanLookupError: for any other answer but 2xx with JSON.
    """
    if 200 <= answer.status < 300:
        return _json(answer)
    if refusal := _refusal(answer, what):
        raise refusal
    raise WanLookupError(f"{what}: HTTP {answer.status} ({_said(answer)})")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Read ``Retry-After``, in seconds or as a date, as seconds from now; None where absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,7}(\.\d+)?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds()) if until.tzinfo else None


# The backend's own status inside a gateway's 500, as seen live.
_WRAPPED = re.compile(r"(?:Backend error \(|API request failed with status )(\d{3})", re.IGNORECASE)
_REFUSED_WHEN_WRAPPED = frozenset({400, 401, 403, 404, 413, 415, 422})
# Time-outs and aborts that a gateway reports as a 4xx prove nothing about what lies behind it.
_UNPROVEN = frozenset({408, 425, 499})


def _refusal(answer: HttpAnswer, what: str = "The API") -> WanError | None:
    status, said, wait = answer.status, _said(answer), retry_after(answer.headers)
    if status == 500 and (wrapped := _WRAPPED.search(_reason(answer) or "")):
        inner = int(wrapped[1])
        if inner in _REFUSED_WHEN_WRAPPED:
            return WanBadRequestError(f"{what}: HTTP 500 around the backend's {inner}: {said}")
        if inner == 429:
            return WanRateLimitError(f"{what}: HTTP 500 around the backend's 429: {said}", wait)
    if status in (401, 403):
        return WanAuthError(
            f"{what}: HTTP {status}, the key is refused ({said}). "
            "Check the password (API key) and the organisation id of the connection."
        )
    if status == 402:
        return WanCreditError(f"{what}: HTTP 402, no credit is left ({said}). Add credit to the account.")
    if status == 404:
        return WanNotFoundError(
            f"{what}: HTTP 404, not found ({said}). Check the id, and the model and base URL of the connection."
        )
    if status == 429:
        return WanRateLimitError(f"{what}: HTTP 429, the limit is reached ({said})", wait)
    if status == 503:
        return WanCapacityError(f"{what}: HTTP 503, no capacity for now ({said})", wait)
    if 300 <= status < 400:
        return WanBadRequestError(
            f"{what}: HTTP {status}, a redirect, which is not followed with the key. Correct the connection's base URL."
        )
    if 400 <= status < 500 and status not in _UNPROVEN:
        return WanBadRequestError(f"{what}: HTTP {status}: {said}")
    return None


def _json(answer: HttpAnswer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "of no type")
        raise WanProtocolError(f"The API's answer is not JSON ({len(answer.body)} bytes, {kind})") from None


def _reason(answer: HttpAnswer) -> str | None:
    try:
        return error_text(json.loads(answer.body))
    except (ValueError, RecursionError):
        return None


def _said(answer: HttpAnswer) -> str:
    if reason := _reason(answer):
        return reason
    if not answer.body:
        return "no reason given"
    return f"{len(answer.body)} bytes of {answer.headers.get('content-type', 'no type')}"
