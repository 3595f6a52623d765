# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong on demand: the faults, and the plan that says when.

A fault belongs to a :class:`Point`. Rates are rolled once a request for ``SUBMIT``, ``LIFE``, ``SHAPE`` and
``RESULT``, and at each call for ``GET`` and ``LIST``. Injected faults are used up by the next matching calls
of their point.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Point(StrEnum):
    """Where a fault strikes."""

    SUBMIT = "submit"
    LIFE = "life"
    SHAPE = "shape"
    GET = "get"
    LIST = "list"
    RESULT = "result"


class Fault(StrEnum):
    """A trap that the sandbox can play."""

    # SUBMIT: how the POST is answered; one a submission.
    RESET_AFTER_ACCEPT = "reset_after_accept"
    RESET_BEFORE_ACCEPT = "reset_before_accept"
    HANG_AFTER_ACCEPT = "hang_after_accept"
    HANG_BEFORE_ACCEPT = "hang_before_accept"
    SLOW_SUBMIT = "slow_submit"
    ERROR_500_ACCEPTED = "error_500_accepted"
    ERROR_500_REFUSED = "error_500_refused"
    BACKEND_400 = "backend_400"
    API_STATUS_400 = "api_status_400"
    HTML_502 = "html_502"
    HTML_502_ACCEPTED = "html_502_accepted"
    NESTED_ERROR_400 = "nested_error_400"
    MESSAGE_ERROR_400 = "message_error_400"
    DETAIL_ERROR_422 = "detail_error_422"
    RATE_LIMIT_429 = "rate_limit_429"
    RATE_LIMIT_429_BARE = "rate_limit_429_bare"
    CAPACITY_503 = "capacity_503"
    CAPACITY_503_BARE = "capacity_503_bare"
    NO_CREDIT_402 = "no_credit_402"
    BAD_KEY_401 = "bad_key_401"
    FORBIDDEN_403 = "forbidden_403"
    NO_MODEL_404 = "no_model_404"
    GARBAGE_ACCEPTED = "garbage_accepted"
    NO_ID_ACCEPTED = "no_id_accepted"
    ANSWER_201 = "answer_201"
    IMMEDIATE_SUCCESS = "immediate_success"
    # LIFE: what becomes of an accepted request; one a request.
    NEVER_RUNS = "never_runs"
    RUNS_FOREVER = "runs_forever"
    LATE_FAILURE = "late_failure"
    RATE_LIMIT_RECORD = "rate_limit_record"
    FAILED_NULL = "failed_null"
    FAILED_STRING = "failed_string"
    FAILED_DICT = "failed_dict"
    FAILED_MESSAGE = "failed_message"
    FAILED_TOP_ERROR = "failed_top_error"
    FAILED_TOP_REASON = "failed_top_reason"
    CANCELLED = "cancelled"
    SUCCESS_WITHOUT_MEDIA = "success_without_media"
    # SHAPE: how a request is told of; any number a request.
    CREATED_STATUS = "created_status"
    DISPATCHED_STATUS = "dispatched_status"
    UNKNOWN_STATUS = "unknown_status"
    CANCELED_SPELLING = "canceled_spelling"
    BARE_MEDIA_URLS = "bare_media_urls"
    VIDEO_URL_ONLY = "video_url_only"
    NO_THUMBNAIL = "no_thumbnail"
    MP4_THUMBNAIL = "mp4_thumbnail"
    EMPTY_ECHO = "empty_echo"
    MODEL_DIFFERS = "model_differs"
    # GET /requests/{id}: one a call.
    GET_GARBAGE = "get_garbage"
    GET_SLOW = "get_slow"
    GET_HANG = "get_hang"
    GET_RESET = "get_reset"
    GET_500 = "get_500"
    GET_502 = "get_502"
    GET_404 = "get_404"
    GET_401 = "get_401"
    GET_429 = "get_429"
    GET_429_BARE = "get_429_bare"
    # GET /requests: one a call.
    LIST_404 = "list_404"
    LIST_500 = "list_500"
    LIST_GARBAGE = "list_garbage"
    LIST_REVERSED = "list_reversed"
    LIST_SLOW = "list_slow"
    LIST_HANG = "list_hang"
    LIST_RESET = "list_reset"
    LIST_429 = "list_429"
    LIST_429_BARE = "list_429_bare"
    # The result's URL: one a request when rolled, one a call when injected.
    RESULT_404 = "result_404"
    RESULT_HTML = "result_html"
    RESULT_CUT = "result_cut"
    RESULT_REDIRECT = "result_redirect"
    RESULT_SHORT = "result_short"
    RESULT_RESET = "result_reset"
    RESULT_NO_LENGTH = "result_no_length"
    RESULT_SLOW = "result_slow"
    RESULT_HUGE = "result_huge"

    @property
    def point(self) -> Point:
        """Where it strikes."""
        return _POINTS[self]


def _points() -> dict[Fault, Point]:
    names = list(Fault)
    starts = {
        Point.SUBMIT: Fault.RESET_AFTER_ACCEPT,
        Point.LIFE: Fault.NEVER_RUNS,
        Point.SHAPE: Fault.CREATED_STATUS,
        Point.GET: Fault.GET_GARBAGE,
        Point.LIST: Fault.LIST_404,
        Point.RESULT: Fault.RESULT_404,
    }
    begins = {names.index(first): point for point, first in starts.items()}
    found: dict[Fault, Point] = {}
    point = Point.SUBMIT
    for index, fault in enumerate(names):
        point = begins.get(index, point)
        found[fault] = point
    return found


_POINTS = _points()

#: Faults whose submission creates a request although the answer does not say so.
ACCEPTED_UNSAID = frozenset(
    {
        Fault.RESET_AFTER_ACCEPT,
        Fault.HANG_AFTER_ACCEPT,
        Fault.ERROR_500_ACCEPTED,
        Fault.HTML_502_ACCEPTED,
        Fault.GARBAGE_ACCEPTED,
        Fault.NO_ID_ACCEPTED,
    }
)


@dataclass
class Injection:
    """A fault for the next matching calls.

    :param count: calls it strikes; None: all, until removed.
    :param match: payload fields (and ``request_id``, ``model``) by value, or by ``{"contains": text}``.
    """

    fault: Fault
    count: int | None
    match: Mapping[str, Any]

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """Whether a call with these fields is meant."""
        for name, wanted in self.match.items():
            value = fields.get(name)
            if isinstance(wanted, Mapping):
                if str(wanted["contains"]) not in str(value):
                    return False
            elif value != wanted:
                return False
        return True


class FaultPlan:
    """Decides, call by call, which faults strike.

    :param seed: seeds one sequence of rolls a fault, so that the rates of others don't disturb it.
    :param rates: probability of each fault.
    """

    def __init__(self, seed: int, rates: Mapping[Fault, float]) -> None:
        self._seed = seed
        self._rolls: dict[Fault, random.Random] = {}
        self.rates: dict[Fault, float] = dict(rates)
        self.injections: list[Injection] = []

    def inject(self, fault: Fault | str, count: int | None = 1, match: Mapping[str, Any] | None = None) -> Injection:
        """Make ``fault`` strike the next ``count`` matching calls (None: all of them)."""
        injection = Injection(Fault(fault), count, dict(match or {}))
        self.injections.append(injection)
        return injection

    def clear(self) -> None:
        """No more faults, neither injected nor rolled."""
        self.injections.clear()
        self.rates.clear()

    def take_one(self, point: Point, fields: Mapping[str, Any]) -> Fault | None:
        """The fault for this call: an injected one before a rolled one."""
        return self.take_injected(point, fields) or next(iter(self._rolled(point)), None)

    def take_injected(self, point: Point, fields: Mapping[str, Any]) -> Fault | None:
        """The injected fault for this call, which is thereby used up."""
        for injection in self.injections:
            if injection.fault.point is point and injection.fits(fields):
                self._use_up(injection)
                return injection.fault
        return None

    def take_rolled(self, point: Point) -> Fault | None:
        """The fault that the rates give this call."""
        return next(iter(self._rolled(point)), None)

    def take_all(self, point: Point, fields: Mapping[str, Any]) -> frozenset[Fault]:
        """Every fault for this call, injected and rolled."""
        found = set(self._rolled(point))
        for injection in list(self.injections):
            if injection.fault.point is point and injection.fits(fields):
                self._use_up(injection)
                found.add(injection.fault)
        return frozenset(found)

    def _use_up(self, injection: Injection) -> None:
        if injection.count is None:
            return
        injection.count -= 1
        if injection.count <= 0:
            self.injections.remove(injection)

    def _rolled(self, point: Point) -> list[Fault]:
        hits = []
        for fault, rate in self.rates.items():
            if fault.point is not point or rate <= 0:
                continue
            roll = self._rolls.setdefault(fault, random.Random(f"{self._seed}:{fault.value}"))
            if roll.random() < rate:
                hits.append(fault)
        return hits
