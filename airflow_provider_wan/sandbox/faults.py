# SPDX-License-Identifier: Apache-2.0
"""The faults that the sandbox can inject, and the plan that decides when.

A fault belongs to an :class:`InjectionPoint`. Rates are rolled once per request for ``SUBMIT``, ``LIFE``, ``SHAPE``
and ``RESULT``, and at each call for ``GET`` and ``LIST``. Injected faults are consumed by the next matching calls of
their point.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class InjectionPoint(StrEnum):
    """Where a fault is injected."""

    SUBMIT = "submit"
    LIFE = "life"
    SHAPE = "shape"
    GET = "get"
    LIST = "list"
    RESULT = "result"


class Fault(StrEnum):
    """A fault that the sandbox can inject."""

    # SUBMIT: response to the POST; one per submission.
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
    ECHO_401 = "echo_401"
    GATEWAY_403_ACCEPTED = "gateway_403_accepted"
    GATEWAY_404_ACCEPTED = "gateway_404_accepted"
    GATEWAY_429_ACCEPTED = "gateway_429_accepted"
    GATEWAY_503_ACCEPTED = "gateway_503_accepted"
    GARBAGE_ACCEPTED = "garbage_accepted"
    NO_ID_ACCEPTED = "no_id_accepted"
    ANSWER_201 = "answer_201"
    IMMEDIATE_SUCCESS = "immediate_success"
    # LIFE: what happens to an accepted request; one per request.
    NEVER_RUNS = "never_runs"
    RUNS_FOREVER = "runs_forever"
    LATE_FAILURE = "late_failure"
    RATE_LIMIT_RECORD = "rate_limit_record"
    FAILED_NULL = "failed_null"
    FAILED_STRING = "failed_string"
    FAILED_DICT = "failed_dict"
    FAILED_CODE = "failed_code"
    FAILED_ERRORS = "failed_errors"
    FAILED_MESSAGE = "failed_message"
    FAILED_TOP_ERROR = "failed_top_error"
    FAILED_TOP_REASON = "failed_top_reason"
    CANCELLED = "cancelled"
    SUCCESS_WITHOUT_MEDIA = "success_without_media"
    # SHAPE: how a request is represented; any number per request.
    CREATED_STATUS = "created_status"
    DISPATCHED_STATUS = "dispatched_status"
    UNKNOWN_STATUS = "unknown_status"
    CANCELED_SPELLING = "canceled_spelling"
    BARE_MEDIA_URLS = "bare_media_urls"
    VIDEO_URL_ONLY = "video_url_only"
    NO_THUMBNAIL = "no_thumbnail"
    MP4_THUMBNAIL = "mp4_thumbnail"
    EMPTY_ECHO = "empty_echo"
    ECHO_SEED_FLOAT = "echo_seed_float"
    ECHO_SEED_PADDED = "echo_seed_padded"
    ECHO_WITHOUT_SEED = "echo_without_seed"
    ECHO_ELABORATED = "echo_elaborated"
    ECHO_IMAGE_MOVED = "echo_image_moved"
    ECHO_OTHER_DURATION = "echo_other_duration"
    MODEL_DIFFERS = "model_differs"
    FILED_ELSEWHERE = "filed_elsewhere"
    # GET /requests/{id}: one per call.
    GET_GARBAGE = "get_garbage"
    GET_SLOW = "get_slow"
    GET_HANG = "get_hang"
    GET_RESET = "get_reset"
    GET_500 = "get_500"
    GET_502 = "get_502"
    GET_404 = "get_404"
    GET_401 = "get_401"
    GET_302 = "get_302"
    GET_403_PAGE = "get_403_page"
    GET_410 = "get_410"
    GET_BACKEND_400 = "get_backend_400"
    GET_OTHER_REQUEST = "get_other_request"
    GET_ECHO = "get_echo"
    GET_429 = "get_429"
    GET_429_BARE = "get_429_bare"
    # GET /requests: one per call.
    LIST_404 = "list_404"
    LIST_403 = "list_403"
    LIST_NULL = "list_null"
    LIST_500 = "list_500"
    LIST_GARBAGE = "list_garbage"
    LIST_REVERSED = "list_reversed"
    LIST_WITHOUT_PAGING = "list_without_paging"
    LIST_TOTAL_OF_PAGE = "list_total_of_page"
    LIST_KEEPS_NEWEST = "list_keeps_newest"
    LIST_ENDS_AT_OFFSET = "list_ends_at_offset"
    LIST_SAYS_NO_MORE = "list_says_no_more"
    LIST_OFFSET_IN_PAGES = "list_offset_in_pages"
    LIST_OLDEST_CAPPED = "list_oldest_capped"
    LIST_EMPTY = "list_empty"
    LIST_NEEDS_MODEL = "list_needs_model"
    LIST_SLOW = "list_slow"
    LIST_HANG = "list_hang"
    LIST_RESET = "list_reset"
    LIST_429 = "list_429"
    LIST_429_BARE = "list_429_bare"
    # RESULT: the result URL; one per request when rolled, one per call when injected.
    RESULT_404 = "result_404"
    RESULT_403 = "result_403"
    RESULT_HTML = "result_html"
    RESULT_CUT = "result_cut"
    RESULT_REDIRECT = "result_redirect"
    RESULT_SHORT = "result_short"
    RESULT_RESET = "result_reset"
    RESULT_NO_LENGTH = "result_no_length"
    RESULT_SLOW = "result_slow"
    RESULT_HUGE = "result_huge"

    @property
    def point(self) -> InjectionPoint:
        """Injection point of the fault."""
        return _POINTS[self]


def _map_points() -> dict[Fault, InjectionPoint]:
    names = list(Fault)
    starts = {
        InjectionPoint.SUBMIT: Fault.RESET_AFTER_ACCEPT,
        InjectionPoint.LIFE: Fault.NEVER_RUNS,
        InjectionPoint.SHAPE: Fault.CREATED_STATUS,
        InjectionPoint.GET: Fault.GET_GARBAGE,
        InjectionPoint.LIST: Fault.LIST_404,
        InjectionPoint.RESULT: Fault.RESULT_404,
    }
    begins = {names.index(first): point for point, first in starts.items()}
    found: dict[Fault, InjectionPoint] = {}
    point = InjectionPoint.SUBMIT
    for index, fault in enumerate(names):
        point = begins.get(index, point)
        found[fault] = point
    return found


_POINTS = _map_points()

#: Faults whose submission creates a request although the response does not say so.
SILENTLY_ACCEPTED = frozenset(
    {
        Fault.RESET_AFTER_ACCEPT,
        Fault.HANG_AFTER_ACCEPT,
        Fault.ERROR_500_ACCEPTED,
        Fault.HTML_502_ACCEPTED,
        Fault.GATEWAY_403_ACCEPTED,
        Fault.GATEWAY_404_ACCEPTED,
        Fault.GATEWAY_429_ACCEPTED,
        Fault.GATEWAY_503_ACCEPTED,
        Fault.GARBAGE_ACCEPTED,
        Fault.NO_ID_ACCEPTED,
    }
)


@dataclass
class FaultInjection:
    """A fault injected into the next matching calls.

    :param count: number of calls; None: all, until removed.
    :param match: payload fields (and ``request_id``, ``model``) by value, or by ``{"contains": text}``.
    """

    fault: Fault
    count: int | None
    match: Mapping[str, Any]

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Return whether a call with these fields matches."""
        for name, wanted in self.match.items():
            value = fields.get(name)
            if isinstance(wanted, Mapping):
                if str(wanted["contains"]) not in str(value):
                    return False
            elif value != wanted:
                return False
        return True


class FaultPlan:
    """Decides for each call which faults occur.

    :param seed: seed of one random sequence per fault, so that the rates of faults are independent.
    :param rates: probability of each fault.
    """

    def __init__(self, seed: int, rates: Mapping[Fault, float]) -> None:
        self._seed = seed
        self._generators: dict[Fault, random.Random] = {}
        self.rates: dict[Fault, float] = dict(rates)
        self.injections: list[FaultInjection] = []

    def inject(
        self, fault: Fault | str, count: int | None = 1, match: Mapping[str, Any] | None = None
    ) -> FaultInjection:
        """Inject ``fault`` into the next ``count`` matching calls (None: all of them)."""
        injection = FaultInjection(Fault(fault), count, dict(match or {}))
        self.injections.append(injection)
        return injection

    def clear(self) -> None:
        """Remove all injected faults and rates."""
        self.injections.clear()
        self.rates.clear()

    def take(self, point: InjectionPoint, fields: Mapping[str, Any]) -> Fault | None:
        """Consume the fault for this call: an injected one before a rolled one."""
        return self.take_injected(point, fields) or next(iter(self._roll_rates(point)), None)

    def take_injected(self, point: InjectionPoint, fields: Mapping[str, Any]) -> Fault | None:
        """Consume the injected fault for this call."""
        for injection in self.injections:
            if injection.fault.point is point and injection.matches(fields):
                self._consume(injection)
                return injection.fault
        return None

    def take_rolled(self, point: InjectionPoint) -> Fault | None:
        """Roll a fault for this call by the rates."""
        return next(iter(self._roll_rates(point)), None)

    def take_all(self, point: InjectionPoint, fields: Mapping[str, Any]) -> frozenset[Fault]:
        """Consume every fault for this call, injected and rolled."""
        found = set(self._roll_rates(point))
        for injection in list(self.injections):
            if injection.fault.point is point and injection.matches(fields):
                self._consume(injection)
                found.add(injection.fault)
        return frozenset(found)

    def _consume(self, injection: FaultInjection) -> None:
        if injection.count is None:
            return
        injection.count -= 1
        if injection.count <= 0:
            self.injections.remove(injection)

    def _roll_rates(self, point: InjectionPoint) -> list[Fault]:
        rolled = []
        for fault, rate in self.rates.items():
            if fault.point is not point or rate <= 0:
                continue
            roll = self._generators.setdefault(fault, random.Random(f"{self._seed}:{fault.value}"))
            if roll.random() < rate:
                rolled.append(fault)
        return rolled
