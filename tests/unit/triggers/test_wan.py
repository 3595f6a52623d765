# SPDX-License-Identifier: Apache-2.0
"""The trigger in a real event loop, against a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.triggers import wan as module
from airflow_provider_wan.triggers.wan import CancelPolicy, WanI2VTrigger
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer
from tests.unit.conftest import KEY


def answer(status: Any, **more: Any) -> Any:
    outcome = {"video_url": "https://s.example.com/a.mp4"}
    return wire.answers(200, {"request_id": "r1", "status": status, "outcome": outcome, **more})


def build_trigger(**more: Any) -> Any:
    now = time.time()
    arguments = {"request_id": "r1", "end_time": now + 30, "poll_interval": 0.01, "fingerprint": "f" * 64}
    return WanI2VTrigger(**{**arguments, **more})


async def wait_for_event(trigger: Any) -> Any:
    events = [event async for event in trigger.run()]
    (event,) = events
    return event.payload


def test_it_is_built_again_from_what_it_says_of_itself() -> None:
    path, arguments = build_trigger(cancel_policy="always", not_before=5.0).serialize()
    assert path == "airflow_provider_wan.triggers.wan.WanI2VTrigger"
    assert WanI2VTrigger(**arguments).serialize() == (path, arguments)


def test_its_arguments_are_plain_json() -> None:
    _, arguments = build_trigger().serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    assert {type(value) for value in arguments.values()} <= {str, float, int, type(None)}


@pytest.mark.parametrize("end", ["success", "failed", "cancelled"])
async def test_it_waits_until_the_request_is_done_and_reports_it_once(connection: Any, end: str) -> None:
    outcome = {"outcome": {"video_url": "https://s.example.com/a.mp4?secret=1", "error": "said of the prompt"}}
    with WireServer([answer("queued"), answer("processing"), answer(end, **outcome)]) as server:
        connection(server.url)
        trigger = build_trigger()
        event = await wait_for_event(trigger)
    assert event == {
        "status": end,
        "request_id": "r1",
        "fingerprint": "f" * 64,
        "end_time": trigger.end_time,
    }
    assert len(server.seen) == 3


async def test_what_an_older_version_wrote_into_the_database_is_taken_up(connection: Any) -> None:
    written: dict[str, Any] = {
        "request_id": "r1",
        "end_time": time.time() + 30,
        "wan_conn_id": "wan_default",
        "poll_interval": 0.01,
        "not_before": 0.0,
        "cancel_policy": "queued",
        "fingerprint": "f" * 64,
    }
    with WireServer([answer("success")]) as server:
        connection(server.url)
        assert (await wait_for_event(WanI2VTrigger(**written)))["status"] == "success"


async def test_it_fires_nothing_before_the_time_at_which_airflow_takes_events_safely(connection: Any) -> None:
    with WireServer([answer("success")]) as server:
        connection(server.url)
        trigger = build_trigger(not_before=time.time() + 0.7)
        await wait_for_event(trigger)
    assert time.time() >= trigger.not_before


async def test_it_gives_up_at_the_end_time_even_where_that_passed_while_it_was_down(connection: Any) -> None:
    with WireServer([answer("processing")]) as server:
        connection(server.url)
        assert (await wait_for_event(build_trigger(end_time=time.time() - 60)))["status"] == "timeout"


async def test_what_finished_before_the_end_time_passed_is_not_reported_as_a_timeout(connection: Any) -> None:
    with WireServer([answer("success")]) as server:
        connection(server.url)
        assert (await wait_for_event(build_trigger(end_time=time.time() - 60)))["status"] == "success"


async def test_bad_responses_are_tolerated(connection: Any) -> None:
    deaths = [wire.answers(500, {}), wire.reset_after_request, wire.half_a_body, wire.answers(429, {})]
    with WireServer([*deaths, wire.answers(404, {}), wire.answers(200, "garbage"), answer("success")]) as server:
        connection(server.url)
        assert (await wait_for_event(build_trigger()))["status"] == "success"


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
async def test_no_refusal_of_a_poll_ends_the_wait_and_each_kind_is_logged_once(
    connection: Any, status: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = wire.answers(status, {"error": "no"})
    with WireServer([refusal, refusal, answer("success")]) as server:
        connection(server.url)
        assert (await wait_for_event(build_trigger()))["status"] == "success"
    text = caplog.text + capsys.readouterr().out
    assert text.count("Polling goes on until the deadline") == 1


async def test_a_connection_that_can_not_be_read_is_reported_and_not_raised() -> None:
    assert (await wait_for_event(build_trigger(wan_conn_id="no_such_connection")))["status"] == "error"


async def test_it_logs_a_change_once_and_never_the_key(
    connection: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with WireServer([answer("queued")] * 5 + [answer("processing")] * 5 + [answer("success")]) as server:
        connection(server.url)
        await wait_for_event(build_trigger())
    # Where a trigger's log goes differs between the versions of Airflow.
    text = caplog.text + capsys.readouterr().out
    assert [text.count(f"Request r1 is {status}") for status in ("queued", "processing", "success")] == [1, 1, 1]
    assert KEY not in text


async def test_being_stopped_with_its_triggerer_cancels_nothing(connection: Any) -> None:
    with WireServer([answer("queued")]) as server:
        connection(server.url)
        trigger = build_trigger(cancel_policy="always")
        waiting = asyncio.create_task(wait_for_event(trigger))
        while not server.seen:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await trigger.cleanup()
    assert all(seen.head.startswith("GET") for seen in server.seen)


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="Airflow calls on_kill from 3.3 on")
class TestKill:
    """The effect of a kill, by the task's state in Airflow and by the policy."""

    @pytest.fixture
    def killed(self, connection: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        async def kill(server: Any, *, state: Any, policy: str = "queued", mapped: bool = False) -> Any:
            connection(server.url)
            trigger = build_trigger(cancel_policy=policy)
            trigger._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=0 if mapped else -1)
            found = {"r": {("t_0" if mapped else "t"): state}} if state else {}

            def states(**asked: Any) -> Any:
                assert asked["map_index"] == (0 if mapped else None)
                if isinstance(state, Exception):
                    raise state
                return found

            runtime = pytest.importorskip("airflow.sdk.execution_time.task_runner").RuntimeTaskInstance
            monkeypatch.setattr(runtime, "get_task_states", staticmethod(states))
            await trigger.on_kill()
            return [seen.head.split()[0] for seen in server.seen]

        return kill

    @pytest.mark.parametrize("state", ["failed", "success", "scheduled", None])
    @pytest.mark.parametrize("mapped", [False, True])
    async def test_a_queued_request_of_a_killed_task_is_cancelled(
        self, killed: Any, state: str | None, mapped: bool
    ) -> None:
        with WireServer([answer("queued"), wire.answers(200, {})]) as server:
            assert await killed(server, state=state, mapped=mapped) == ["GET", "DELETE"]

    async def test_a_running_request_is_left_to_finish_since_it_is_paid_for(self, killed: Any) -> None:
        with WireServer([answer("processing")]) as server:
            assert await killed(server, state="failed") == ["GET"]

    async def test_a_running_request_is_cancelled_if_the_policy_says_always(self, killed: Any) -> None:
        with WireServer([answer("processing"), wire.answers(200, {})]) as server:
            assert await killed(server, state="failed", policy="always") == ["GET", "DELETE"]

    async def test_nothing_is_asked_if_the_policy_says_never(self, killed: Any) -> None:
        with WireServer([answer("queued")]) as server:
            assert await killed(server, state="failed", policy="never") == []

    @pytest.mark.parametrize("mapped", [False, True])
    async def test_a_move_to_another_triggerer_cancels_nothing(self, killed: Any, mapped: bool) -> None:
        with WireServer([answer("queued")]) as server:
            assert await killed(server, state="deferred", policy="always", mapped=mapped) == []

    async def test_nothing_is_cancelled_where_airflow_can_not_be_asked(self, killed: Any) -> None:
        with WireServer([answer("queued")]) as server:
            assert await killed(server, state=RuntimeError("away"), policy="always") == []

    async def test_a_slow_api_does_not_hold_up_the_kill(self, killed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ON_KILL_SECONDS", 0.3)
        with WireServer([wire.never_answers]) as server:
            began = time.monotonic()
            assert await killed(server, state="failed") == ["GET"]
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", ["success", "failed", "cancelled"])
@pytest.mark.parametrize("policy", list(CancelPolicy))
def test_what_is_done_is_never_cancelled(status: str, policy: Any) -> None:
    assert not policy.applies_to(RequestRecord.parse({"request_id": "r1", "status": status}))
