# SPDX-License-Identifier: Apache-2.0
"""The sensor over real sockets."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_wan.sensors.wan import WanRequestSensor
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer

VIDEO = "https://s.example.com/a.mp4"


def answer(status: Any, **more: Any) -> Any:
    return wire.answers(200, {"request_id": "r1", "status": status, **more})


SUCCESS = answer("success", outcome={"media_urls": [{"url": f"{VIDEO}?sig=1"}]})


def sensor(**arguments: Any) -> Any:
    given = {"poke_interval": 0.01, "timeout": 5, "deferrable": False}
    return WanRequestSensor(task_id="wait", request_id="r1", **{**given, **arguments})


def context(xcoms: Any = None) -> Any:
    push = {} if xcoms is None else xcoms
    return {"ti": SimpleNamespace(xcom_push=lambda key, value: push.__setitem__(key, value))}


def test_it_pokes_until_the_request_is_done_and_gives_its_result(connection: Any) -> None:
    with WireServer([answer("queued"), wire.answers(500, {}), answer("processing"), SUCCESS]) as server:
        connection(server.url)
        result = sensor().execute(context())
    assert result == {"request_id": "r1", "status": "success", "video_url": VIDEO, "thumbnail_url": None}


def test_it_defers_with_a_trigger_that_never_cancels(connection: Any) -> None:
    with WireServer([answer("processing")]) as server:
        connection(server.url)
        xcoms: dict[Any, Any] = {}
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=60).execute(context(xcoms))
    assert deferred.value.trigger.request_id == "r1"
    assert deferred.value.trigger.cancel_policy == "never"
    assert xcoms == {}


def test_what_is_done_already_is_not_deferred(connection: Any) -> None:
    with WireServer([SUCCESS]) as server:
        connection(server.url)
        assert sensor(deferrable=True).execute(context())["status"] == "success"


def test_it_polls_the_result_anew_when_it_is_resumed(connection: Any) -> None:
    with WireServer([SUCCESS]) as server:
        connection(server.url)
        event = {"status": "success", "request_id": "r1"}
        assert sensor(deferrable=True).execute_complete(context(), event)["video_url"] == VIDEO


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_request_that_gave_no_clip_fails_the_task_for_good(connection: Any, status: str) -> None:
    with WireServer([answer(status, outcome={"error": "bad media"})]) as server:
        connection(server.url)
        with pytest.raises(AirflowFailException, match="r1"):
            sensor().execute(context())


@pytest.mark.parametrize("request_id", [None, "None", ""])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_template_without_a_request_is_refused_and_not_waited_for(
    connection: Any, request_id: Any, deferrable: bool
) -> None:
    connection()
    waiting = WanRequestSensor(task_id="wait", request_id=request_id, deferrable=deferrable, timeout=3600)
    with pytest.raises(AirflowFailException, match="request_id"):
        waiting.execute(context())


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_request_without_a_clip_skips_a_sensor_that_must_not_fail(
    connection: Any, option: str, deferrable: bool
) -> None:
    with WireServer([answer("failed", outcome={"error": "bad media"})]) as server:
        connection(server.url)
        with pytest.raises(AirflowSkipException):
            sensor(deferrable=deferrable, timeout=60, **{option: True}).execute(context())


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410, 500])
@pytest.mark.parametrize("deferrable", [False, True])
def test_no_refusal_ends_the_wait_for_a_request(connection: Any, status: int, deferrable: bool) -> None:
    with WireServer([wire.answers(status, {"error": "not yet"}), answer("success"), SUCCESS]) as server:
        connection(server.url)
        # With less time than a deferral takes, a deferrable sensor pokes.
        result = sensor(deferrable=deferrable).execute(context())
    assert result["video_url"] == VIDEO


def test_a_request_that_stays_unknown_times_out_soon_after_the_deadline(connection: Any) -> None:
    began = time.monotonic()
    with WireServer([wire.answers(404, {"error": "not found"})]) as server:
        connection(server.url)
        with pytest.raises(AirflowSensorTimeout):
            sensor(timeout=1, poke_interval=60).execute(context())
        event = {"status": "timeout", "request_id": "r1", "end_time": time.time()}
        with pytest.raises(AirflowSensorTimeout, match="404"):
            sensor(deferrable=True).execute_complete(context(), event)
    assert time.monotonic() - began < 1 + 2 * 5


def test_a_resumed_sensor_waits_here_when_the_triggerer_could_not_poll(connection: Any) -> None:
    event = {"status": "error", "request_id": "r1", "end_time": time.time() + 30}
    with WireServer([wire.answers(403, "blocked"), answer("processing"), SUCCESS]) as server:
        connection(server.url)
        assert sensor(deferrable=True).execute_complete(context(), event)["video_url"] == VIDEO


def test_the_execution_timeout_counts_for_a_deferred_sensor(connection: Any) -> None:
    with WireServer([answer("processing")]) as server:
        connection(server.url)
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=3600, execution_timeout=timedelta(seconds=60)).execute(context())
    assert deferred.value.trigger.end_time == pytest.approx(time.time() + 60, abs=10)


def test_a_timeout_is_the_sensor_s_own_and_softly_a_skip(connection: Any) -> None:
    event = {"status": "timeout", "request_id": "r1"}
    with WireServer([answer("processing")]) as server:
        connection(server.url)
        with pytest.raises(AirflowSensorTimeout, match="'processing'"):
            sensor(deferrable=True).execute_complete(context(), event)
        with pytest.raises(AirflowSkipException):
            sensor(deferrable=True, soft_fail=True).resume_execution("execute_complete", {"event": event}, context())


def test_the_trigger_reads_the_list_by_the_model_of_the_request(connection: Any) -> None:
    record = {"request_id": "r1", "status": "queued", "model": "wan2.7-i2v"}
    with WireServer([wire.answers(200, record)]) as server:
        connection(server.url)
        with pytest.raises(TaskDeferred) as deferred:
            WanRequestSensor(task_id="t", request_id="r1", deferrable=True).execute({})
    assert deferred.value.trigger.serialize()[1]["model"] == "wan2.7-i2v"
