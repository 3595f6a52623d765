# SPDX-License-Identifier: Apache-2.0
"""The API's responses, parsed in one place."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanProtocolError
from airflow_provider_wan.api.redaction import clean_text, find_prompts, holds_key, redact
from airflow_provider_wan.api.stepwise import run_to_end

log = logging.getLogger(__name__)

_MAX_REASON = 500
_MAX_ID = 512
_MAX_WORD = 80
_MAX_COUNT = 1_000_000_000
# Some milliseconds.
_RECORDS_PER_STEP = 50


class RequestStatus(StrEnum):
    """The status of a request.

    ``UNKNOWN`` represents an undocumented status. It is not terminal: callers wait for a known one until their own
    deadline. The API's own word is kept in :attr:`RequestRecord.status_text`.
    """

    CREATED = "created"
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether the request has ended."""
        return self in (RequestStatus.SUCCESS, RequestStatus.FAILED, RequestStatus.CANCELLED)

    @property
    def is_waiting(self) -> bool:
        """Whether the request has certainly not started to run."""
        return self in (RequestStatus.CREATED, RequestStatus.QUEUED)

    @classmethod
    def parse(cls, word: str) -> RequestStatus:
        """Parse the API's status; an unknown one is logged once per process."""
        known = word.strip().lower()
        if known == "canceled":
            return cls.CANCELLED
        try:
            status = cls(known)
        except ValueError:
            status = cls.UNKNOWN
        if status is cls.UNKNOWN and known not in _logged_statuses:
            _logged_statuses.add(known)
            log.warning("Unknown status %r from the API: it is treated as that of a running request.", redact(word, 80))
        return status


_logged_statuses: set[str] = set()


def normalize_id(request_id: str) -> str:
    """Return a request id for comparisons: a service may write it in other capitals in a list than in a response."""
    return request_id.strip().casefold()


@dataclass(frozen=True)
class RequestRecord:
    """One request as the API describes it.

    :param request_id: id of the request.
    :param status: its status.
    :param status_text: the API's own word for the status.
    :param model: the model that the response names, which may differ from the submitted one.
    :param created_at: Unix seconds of the submission, by the API's clock.
    :param updated_at: Unix seconds of the last change, by the API's clock.
    :param queued_at: Unix seconds at which it was queued, by the API's clock.
    :param payload: the echo of the submitted payload; may be empty.
    :param video_url: URL of the clip, once it is made.
    :param thumbnail_url: URL of a still; ``None`` if the response has none, or repeats the clip's URL.
    :param error: the API's reason for a failure, redacted and shortened.
    """

    request_id: str
    status: RequestStatus
    status_text: str
    model: str | None = None
    created_at: float | None = None
    updated_at: float | None = None
    queued_at: float | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    video_url: str | None = field(default=None, repr=False)
    thumbnail_url: str | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the request has ended and, if it succeeded, the API names its file: the outcome may come later."""
        return self.status.is_terminal and (self.status is not RequestStatus.SUCCESS or self.video_url is not None)

    @classmethod
    def parse(cls, response: object, *, needs_status: bool = True) -> RequestRecord:
        """Parse the response to a submission or a lookup, or one element of the list.

        :param response: the decoded JSON.
        :param needs_status: whether a response without a status is refused. It is not for the response to a submission,
            which is accepted if it has an id.
        :raises WanProtocolError: if it has no request id or no status, or can't be read for another reason.
        """
        try:
            return cls._parse(response, needs_status)
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, AttributeError) as error:
            # Whatever a peer writes, it concerns this request only.
            kind = type(error).__name__
        raise WanProtocolError(f"The API's response can't be read ({kind})")

    @classmethod
    def _parse(cls, response: object, needs_status: bool) -> RequestRecord:
        if not isinstance(response, Mapping):
            raise WanProtocolError(
                f"The API's response is not a request: {type(response).__name__} in place of an object"
            )
        request_id, word = response.get("request_id"), response.get("status")
        if not isinstance(request_id, str) or not request_id.strip():
            names = redact(str(sorted(map(str, response))[:20]), _MAX_REASON)
            raise WanProtocolError(
                f"The API's response has no request_id; its fields: {names}. "
                "Check that the base URL of the connection is the API's."
            )
        is_path = request_id in (".", "..")
        if is_path or len(request_id) > _MAX_ID or clean_text(request_id) != request_id or holds_key(request_id):
            raise WanProtocolError("The API's response has a request_id that can't be one")
        if not isinstance(word, str) or not word.strip():
            if needs_status:
                raise WanProtocolError(f"The API's response for request {request_id} has no status")
            word = RequestStatus.UNKNOWN.value
        status = RequestStatus.parse(word)
        found = response.get("outcome")
        outcome = _parse_outcome(found)
        video_url = _video_url(outcome) if status is RequestStatus.SUCCESS else None
        thumbnail = _parse_text(outcome.get("thumbnail_image_url"))
        payload = response.get("payload")
        echo: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
        prompts = find_prompts(echo)
        model = _parse_text(response.get("model"))
        return cls(
            request_id=request_id,
            status=status,
            status_text=_redact_word(word, _MAX_WORD, prompts),
            model=_redact_word(model, _MAX_ID, prompts) if model else None,
            created_at=parse_time(response.get("created_at")),
            updated_at=parse_time(response.get("updated_at")),
            queued_at=parse_time(response.get("queued_at")),
            payload=dict(echo),
            video_url=video_url,
            thumbnail_url=None if thumbnail == video_url else thumbnail,
            error=_reason(response, found, prompts) if status is RequestStatus.FAILED else None,
        )


@dataclass(frozen=True)
class RequestPage:
    """One page of the list of the account's requests.

    :param records: the readable elements.
    :param size: number of elements, readable or not.
    :param total: number of all requests, if the API states it.
    :param has_more: whether more pages follow, if the API states it.
    """

    records: tuple[RequestRecord, ...]
    size: int
    total: int | None = None
    has_more: bool | None = None

    @classmethod
    def parse(cls, response: object) -> RequestPage:
        """Parse one page; an unreadable element is skipped and logged.

        :param response: the decoded JSON.
        :raises WanProtocolError: if the response is not a page.
        """
        return run_to_end(cls.parse_stepwise(response))

    @classmethod
    def parse_stepwise(cls, response: object) -> Generator[None, None, RequestPage]:
        """Do :meth:`parse` in small steps: a page may have 1,000 elements.

        :param response: the decoded JSON.
        :raises WanProtocolError: if the response is not a page.
        """
        rows = response.get("requests", ...) if isinstance(response, Mapping) else ...
        if rows is None:
            rows = []
        if not isinstance(response, Mapping) or not isinstance(rows, list):
            raise WanProtocolError("The API's list has no 'requests'")
        records = []
        for number, row in enumerate(rows, 1):
            if number % _RECORDS_PER_STEP == 0:
                yield
            try:
                records.append(RequestRecord.parse(row))
            except WanProtocolError as error:
                log.warning("An element of the API's list is skipped: %s", error)
        has_more = response.get("has_more")
        return cls(
            records=tuple(records),
            size=len(rows),
            total=_parse_count(response.get("total")),
            has_more=has_more if isinstance(has_more, bool) else None,
        )


@dataclass(frozen=True)
class ModelInfo:
    """The API's description of a model.

    :param model_id: id of the model.
    :param price: US dollars per ``unit``; ``None`` if the API does not state it.
    :param unit: what the price is for.
    :param raw: the complete response.
    """

    model_id: str
    price: float | None
    unit: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, model_id: str, response: object) -> ModelInfo:
        """Parse the response, whose prices are in micro-dollars.

        :param model_id: id of the model.
        :param response: the decoded JSON.
        :raises WanProtocolError: if it is not an object.
        """
        if not isinstance(response, Mapping):
            raise WanProtocolError(f"The API's response on model {model_id} is not an object")
        found = response.get("price_info")
        prices: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        price = _parse_number(prices.get("price"))
        return cls(model_id, None if price is None else price / 1e6, _parse_text(prices.get("unit")), dict(response))


def parse_model_ids(response: object) -> list[str]:
    """Parse the list of models.

    :param response: the decoded JSON.
    :raises WanProtocolError: if there is no list.
    """
    ids = response.get("model_ids") if isinstance(response, Mapping) else None
    if not isinstance(ids, list):
        raise WanProtocolError("The API's list of models has no 'model_ids'")
    return [str(model_id) for model_id in ids]


def extract_error(body: object, prompts: Iterable[object] = ()) -> str | None:
    """Return the reason from an error response of any of the known shapes, redacted and shortened.

    ``{"error": "…"}`` · ``{"error": {"message", "details", "code", "status"}}`` · ``{"message": …}`` ·
    ``{"detail": …}`` · ``{"errors": […]}``. A code and a status of the service follow in square brackets.

    :param body: the decoded JSON.
    :param prompts: the prompts of the request, which the reason may repeat.
    """
    text = _extract_text(body, 0)
    return redact(text, _MAX_REASON, prompts=prompts) or None if text else None


_TEXT_FIELDS = ("error", "errors", "message", "msg", "detail", "details", "error_message", "reason", "title")
_WORDS_WITHOUT_MEANING = frozenset({"", "error", "failed", "failure", "none", "null", "false", "true"})


def _extract_text(body: object, depth: int) -> str | None:
    if depth > 5:
        return None
    if isinstance(body, str):
        return _extract_nested(body.strip(), depth)
    if isinstance(body, list | tuple):
        parts = [_extract_text(each, depth + 1) for each in body[:10]]
        return " · ".join(dict.fromkeys(part for part in parts if part)) or None
    if not isinstance(body, Mapping):
        return None
    found = [_extract_text(body.get(name), depth + 1) for name in _TEXT_FIELDS]
    text = " · ".join(dict.fromkeys(part for part in found if part))
    codes = [f"{name} {body[name]}" for name in ("code", "status", "type") if _is_code(body.get(name))]
    if depth == 0 and not text:
        return None
    return f"{text}{' ' if text else ''}[{', '.join(codes)}]" if codes and (text or depth) else text or None


def _extract_nested(text: str, depth: int) -> str | None:
    """Return a text, or the reason inside if it is JSON itself."""
    if text[:1] in "{[":
        try:
            return _extract_text(json.loads(text), depth + 1) or text
        except (ValueError, RecursionError):
            return text
    return text or None


def _is_code(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return True
    return isinstance(value, str) and len(value) <= 80 and value.strip().lower() not in _WORDS_WITHOUT_MEANING


def _parse_outcome(value: object) -> Mapping[str, Any]:
    """Return the outcome as a mapping, also if it is JSON in a text, or a list of files."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if isinstance(value, list):
        return {"media_urls": value}
    return value if isinstance(value, Mapping) else {}


_PLAIN_WORD = re.compile(r"[\w.-]{1,11}")
_NO_VIDEO = re.compile(r"\.(?:jpe?g|png|webp|gif|avif|bmp|svg|json|txt|srt|vtt|mp3|wav|m4a|aac|ogg)$", re.IGNORECASE)


def _video_url(outcome: Mapping[str, Any]) -> str | None:
    """Return the first file of an outcome whose name is not that of a picture, a sound or a text; else the first."""
    candidates = [*_find_urls(outcome.get("media_urls")), *_find_urls(outcome.get("video_url"))]
    videos = (url for url in candidates if not _NO_VIDEO.search(url.partition("?")[0].partition("#")[0]))
    return next(videos, candidates[0] if candidates else None)


def _find_urls(value: object) -> Iterator[str]:
    """Yield the URLs of a text, of a mapping with a ``url`` or of URLs, and of a list of these."""
    if isinstance(value, Mapping):
        # Such as {"id": "0", "url": …}, or {"0": …}.
        named = [value["url"]] if "url" in value else []
        value = named or [each for each in value.values() if isinstance(each, str) and "://" in each]
    if text := _parse_text(value):
        yield text
    elif isinstance(value, list):
        for each in value:
            yield from _find_urls(each)


def _redact_word(word: str, max_length: int, prompts: Iterable[object]) -> str:
    """Redact a word of a record. A page has thousands, nearly all too short and plain to be a part of a secret."""
    return word if _PLAIN_WORD.fullmatch(word) and not holds_key(word) else redact(word, max_length, prompts=prompts)


def _reason(response: Mapping[str, Any], outcome: object, prompts: Iterable[object]) -> str | None:
    for source in (outcome, {key: response.get(key) for key in ("error", "errors", "reason", "message")}):
        if reason := extract_error(source, prompts):
            return reason
    return None


def parse_time(value: object) -> float | None:
    """Parse a time of the API: Unix seconds, milli-, micro- or nanoseconds, or ISO 8601 with a time zone.

    :param value: the value.
    :returns: Unix seconds; ``None`` if it is no time from 1970 to about 5000.
    """
    if isinstance(value, str):
        value = _parse_time_text(value.strip()[:40])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e20:
        return None
    seconds = float(value)
    while seconds > 1e11:
        seconds /= 1000
    return seconds


def _parse_time_text(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        # Without a zone it may be half a day off.
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _parse_count(value: object) -> int | None:
    # Some services write -1, or the greatest number there is, for an unknown one.
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MAX_COUNT else None


def _parse_text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _parse_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # JSON has no infinity, but Python's parser accepts it; and no float represents every integer.
    return float(value) if abs(value) < 1e15 else None
