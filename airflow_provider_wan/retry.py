# SPDX-License-Identifier: Apache-2.0
"""
A retry policy for tasks of this provider (Airflow 3.3 and later).

::

    WanI2VOperator(task_id="generate", ..., retries=5, retry_policy=WanRetryPolicy())

Without it, the operators already fail at once if a retry can't help, on every version of Airflow: they raise
``AirflowFailException``. The policy adds *when* to retry: when the API asks for it, or soon if a clip that is paid
for only has to be picked up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision, RetryPolicy

from airflow_provider_wan.api.errors import Retry, WanCapacityError, WanCreditError, WanError, WanRateLimitError

if TYPE_CHECKING:
    from airflow.sdk import Context

# A retry scans the list at once; it need not wait for the interval of a proof, which each process times by itself.
RECONCILE_DELAY = timedelta(minutes=2)
# Such a retry submits nothing: it only continues to wait, or downloads.
RESUME_DELAY = timedelta(seconds=10)
# What Airflow 3.4 waits for without using up a retry, until this long after the first time.
RESCHEDULE_TIMEOUT = timedelta(days=1)
BUSY_DELAY = timedelta(minutes=5)
CREDIT_DELAY = timedelta(minutes=30)


class WanRetryPolicy(RetryPolicy):
    """
    Decides by the error whether a task is retried, and when.

    ==========================================  ================================================
    ``retry`` of the error                      decision
    ==========================================  ================================================
    ``NEVER``                                   fail at once
    ``RECONCILE``: the submission is in doubt   retry in 2 minutes: the API's list is scanned
    ``RESUME``: paid for, or possibly           retry in 10 s: it continues with the same clip
    ``LATER``, and the API says when            retry when the API asks for it
    ``LATER``                                   the task's own ``retry_delay``
    not an error of this provider               the task's own ``retry_delay``
    ==========================================  ================================================

    On Airflow 3.4 and later, a 429, 503 or 402 does not use up a retry: the task is rescheduled until a day has passed,
    as the API asks after a 429 or 503 or else after 5 minutes, and after 30 minutes if no credit is left.
    """

    #: Whether this Airflow can run a task again without using up a retry.
    can_reschedule: ClassVar[bool] = hasattr(RetryAction, "RESCHEDULE")

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Return the decision for an error of a task.

        :param exception: the error.
        :param try_number: number of the try that failed.
        :param max_tries: number of tries that the task has.
        :param context: context of the task.
        """
        if not isinstance(exception, WanError):
            return RetryDecision.default()
        name = type(exception).__name__
        if self.can_reschedule and isinstance(exception, WanRateLimitError | WanCapacityError | WanCreditError):
            return self._reschedule(exception)
        match exception.retry:
            case Retry.NEVER:
                return RetryDecision.fail(f"{name}: a retry would not help")
            case Retry.RECONCILE:
                return RetryDecision.retry(RECONCILE_DELAY, f"{name}: scanning the API's list again")
            case Retry.RESUME:
                return RetryDecision.retry(RESUME_DELAY, f"{name}: continuing with what is paid for")
        retry_after = getattr(exception, "retry_after", None)
        if retry_after is not None:
            return RetryDecision.retry(
                timedelta(seconds=float(retry_after)), f"{name}: the API asks to wait {retry_after:.0f} s"
            )
        return RetryDecision.default()

    @staticmethod
    def _reschedule(exception: WanError) -> RetryDecision:
        retry_after = getattr(exception, "retry_after", None)
        delay = CREDIT_DELAY if isinstance(exception, WanCreditError) else BUSY_DELAY
        return RetryDecision.reschedule(  # type: ignore[attr-defined, no-any-return, unused-ignore]
            delay if retry_after is None else timedelta(seconds=float(retry_after)),
            reschedule_timeout=RESCHEDULE_TIMEOUT,
            reason=f"{type(exception).__name__}: nothing was accepted, and nothing is paid",
        )

    def serialize(self) -> dict[str, Any]:
        """Return nothing: the policy has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WanRetryPolicy:
        """Return the policy."""
        return cls()
