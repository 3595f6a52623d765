# SPDX-License-Identifier: Apache-2.0
"""Answers of the API while a paid clip is waited for: the deadline holds, and only a proof ends the wait."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_wan.api import errors

PROMPT = "A lighthouse keeper who must stay unseen climbs the stairs"
SIGNED = "https://images.example.com/cat.jpg?X-Amz-Signature=c0ffee0123456789c0ffee"


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    "fault",
    ["get_302", "get_401", "get_403_page", "get_404", "get_410", "get_backend_400", "get_other_request", "get_echo"],
)
def test_a_refusal_that_passes_does_not_end_the_wait_for_a_paid_clip(
    run: Any, api: Any, fault: str, deferrable: bool
) -> None:
    api.inject(fault, count=3)
    assert run.try_(prompt=PROMPT, deferrable=deferrable)["status"] == "success"
    assert len(api.accepted()) == 1


@pytest.mark.parametrize("fault", ["hang_after_accept", "hang_before_accept", "get_hang", "never_runs", "get_404"])
def test_the_deadline_is_held_within_five_seconds(run: Any, api: Any, fault: str) -> None:
    api.inject(fault, count=None)
    began = time.monotonic()
    # What was accepted, or is unknown by its id, may still be found in the list in time. Else a retry can help: an
    # error that no retry can mend would be an AirflowFailException.
    with suppress(errors.WanError):
        assert run.try_(prompt=PROMPT, deferrable=False, timeout=3)["status"] == "success"
    assert time.monotonic() - began < 3 + 5
    assert len(api.accepted()) <= 1


def test_with_less_time_than_a_deferral_takes_the_task_waits_here(run: Any, api: Any) -> None:
    api.inject("never_runs", count=None)
    began = time.monotonic()
    with pytest.raises(errors.WanClipTimeoutError):
        run.try_(deferrable=True, timeout=2)
    assert run.deferrals == []
    assert time.monotonic() - began < 2 + 5


def test_the_execution_timeout_counts_for_a_deferred_task(run: Any, api: Any) -> None:

    operator = run.operator(deferrable=True, timeout=3600, execution_timeout=timedelta(seconds=60))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(run.context())
    assert deferred.value.trigger.end_time == pytest.approx(time.time() + 60, abs=10)


@pytest.mark.parametrize(
    ("fault", "permanent"), [("failed_code", True), ("failed_errors", False), ("failed_dict", False)]
)
def test_a_failure_keeps_the_code_and_status_that_decide_whether_it_is_retried(
    run: Any, api: Any, fault: str, permanent: bool
) -> None:
    api.inject(fault, count=None)
    with pytest.raises(AirflowFailException if permanent else errors.WanClipFailedError) as raised:
        run.try_(prompt=PROMPT)
    if permanent:
        assert "400" in str(raised.value)
        assert "INVALID_INPUT" in str(raised.value)
        # One error is reported once, without a second traceback.
        assert raised.value.__suppress_context__


@pytest.mark.parametrize("fault", ["echo_401", "get_echo"])
def test_nothing_that_an_api_repeats_is_kept_anywhere(
    run: Any, api: Any, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    api.inject(fault, count=None)
    with pytest.raises((errors.WanError, AirflowFailException)) as raised:
        run.try_(prompt=PROMPT, img_url=SIGNED, deferrable=False, timeout=3)
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("fingerprint" in text for text in written)
    output = capsys.readouterr()
    seen = [caplog.text, output.out, output.err, json.dumps(run.xcoms, default=str), *written]
    error: BaseException | None = raised.value
    while error is not None:
        seen.append(f"{error!r} {error} {vars(error)}")
        error = error.__cause__ or error.__context__
    for text in seen:
        for secret in ("key-0123456789abcdef", "lighthouse keeper", "c0ffee0123456789c0ffee"):
            assert secret not in text
