# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.polling.decision import NOT_FOUND_GRACE, PollTarget, WaitStatus, evaluate_poll

TARGET = PollTarget("r1", end_time=1000.0, not_before=8.0, poll_interval=10.0)


def record(status: Any) -> Any:
    return RequestRecord.parse({"request_id": "r1", "status": status})


@pytest.mark.parametrize("end", ["success", "failed", "cancelled"])
def test_an_end_ends_the_wait(end: str) -> None:
    assert evaluate_poll(record(end), TARGET, 500.0).status == end


@pytest.mark.parametrize("word", ["created", "queued", "dispatched", "processing", "pondering"])
def test_everything_else_is_waited_for_until_the_end_time(word: str) -> None:
    assert evaluate_poll(record(word), TARGET, 999.0) is None
    assert evaluate_poll(record(word), TARGET, 1000.0).status is WaitStatus.TIMEOUT


@pytest.mark.parametrize(
    "error",
    [
        errors.WanLookupError("x"),
        errors.WanProtocolError("x"),
        errors.WanRateLimitError("x"),
        errors.WanCapacityError("x"),
        errors.WanConnectError("x"),
    ],
)
def test_what_may_pass_is_tolerated_until_the_end_time(error: Any) -> None:
    assert evaluate_poll(error, TARGET, 999.0) is None
    assert evaluate_poll(error, TARGET, 1000.0).status is WaitStatus.TIMEOUT


@pytest.mark.parametrize("kind", [errors.WanAuthError, errors.WanCreditError, errors.WanBadRequestError])
def test_what_will_not_pass_ends_the_wait_with_an_error(kind: Any) -> None:
    error = kind("no")
    decision = evaluate_poll(error, TARGET, 10.0)
    assert decision.status is WaitStatus.ERROR
    assert str(error) in decision.message


def test_an_unknown_id_is_an_error_only_once_it_stays_unknown() -> None:
    missing = PollTarget("r1", 1000.0, 8.0, 10.0, missing_since=100.0)
    assert evaluate_poll(errors.WanNotFoundError("x"), TARGET, 100.0) is None
    assert evaluate_poll(errors.WanNotFoundError("x"), missing, 100.0 + NOT_FOUND_GRACE - 1) is None
    assert evaluate_poll(errors.WanNotFoundError("x"), missing, 100.0 + NOT_FOUND_GRACE).status is WaitStatus.ERROR
