# SPDX-License-Identifier: Apache-2.0
"""
A retry policy for tasks of this provider (Airflow 3.3 and later).

::

    WanI2VOperator(task_id="generate", ..., retries=5, retry_policy=WanRetryPolicy())

Without it, the operators already fail at once where a retry can't help, on every version of Airflow: they
raise ``AirflowFailException``. The policy adds when to retry: as the API asks, or at once where a clip that
is paid for only has to be picked up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_wan.api.errors import Paid, WanError, WanInDoubtError

if TYPE_CHECKING:
    from airflow.sdk import Context

# The second look that proves an absence is this far from the first: see ledger.decision.Policy.settle.
DOUBT_DELAY = timedelta(minutes=2)
# Nothing is submitted by such a retry: it only waits on, or fetches.
PICK_UP_DELAY = timedelta(seconds=10)


class WanRetryPolicy(RetryPolicy):
    """
    Decides by the error whether a task is retried, and when.

    ====================================  ===========================================
    error                                 decision
    ====================================  ===========================================
    a retry does not help                 fail at once
    in doubt                              retry in 2 minutes: the API's list settles it
    paid for, or perhaps (time-out, file)  retry in 10 s: it picks up the same clip
    the API asks to wait                  retry when it asks
    anything else                         the task's own ``retry_delay``
    ====================================  ===========================================
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Return the decision for an error of a task."""
        if not isinstance(exception, WanError):
            return RetryDecision.default()
        name = type(exception).__name__
        if isinstance(exception, WanInDoubtError):
            return RetryDecision.retry(DOUBT_DELAY, f"{name}: looking into the API's list again")
        if not exception.retryable:
            return RetryDecision.fail(f"{name}: a retry would not help")
        if exception.paid is not Paid.NO:
            return RetryDecision.retry(PICK_UP_DELAY, f"{name}: picking up what is paid for")
        asked = getattr(exception, "retry_after", None)
        if asked is not None:
            return RetryDecision.retry(timedelta(seconds=float(asked)), f"{name}: the API asks to wait {asked:.0f} s")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return nothing: the policy has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WanRetryPolicy:
        """Return the policy."""
        return cls()
