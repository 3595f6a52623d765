# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.polling.schedule import NOT_FOUND_PATIENCE, Wait, WaitEnd, judge

WAIT = Wait("r1", end_time=1000.0, not_before=8.0, poll_interval=10.0)


def record(status):
    return RequestRecord.parse({"request_id": "r1", "status": status})


@pytest.mark.parametrize("end", ["success", "failed", "cancelled"])
def test_an_end_ends_the_wait(end):
    assert judge(record(end), WAIT, 500.0).end == end


@pytest.mark.parametrize("word", ["created", "queued", "dispatched", "processing", "pondering"])
def test_everything_else_is_waited_for_until_the_end_time(word):
    assert judge(record(word), WAIT, 999.0) is None
    assert judge(record(word), WAIT, 1000.0).end is WaitEnd.TIMEOUT


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
def test_what_may_pass_is_waited_out_until_the_end_time(error):
    assert judge(error, WAIT, 999.0) is None
    assert judge(error, WAIT, 1000.0).end is WaitEnd.TIMEOUT


@pytest.mark.parametrize("kind", [errors.WanAuthError, errors.WanCreditError, errors.WanBadRequestError])
def test_what_will_not_pass_ends_the_wait_with_an_error(kind):
    error = kind("no")
    verdict = judge(error, WAIT, 10.0)
    assert verdict.end is WaitEnd.ERROR
    assert str(error) in verdict.message


def test_an_unknown_id_is_an_error_only_once_it_stays_unknown():
    missing = Wait("r1", 1000.0, 8.0, 10.0, missing_since=100.0)
    assert judge(errors.WanNotFoundError("x"), WAIT, 100.0) is None
    assert judge(errors.WanNotFoundError("x"), missing, 100.0 + NOT_FOUND_PATIENCE - 1) is None
    assert judge(errors.WanNotFoundError("x"), missing, 100.0 + NOT_FOUND_PATIENCE).end is WaitEnd.ERROR
