# SPDX-License-Identifier: Apache-2.0
"""The API's answers, read in one place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanProtocolError
from airflow_provider_wan.api.redact import redact

log = logging.getLogger(__name__)

_MAX_REASON = 500


class RequestStatus(StrEnum):
    """
    Where a request stands.

    ``UNKNOWN`` stands for a word that is in no documentation. It is not terminal: one waits for a
    known word, until one's own deadline. The word itself is kept in :attr:`RequestRecord.status_text`.
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
        """Whether nothing more will happen to the request."""
        return self in (RequestStatus.SUCCESS, RequestStatus.FAILED, RequestStatus.CANCELLED)

    @property
    def is_waiting(self) -> bool:
        """Whether the request has certainly not begun to run."""
        return self in (RequestStatus.CREATED, RequestStatus.QUEUED)

    @classmethod
    def parse(cls, word: str) -> RequestStatus:
        """Read the API's word, and tell of an unknown one once in a process."""
        known = word.strip().lower()
        if known == "canceled":
            return cls.CANCELLED
        try:
            status = cls(known)
        except ValueError:
            status = cls.UNKNOWN
        if status is cls.UNKNOWN and known not in _told:
            _told.add(known)
            log.warning("The API gave the unknown status %r: waiting on, as for a request that runs.", word[:80])
        return status


_told: set[str] = set()


@dataclass(frozen=True)
class RequestRecord:
    """
    One request as the API tells of it.

    :param request_id: the id under which it is asked for.
    :param status: where it stands.
    :param status_text: the API's own word for that.
    :param model: the model that the answer names, which may differ from the one asked for.
    :param created_at: Unix seconds by the API's clock; likewise the next two.
    :param payload: the echo of what was submitted; may be empty.
    :param video_url: where the clip lies, once it is made.
    :param thumbnail_url: where a still of it lies; None where the answer has none, or names the clip itself.
    :param error: why it failed, in the API's words, shortened.
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

    @classmethod
    def parse(cls, answer: object) -> RequestRecord:
        """
        Read the answer to a submission or a look-up, or one element of the list.

        :raises WanProtocolError: where it has no request id or no status.
        """
        if not isinstance(answer, Mapping):
            raise WanProtocolError(f"The API's answer is not a request: {type(answer).__name__} in place of an object")
        request_id, word = answer.get("request_id"), answer.get("status")
        if not isinstance(request_id, str) or not request_id:
            raise WanProtocolError(f"The API's answer has no request_id; its fields: {sorted(map(str, answer))[:20]}")
        if not isinstance(word, str) or not word:
            raise WanProtocolError(f"The API's answer for request {request_id} has no status")
        status = RequestStatus.parse(word)
        found = answer.get("outcome")
        outcome: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        video_url = _video_url(outcome) if status is RequestStatus.SUCCESS else None
        thumbnail = _text(outcome.get("thumbnail_image_url"))
        payload = answer.get("payload")
        return cls(
            request_id=request_id,
            status=status,
            status_text=word,
            model=_text(answer.get("model")),
            created_at=_seconds(answer.get("created_at")),
            updated_at=_seconds(answer.get("updated_at")),
            queued_at=_seconds(answer.get("queued_at")),
            payload=dict(payload) if isinstance(payload, Mapping) else {},
            video_url=video_url,
            thumbnail_url=None if thumbnail == video_url else thumbnail,
            error=_reason(answer, found) if status is RequestStatus.FAILED else None,
        )


@dataclass(frozen=True)
class RequestPage:
    """
    One page of the list of one's own requests.

    :param records: its readable elements.
    :param size: how many elements the page had, readable or not.
    :param total: the number of all, where the API tells it.
    :param has_more: whether more follow, where the API tells it.
    """

    records: tuple[RequestRecord, ...]
    size: int
    total: int | None = None
    has_more: bool | None = None

    @classmethod
    def parse(cls, answer: object) -> RequestPage:
        """
        Read one page; an element that can't be read is left out and told of in the log.

        :raises WanProtocolError: where the answer is not a page.
        """
        rows = answer.get("requests") if isinstance(answer, Mapping) else None
        if not isinstance(answer, Mapping) or not isinstance(rows, list):
            raise WanProtocolError("The API's list has no 'requests'")
        records = []
        for row in rows:
            try:
                records.append(RequestRecord.parse(row))
            except WanProtocolError as error:
                log.warning("One element of the API's list is left out: %s", error)
        total, has_more = answer.get("total"), answer.get("has_more")
        return cls(
            records=tuple(records),
            size=len(rows),
            total=total if isinstance(total, int) and not isinstance(total, bool) else None,
            has_more=has_more if isinstance(has_more, bool) else None,
        )


@dataclass(frozen=True)
class ModelInfo:
    """
    What the API tells of a model.

    :param model_id: its id.
    :param price: in US dollars per ``unit``; None where the API does not tell.
    :param unit: what the price is for.
    :param raw: the whole answer.
    """

    model_id: str
    price: float | None
    unit: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, model_id: str, answer: object) -> ModelInfo:
        """Read the answer; prices come in micro-dollars. :raises WanProtocolError: where it is not an object."""
        if not isinstance(answer, Mapping):
            raise WanProtocolError(f"The API's answer on model {model_id} is not an object")
        found = answer.get("price_info")
        prices: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        price = _seconds(prices.get("price"))
        return cls(model_id, None if price is None else price / 1e6, _text(prices.get("unit")), dict(answer))


def model_ids(answer: object) -> list[str]:
    """Read the list of models. :raises WanProtocolError: where there is none."""
    ids = answer.get("model_ids") if isinstance(answer, Mapping) else None
    if not isinstance(ids, list):
        raise WanProtocolError("The API's list of models has no 'model_ids'")
    return [str(model_id) for model_id in ids]


def error_text(body: object) -> str | None:
    """
    Find the reason in an error answer of any of the known shapes, JSON within a string included.

    ``{"error": "…"}`` · ``{"error": {"message", "details"}}`` · ``{"message": …}`` · ``{"detail": …}``
    """
    if isinstance(body, str):
        return _shortened(body.strip()) or None
    if not isinstance(body, Mapping):
        return None
    for name in ("error", "message", "detail", "reason"):
        found = body.get(name)
        if isinstance(found, Mapping):
            parts = [error_text(found.get(key)) for key in ("message", "details", "error", "code")]
            text = " · ".join(dict.fromkeys(part for part in parts if part))
            if text:
                return _shortened(text)
        elif isinstance(found, list) and found:
            return _shortened(str(found))
        elif plain := _text(found):
            return _shortened(plain)
    return None


def _shortened(reason: str) -> str:
    return redact(reason)[:_MAX_REASON]


def _video_url(outcome: Mapping[str, Any]) -> str | None:
    media = outcome.get("media_urls")
    if isinstance(media, list):
        for item in media:
            if url := _text(item.get("url") if isinstance(item, Mapping) else item):
                return url
    return _text(outcome.get("video_url"))


def _reason(answer: Mapping[str, Any], outcome: object) -> str | None:
    for source in (outcome, {key: answer.get(key) for key in ("error", "reason")}):
        if reason := error_text(source):
            return reason
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # JSON knows no infinity, but Python's reader does; and no float holds every integer.
    return float(value) if abs(value) < 1e15 else None
