# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong with a clip, and of each case: was anything paid, and does a retry help.

::

    WanError
     ├── WanRefusedError             nothing was accepted            paid: no
     │    ├── WanValidationError     a value that we refuse          paid: no     retry: no
     │    ├── WanBudgetError         it would cost more than allowed paid: no     retry: no
     │    ├── WanBadRequestError     400, 422, a 500 around a 400    paid: no     retry: no
     │    ├── WanAuthError           401, 403: the key               paid: no     retry: no
     │    ├── WanCreditError         402: no credit left             paid: no     retry: no
     │    ├── WanNotFoundError       404: model or request unknown   paid: no     retry: no
     │    ├── WanRateLimitError      429                             paid: no     retry: yes, later
     │    ├── WanCapacityError       503                             paid: no     retry: yes, later
     │    └── WanConnectError        never connected                 paid: no     retry: yes
     ├── WanInDoubtError             the submission may have arrived paid: maybe  retry: only by the ledger
     ├── WanLookupError              a look-up went unanswered       paid: no     retry: yes
     │    └── WanProtocolError       an answer outside the contract  paid: no     retry: yes
     ├── WanClipError                accepted, and there is no clip
     │    ├── WanClipFailedError     the request failed              paid: no     retry: unless permanent
     │    ├── WanClipCancelledError  the request was cancelled       paid: no     retry: yes
     │    └── WanClipTimeoutError    our deadline passed, it may run paid: maybe  retry: picks it up again
     └── WanResultError              the clip exists, its file is not good
          │                                                          paid: yes    retry: the download only
          ├── WanResultRefusedError  a foreign host, or too large    paid: yes    retry: no
          └── WanResultGoneError     403, 404, 410 at its host       paid: yes    retry: no

"paid: no" of a look-up says that the look-up itself changed nothing; the request it asked about may be paid for.
The API does not charge for failed or cancelled requests, hence "no" for those.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from airflow_provider_wan.api.redact import redact


class Paid(StrEnum):
    """Whether money was spent by the time an error was raised."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class WanError(Exception):
    """
    Root of all errors of this provider.

    :cvar paid: whether money was spent.
    :cvar retryable: whether the same call may succeed later without a change by a person.
    """

    paid: ClassVar[Paid] = Paid.NO
    retryable: ClassVar[bool] = False


class WanRefusedError(WanError):
    """Nothing was accepted, so nothing is paid."""


class WanValidationError(WanRefusedError, ValueError):
    """
    A value that is refused before anything is sent.

    :param field: the name of the argument or payload field.
    :param value: the value, shortened where it is long.
    :param rule: what is allowed.
    :param remedy: what to do about it, where the rule alone does not tell.
    """

    def __init__(self, field: str, value: object, rule: str, remedy: str = "") -> None:
        self.field = field
        self.value = value
        self.rule = rule
        self.remedy = remedy
        shown = redact(repr(value))
        if len(shown) > 120:
            shown = f"{shown[:100]}… ({len(shown)} characters)"
        super().__init__(f"{field}={shown}: {rule}{'. ' + remedy if remedy else ''}")

    def __reduce__(self) -> tuple[type[WanValidationError], tuple[str, object, str, str]]:
        return type(self), (self.field, self.value, self.rule, self.remedy)


class WanBudgetError(WanRefusedError):
    """The clip would cost more than ``max_cost`` allows."""


class WanBadRequestError(WanRefusedError):
    """The API refuses the parameters: HTTP 400 or 422, or the 500 that wraps a backend's 400."""


class WanAuthError(WanRefusedError):
    """The API refuses the key: HTTP 401 or 403."""


class WanCreditError(WanRefusedError):
    """The account has no credit left: HTTP 402. Nothing goes on until a person pays."""


class WanNotFoundError(WanRefusedError):
    """The API knows no such model or request: HTTP 404."""


class _WaitAndRepeatError(WanRefusedError):
    """:param retry_after: seconds that the API asks to wait, or None where it does not say."""

    retryable = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[type[_WaitAndRepeatError], tuple[str, float | None]]:
        return type(self), (str(self), self.retry_after)


class WanRateLimitError(_WaitAndRepeatError):
    """The organisation's limit is reached: HTTP 429."""


class WanCapacityError(_WaitAndRepeatError):
    """The service has no capacity for now: HTTP 503."""


class WanConnectError(WanRefusedError):
    """No connection came about (refused, no such name, time-out while connecting, certificate)."""

    retryable = True


class WanInDoubtError(WanError):
    """The submission may have arrived: the answer was lost. It must not be sent again blindly."""

    paid = Paid.MAYBE


class WanLookupError(WanError):
    """A look-up went unanswered. It changed nothing, and may be repeated."""

    retryable = True


class WanProtocolError(WanLookupError):
    """An answer that is not the contract's: not JSON, no request id, the wrong shape."""


class WanClipError(WanError):
    """The request was accepted, and there is no clip."""


class WanClipFailedError(WanClipError):
    """
    The request ended as ``failed``.

    :param message: what happened, with the request id.
    :param permanent: whether the same request would fail again (content refused, bad media).
    """

    def __init__(self, message: str, permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(message)

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        return not self.permanent

    def __reduce__(self) -> tuple[type[WanClipFailedError], tuple[str, bool]]:
        return type(self), (str(self), self.permanent)


class WanClipCancelledError(WanClipError):
    """The request ended as ``cancelled``."""

    retryable = True


class WanClipTimeoutError(WanClipError):
    """Our own deadline passed. The request may still run and be charged: the next attempt picks it up."""

    paid = Paid.MAYBE
    retryable = True


class WanResultError(WanError):
    """The clip was made and paid for, and its file is not good, or can't be fetched for now."""

    paid = Paid.YES
    retryable = True


class WanResultRefusedError(WanResultError):
    """We refuse to fetch the result: it lies on a foreign host, or is beyond the size that is allowed."""

    retryable = False


class WanResultGoneError(WanResultError):
    """The result's host no longer gives the file: HTTP 403, 404 or 410."""

    retryable = False
