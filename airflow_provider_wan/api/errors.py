# SPDX-License-Identifier: Apache-2.0
"""The errors of this provider. Each class says whether money was spent and whether a retry helps.

::

    WanError
     ├── WanRefusedError             nothing was accepted             paid: no
     │    ├── WanValidationError     a value rejected before sending  paid: no     retry: no
     │    ├── WanBudgetError         exceeds the budget               paid: no     retry: no
     │    │    └── WanUnknownPriceError  no price to check it by       paid: no     retry: no
     │    ├── WanBadRequestError     400, 422, a 500 around a 400     paid: no     retry: no
     │    ├── WanAuthError           401, 403: the key                paid: no     retry: no
     │    ├── WanCreditError         402: no credit left              paid: no     retry: no
     │    ├── WanNotFoundError       404: unknown model or request    paid: no     retry: no
     │    ├── WanRateLimitError      429                              paid: no     retry: yes, later
     │    ├── WanCapacityError       503                              paid: no     retry: yes, later
     │    ├── WanConnectError        no connection                    paid: no     retry: yes, later
     │    └── WanUrlProbeError       a URL for the API has no answer  paid: no     retry: yes, later
     ├── WanInDoubtError             may have been accepted           paid: maybe  retry: only by the ledger
     ├── WanLookupError              a lookup got no usable answer    paid: no     retry: yes, later
     │    └── WanProtocolError       a response outside the contract  paid: no     retry: yes, later
     ├── WanClipError                accepted, but there is no clip
     │    ├── WanClipFailedError     the request failed               paid: no     retry: unless permanent
     │    ├── WanClipCancelledError  the request was cancelled        paid: no     retry: yes, later
     │    └── WanClipTimeoutError    our deadline passed, it may run  paid: maybe  retry: resumes the request
     └── WanResultError              the clip exists, its file is unusable
          │                                                           paid: yes    retry: resumes at the download
          ├── WanResultRefusedError  a foreign host, or too large     paid: yes    retry: no
          ├── WanResultMismatchError not what was asked for; kept     paid: yes    retry: no
          └── WanResultGoneError     403, 404, 410 at its host        paid: yes    retry: resumes at the download

For a lookup, "paid: no" means that the lookup itself spends nothing; the request that it asks about may be paid for.
The API does not charge for failed or cancelled requests, hence "no" for those.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from airflow_provider_wan.api.redaction import redact


class Paid(StrEnum):
    """Whether money was spent by the time an error was raised."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class Retry(StrEnum):
    """What a retry of the failed operation can achieve."""

    NEVER = "never"
    """The same call fails again until a person changes something."""
    LATER = "later"
    """The same call may succeed later; nothing has been paid for."""
    RESUME = "resume"
    """A retry continues with what is, or may be, paid for. It does not pay again."""
    RECONCILE = "reconcile"
    """Only the ledger may decide whether to send the request again."""


class WanError(Exception):
    """Root of all errors of this provider.

    :cvar paid: whether money was spent.
    :cvar retry: what a retry can achieve; an instance may override it.
    """

    paid: ClassVar[Paid] = Paid.NO
    retry: Retry = Retry.NEVER

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later without a change by a person."""
        return self.retry in (Retry.LATER, Retry.RESUME)


class WanRefusedError(WanError):
    """Nothing was accepted, so nothing is paid."""


class WanValidationError(WanRefusedError, ValueError):
    """A value that is rejected before anything is sent.

    :param field: name of the argument or payload field.
    :param value: the value, shortened in the message.
    :param rule: what is allowed.
    :param remedy: what to do about it, if the rule alone does not say.
    """

    def __init__(self, field: str, value: object, rule: str, remedy: str = "") -> None:
        self.field = field
        self.value = value
        self.rule = rule
        self.remedy = remedy
        whole = repr(value)
        display = redact(whole, 121)
        if len(display) > 120:
            display = f"{display[:100]}… ({len(whole)} characters)"
        super().__init__(f"{field}={display}: {rule}{'. ' + remedy if remedy else ''}")

    def __reduce__(self) -> tuple[type[WanValidationError], tuple[str, object, str, str]]:
        return type(self), (self.field, self.value, self.rule, self.remedy)


class WanBudgetError(WanRefusedError):
    """The clip would cost more than ``max_cost`` allows."""


class WanUnknownPriceError(WanBudgetError):
    """Nobody but the connection, or nobody at all, says what the clip costs, so ``max_cost`` can't be checked."""


class WanBadRequestError(WanRefusedError):
    """The API rejects the parameters: HTTP 400 or 422, or a 500 that wraps a backend's 400."""


class WanAuthError(WanRefusedError):
    """The API rejects the key: HTTP 401 or 403."""


class WanCreditError(WanRefusedError):
    """The account has no credit left: HTTP 402. A person must add credit."""


class WanNotFoundError(WanRefusedError):
    """The API knows no such model or request: HTTP 404."""


class _BackpressureError(WanRefusedError):
    """The API asks to send fewer requests.

    :param message: what happened.
    :param retry_after: seconds that the API asks to wait; ``None`` if it does not say.
    """

    retry = Retry.LATER

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[type[_BackpressureError], tuple[str, float | None]]:
        return type(self), (str(self), self.retry_after)


class WanRateLimitError(_BackpressureError):
    """The organization's rate limit is reached: HTTP 429."""


class WanCapacityError(_BackpressureError):
    """The service has no capacity at the moment: HTTP 503."""


class WanConnectError(WanRefusedError):
    """No connection was made (refused, unknown host, connect timeout, certificate)."""

    retry = Retry.LATER


class WanUrlProbeError(WanRefusedError):
    """A URL that the API is to fetch gave no answer when it was probed, so nothing was submitted."""

    retry = Retry.LATER


class WanInDoubtError(WanError):
    """The submission may have been accepted, but no response arrived. It must not be sent again blindly."""

    paid = Paid.MAYBE
    retry = Retry.RECONCILE


class WanLookupError(WanError):
    """A lookup got no usable answer. It changed nothing and may be repeated."""

    retry = Retry.LATER


class WanProtocolError(WanLookupError):
    """A response that violates the contract: not JSON, no request id, or the wrong shape."""


class WanClipError(WanError):
    """The request was accepted, but there is no clip."""


class WanClipFailedError(WanClipError):
    """The request ended as ``failed``.

    :param message: what happened, with the request id.
    :param permanent: whether the same request would fail again (rejected content, bad media).
    """

    retry = Retry.LATER

    def __init__(self, message: str, permanent: bool = False) -> None:
        self.permanent = permanent
        self.retry = Retry.NEVER if permanent else Retry.LATER
        super().__init__(message)

    def __reduce__(self) -> tuple[type[WanClipFailedError], tuple[str, bool]]:
        return type(self), (str(self), self.permanent)


class WanClipCancelledError(WanClipError):
    """The request ended as ``cancelled``."""

    retry = Retry.LATER


class WanClipTimeoutError(WanClipError):
    """Our own deadline passed. The request may still run and be charged; the next attempt resumes it."""

    paid = Paid.MAYBE
    retry = Retry.RESUME


class WanResultError(WanError):
    """The clip was made and paid for, but its file is unusable or can't be downloaded at the moment."""

    paid = Paid.YES
    retry = Retry.RESUME


class WanResultRefusedError(WanResultError):
    """The result is not downloaded: it is on a foreign host, or larger than allowed."""

    retry = Retry.NEVER


class WanResultMismatchError(WanResultError):
    """The clip is not the one that was asked for, or its key holds another object. It is paid for: see its text."""

    retry = Retry.NEVER


class WanResultGoneError(WanResultError):
    """The result's host does not serve the file: HTTP 403, 404 or 410. It may serve it later, or never again."""
