# SPDX-License-Identifier: Apache-2.0
"""The API's requests and responses as values, without I/O, shared by both clients.

:func:`parse_submit_response` is the only place that decides what a response means for the money: it distinguishes
a refusal, which proves that nothing was accepted, from a submission that is in doubt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord, extract_error, normalize_id
from airflow_provider_wan.api.request import WanRequest

CONNECT_TIMEOUT: Final = 10.0
SUBMIT_TIMEOUT: Final = 60.0
LOOKUP_TIMEOUT: Final = 30.0
#: The bytes of a response's head up to which it is read; gateways add policies and cookies.
MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 32 * 1024 * 1024
#: The bytes of an error up to which its reason is read.
MAX_ERROR_BODY: Final = 64 * 1024


@dataclass(frozen=True)
class HttpRequest:
    """One HTTP request.

    :param method: HTTP method.
    :param url: absolute URL.
    :param params: query parameters.
    :param body: the content.
    :param content_type: media type of the content.
    :param authorized: whether to send the key; only for requests to the API itself.
    :param timeout: seconds after which the request fails, from the connection to the last byte of the response.
    """

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    authorized: bool = True
    timeout: float = LOOKUP_TIMEOUT


@dataclass(frozen=True)
class HttpResponse:
    """One HTTP response: status, headers with lower-case names, and complete body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


class TransportError(Exception):
    """No complete HTTP response was received.

    :param reason: what happened, without URL queries and headers.
    :param sent: whether bytes of the request may have been sent; ``False`` only if it is certain that none were.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(reason)


def build_submit_request(base_url: str, request: WanRequest) -> HttpRequest:
    """Build the paid POST."""
    body = {"model": request.model, "payload": request.to_payload()}
    return HttpRequest(
        "POST",
        f"{base_url}/requests",
        body=json.dumps(body).encode(),
        content_type="application/json",
        timeout=SUBMIT_TIMEOUT,
    )


def validate_request_id(request_id: str) -> str:
    """Return a request id unchanged.

    :raises WanValidationError: if it can't be a request id, and would change the path of the URL.
    """
    if not isinstance(request_id, str) or not request_id.strip() or request_id in (".", ".."):
        raise WanValidationError("request_id", request_id, "must be the id of a request")
    return request_id


def build_request_by_id(base_url: str, request_id: str, method: str = "GET") -> HttpRequest:
    """Build the lookup of one request or, with ``DELETE``, its cancellation."""
    return HttpRequest(method, f"{base_url}/requests/{quote(request_id, safe='')}", timeout=LOOKUP_TIMEOUT)


def build_list_request(base_url: str, model_id: str | None, limit: int, offset: int) -> HttpRequest:
    """Build the lookup of one page of the list, of one model or of all."""
    params = {} if model_id is None else {"model_id": model_id}
    params |= {"limit": str(limit), "offset": str(offset)}
    return HttpRequest("GET", f"{base_url}/requests", params=params, timeout=LOOKUP_TIMEOUT)


def parse_submit_response(response: HttpResponse) -> RequestRecord:
    """Parse the response to the paid POST.

    :param response: the response.
    :returns: the accepted request.
    :raises WanRefusedError: a subclass of it, if the response proves that nothing was accepted.
    :raises WanInDoubtError: if it does not.
    """
    status = response.status
    if 200 <= status < 300:
        try:
            return RequestRecord.parse(_decode_json(response), needs_status=False)
        except WanProtocolError as error:
            raise WanInDoubtError(
                f"The submission was answered with HTTP {status}, but the response can't be read ({error}). "
                "The request was probably accepted."
            ) from None
    # A redirect refuses nothing, whoever sends it: 303 even says that the request was processed.
    is_refusal = not 300 <= status < 400 and _is_service_error(response)
    if is_refusal and (refusal := _parse_refusal(response)) is not None:
        raise refusal
    raise WanInDoubtError(
        f"The submission was answered with HTTP {status} ({_describe(response)}), "
        f"{'which' if _is_service_error(response) else 'not by an error of the service itself, so it'} does not prove "
        f"that nothing was accepted.{_hint(status)}"
    )


def classify_lost_submission(error: TransportError) -> WanError:
    """Return the error for a submission that got no response.

    :param error: what happened.
    """
    if error.sent:
        return WanInDoubtError(f"The submission got no response ({error}): it may have been accepted nevertheless.")
    return WanConnectError(f"The API could not be reached, nothing was sent: {error}")


def no_response_message(what: str, reason: str) -> str:
    """Return the message for a lookup that got no response.

    :param what: what was requested.
    :param reason: what happened, from :class:`TransportError`.
    """
    return (
        f"{what}: no response ({reason}). Nothing was changed or paid by asking. If this persists, check the "
        "connection's base URL, and the proxy and firewall between this machine and the API."
    )


def parse_lookup_response(response: HttpResponse, what: str, *, include_reason: bool = True) -> object:
    """Parse the response to a request that spends nothing.

    :param response: the response.
    :param what: what was requested, for the message.
    :param include_reason: whether an error quotes the API's reason. It may repeat the prompt, which a process that
        does not know the prompt can't take out.
    :returns: the decoded JSON.
    :raises WanRefusedError: a subclass of it.
    :raises WanLookupError: for any other response except 2xx with JSON.
    """
    if 200 <= response.status < 300:
        return _decode_json(response)
    if refusal := _parse_refusal(response, what, include_reason=include_reason):
        raise refusal
    raise WanLookupError(
        f"{what}: HTTP {response.status} ({_describe(response, include_reason)}). It changed nothing; a retry asks "
        "again. If this persists, see the service's status page, and the proxy between."
    )


def parse_request(response: HttpResponse, request_id: str, *, include_reason: bool = True) -> RequestRecord:
    """Parse the response to the lookup of one request.

    :param response: the response.
    :param request_id: the request that was asked for.
    :param include_reason: as for :func:`parse_lookup_response`.
    :raises WanProtocolError: if it describes another request: it proves nothing about this one.

    The other errors are those of :func:`parse_lookup_response`.
    """
    record = RequestRecord.parse(
        parse_lookup_response(response, f"Request {request_id}", include_reason=include_reason)
    )
    if normalize_id(record.request_id) != normalize_id(request_id):
        raise WanProtocolError(
            f"The API's response for request {request_id} describes another one. It is ignored, and polled again."
        )
    return replace(record, request_id=request_id)


# Hints from outside are bounded: a longer pause is not believed, and none or less than a second is not said.
MIN_RETRY_AFTER: Final = 1.0
MAX_RETRY_AFTER: Final = 600.0


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Parse ``Retry-After``, in seconds or as a date.

    :param headers: response headers with lower-case names.
    :param now: the current time; the clock's by default.
    :returns: seconds from now, from 1 s to 10 minutes; ``None`` if the header is absent, unreadable, or names no time
        ahead.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", value):
        delay = float(value[:20])
    else:
        try:
            until = parsedate_to_datetime(value)
            delay = (until - (now or datetime.now(UTC))).total_seconds() if until.tzinfo else 0.0
        except (ValueError, OverflowError):
            return None
    return min(max(delay, MIN_RETRY_AFTER), MAX_RETRY_AFTER) if delay > 0 else None


# The backend's own status inside a gateway's 500, as observed in production.
_WRAPPED_STATUS = re.compile(r"(?:Backend error \(|API request failed with status )(\d{3})", re.IGNORECASE)
_REFUSED_IF_WRAPPED = frozenset({400, 401, 403, 404, 413, 415, 422})
# Timeouts and aborts that a gateway reports as a 4xx prove nothing about the service behind it. A conflict with another
# request, or a lock by one, may be with this very request, which was delivered twice and accepted once.
_INCONCLUSIVE_STATUSES = frozenset({408, 409, 423, 425, 499})


def _parse_refusal(response: HttpResponse, what: str = "The API", *, include_reason: bool = True) -> WanError | None:
    status, reason, delay = response.status, _describe(response, include_reason), parse_retry_after(response.headers)
    if status == 500 and (wrapped := _WRAPPED_STATUS.search(_extract_reason(response) or "")):
        inner = int(wrapped[1])
        if inner in _REFUSED_IF_WRAPPED:
            return WanBadRequestError(f"{what}: HTTP 500 around the backend's {inner}: {reason}. {_BAD_REQUEST_REMEDY}")
        if inner == 429:
            return WanRateLimitError(
                f"{what}: HTTP 500 around the backend's 429: {reason}. {_RATE_LIMIT_REMEDY}", delay
            )
    if status in (401, 403):
        return WanAuthError(
            f"{what}: HTTP {status}, the key is rejected ({reason}). "
            "Check the password (API key) and the organization id of the connection, and any firewall between."
        )
    if status == 402:
        return WanCreditError(
            f"{what}: HTTP 402, no credit is left ({reason}). Add credit to the account, then retry or clear the task."
        )
    if status == 404:
        return WanNotFoundError(
            f"{what}: HTTP 404, not found ({reason}). Check the id, and the model and base URL of the connection."
        )
    if status == 429:
        return WanRateLimitError(f"{what}: HTTP 429, the limit is reached ({reason}). {_RATE_LIMIT_REMEDY}", delay)
    if status == 503:
        return WanCapacityError(
            f"{what}: HTTP 503, no capacity at the moment ({reason}). Nothing was accepted: retry later, or allow more "
            "time with timeout and retries.",
            delay,
        )
    if 300 <= status < 400:
        return WanBadRequestError(
            f"{what}: HTTP {status}, a redirect, which is not followed with the key. Correct the connection's base URL."
        )
    if 400 <= status < 500 and status not in _INCONCLUSIVE_STATUSES:
        return WanBadRequestError(f"{what}: HTTP {status}: {reason}. {_BAD_REQUEST_REMEDY}")
    return None


_BAD_REQUEST_REMEDY: Final = "Correct the parameters, the image or the model that it names, then clear the task."
_RATE_LIMIT_REMEDY: Final = (
    "Nothing was accepted: retry later, run fewer tasks at once with a pool, or ask the service for a higher limit."
)


def _is_service_error(response: HttpResponse) -> bool:
    """Return whether the error is the service's own: ``{"error": "<text>"}`` as JSON.

    A gateway, firewall or proxy before the service may answer with any status, after the service has taken the
    request as well; only the service speaks for itself.
    """
    if len(response.body) > MAX_ERROR_BODY:
        return False
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return False
    return (
        media_type == "application/json"
        and isinstance(body, dict)
        and body.keys() == {"error"}
        and isinstance(body["error"], str)
        and bool(body["error"].strip())
    )


def _hint(status: int) -> str:
    if 300 <= status < 400:
        return " It is a redirect, which is not followed with the key: check the connection's base URL."
    if status in (401, 403, 407):
        return " Check the API key, the organization id and the proxy of the connection."
    return ""


def _decode_json(response: HttpResponse) -> Any:
    try:
        return json.loads(_decode_text(response))
    except (ValueError, RecursionError):
        pass
    # Not in the except clause: the chained error holds the whole body.
    kind = _media_type(response)
    raise WanProtocolError(
        f"The API's response is not JSON ({len(response.body)} bytes, {kind}). Check that the base URL of the "
        "connection is the API's, and that no proxy or login page answers in its place."
    )


def _decode_text(response: HttpResponse) -> str:
    """Decode a body by its own encoding: that of JSON, else the one that the response names, else Latin-1."""
    declared = re.search(r"charset=[\"']?([\w.:-]+)", response.headers.get("content-type", ""), re.IGNORECASE)
    encodings = [json.detect_encoding(response.body), declared[1] if declared else "", "latin-1"]
    for encoding in encodings:
        try:
            return response.body.decode(encoding).lstrip("\ufeff")
        except (LookupError, UnicodeError):
            continue
    return ""


def _extract_reason(response: HttpResponse) -> str | None:
    if len(response.body) > MAX_ERROR_BODY:
        return None
    text = _decode_text(response)
    try:
        return extract_error(json.loads(text))
    except (ValueError, RecursionError):
        pass
    if _media_type(response) == "text/plain":
        return extract_error(text)
    title = re.search(r"<title[^>]*>([^<]{1,200})</title>", text, re.IGNORECASE)
    return extract_error(title[1]) if title else None


def _describe(response: HttpResponse, include_reason: bool = True) -> str:
    if include_reason and (reason := _extract_reason(response)):
        return reason.rstrip(". ")
    if not response.body:
        return "no reason given"
    return f"{len(response.body)} bytes of {_media_type(response)}"


def _media_type(response: HttpResponse) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind if re.fullmatch(r"[\w.+-]{1,60}/[\w.+-]{1,60}", kind) else "no type"
