# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_wan.api import errors

policies = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow has retry policies from 3.3 on")

from airflow_provider_wan.retry import WanRetryPolicy  # noqa: E402


@pytest.mark.parametrize(
    ("error", "action", "seconds"),
    [
        (errors.WanValidationError("prompt", "x", "too long"), "FAIL", None),
        (errors.WanClipFailedError("refused", permanent=True), "FAIL", None),
        (errors.WanResultGoneError("gone"), "RETRY", 10),
        (errors.WanInDoubtError("lost"), "RETRY", 120),
        (errors.WanClipTimeoutError("still running"), "RETRY", 10),
        (errors.WanResultError("cut off"), "RETRY", 10),
        (errors.WanClipFailedError("rate limit exceeded(RPM)"), "DEFAULT", None),
        (errors.WanLookupError("no answer"), "DEFAULT", None),
        (ValueError("not ours"), "DEFAULT", None),
    ],
)
def test_the_error_decides_whether_and_when_to_retry(error: Any, action: str, seconds: int | None) -> None:
    decision = WanRetryPolicy().evaluate(error, 1, 3)
    assert decision.action is policies.RetryAction[action]
    assert decision.retry_delay == (None if seconds is None else timedelta(seconds=seconds))


BUSY = [
    (errors.WanRateLimitError("429", retry_after=77.0), 77, "RETRY", 77),
    (errors.WanRateLimitError("429"), 300, "DEFAULT", None),
    (errors.WanCapacityError("503"), 300, "DEFAULT", None),
    (errors.WanCreditError("no credit"), 1800, "FAIL", None),
]


@pytest.mark.parametrize(("error", "seconds", "action", "retried_after"), BUSY)
def test_a_busy_service_or_an_empty_account_uses_up_no_retry_where_airflow_can_reschedule(
    error: Any, seconds: int, action: str, retried_after: int | None
) -> None:
    decision: Any = WanRetryPolicy().evaluate(error, 1, 3)
    if hasattr(policies.RetryAction, "RESCHEDULE"):
        assert decision.action is policies.RetryAction.RESCHEDULE
        assert decision.retry_delay == timedelta(seconds=seconds)
        assert decision.reschedule_timeout == timedelta(days=1)
        assert "nothing is paid" in decision.reason
    else:
        assert decision.action is policies.RetryAction[action]
        assert decision.retry_delay == (None if retried_after is None else timedelta(seconds=retried_after))


def test_an_empty_account_reaches_the_policy_only_where_it_can_wait() -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_provider_wan.operators.task_result import fail_task

    ends = errors.WanCreditError if WanRetryPolicy.can_reschedule else AirflowFailException
    with pytest.raises(ends, match="no credit"):
        fail_task(errors.WanCreditError("no credit"), WanRetryPolicy())
    with pytest.raises(AirflowFailException, match="no credit"):
        fail_task(errors.WanCreditError("no credit"))
    with pytest.raises(AirflowFailException, match="wrong key"):
        fail_task(errors.WanAuthError("wrong key"), WanRetryPolicy())


def test_a_task_with_the_policy_survives_the_serialization_of_its_dag() -> None:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_provider_wan.operators.wan import WanI2VOperator

    with DAG("with_policy", schedule=None) as dag:
        WanI2VOperator(task_id="t", img_url="https://e.com/a.jpg", retries=3, retry_policy=WanRetryPolicy())
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("t").retries == 3
