# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_wan.api.client import WanClient, WanConfig
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.triggers.wan import WanI2VBatchTrigger
from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger as Same

KEY = "key-0123456789abcdef"


@pytest.fixture
def api(connection: Any) -> Iterator[Any]:
    with SandboxServer(render="none", speed=0.001, api_key=KEY) as sandbox:
        connection(sandbox.base_url, extra={"status_requests_per_second": 200})
        yield sandbox


def submit(api: Any, count: Any) -> Any:
    client = WanClient(WanConfig(api_key=KEY, base_url=api.base_url))
    asked = [I2VRequest(img_url="https://h.example.com/a.png", seed=number) for number in range(count)]
    return [client.submit(request).request_id for request in asked]


def trigger(ids: Any, **more: Any) -> Any:
    return WanI2VBatchTrigger(ids, **{"end_time": time.time() + 60, "poll_interval": 0.05, **more})


async def event(trigger: Any) -> Any:
    fresh = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
    return [each.payload async for each in fresh.run()]


def test_it_is_one_class_in_both_places() -> None:
    assert WanI2VBatchTrigger is Same
    assert trigger(["a"]).serialize()[0] == "airflow_provider_wan.triggers.wan_batch.WanI2VBatchTrigger"


async def test_it_wakes_when_enough_have_ended(api: Any) -> None:
    ids = submit(api, 12)
    for request_id in ids[:5]:
        api.finish(request_id)

    (statuses,) = await event(trigger(ids, wake_after=5))

    assert (statuses["status"], statuses["ended"], statuses["in_flight"]) == ("enough", 5, 7)


async def test_while_the_service_has_more_requests_than_it_runs_more_have_to_end(api: Any) -> None:
    ids = submit(api, 12)
    for request_id in ids[:3]:
        api.finish(request_id)
    for request_id in ids[3:5]:
        api.finish(request_id, "processing")
    waiting = asyncio.create_task(event(trigger(ids, wake_after=3)))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    for request_id in ids[5:10]:
        api.finish(request_id)

    (statuses,) = await waiting

    assert statuses["status"] == "enough"
    # Two run and two wait.
    assert statuses["ended"] in (7, 8)


async def test_three_quarters_are_enough_whatever_the_service_has(api: Any) -> None:
    ids = submit(api, 40)
    api.finish(ids[0], "processing")
    for request_id in ids[1:31]:
        api.finish(request_id)

    (statuses,) = await event(trigger(ids, wake_after=3))

    assert (statuses["status"], statuses["ended"]) == ("enough", 30)


async def test_many_are_polled_by_pages(api: Any) -> None:
    ids = submit(api, 120)
    for request_id in ids:
        api.finish(request_id)

    (statuses,) = await event(trigger(ids, wake_after=120))

    assert statuses["ended"] == 120
    reads = [call for call in api.journal() if call["method"] == "GET"]
    assert {call["path"] for call in reads} == {"/requests"}
    # Two, or a few more where they begin to wait one after the other.
    assert 2 <= len(reads) <= 12


async def test_one_that_has_ended_a_while_ago_wakes_it_alone(api: Any) -> None:
    ids = submit(api, 3)
    api.finish(ids[0])

    (statuses,) = await event(trigger(ids, wake_after=3, max_age=1.0))

    assert (statuses["status"], statuses["ended"]) == ("aged", 1)


async def test_it_wakes_at_the_time_that_the_task_asked_for(api: Any) -> None:
    (statuses,) = await event(trigger(submit(api, 3), wake_at=time.time() + 0.3))

    assert statuses["status"] == "due"


async def test_it_wakes_at_the_end_of_the_time(api: Any) -> None:
    (statuses,) = await event(trigger(submit(api, 3), end_time=time.time() + 0.3))

    assert statuses["status"] == "timeout"


async def test_nothing_in_flight_waits_for_its_time(api: Any) -> None:
    (statuses,) = await event(trigger([], wake_at=time.time() + 0.2))

    assert statuses["status"] == "due"


async def test_no_event_is_fired_too_soon(api: Any) -> None:
    ids = submit(api, 1)
    api.finish(ids[0])
    moment = time.time() + 0.6

    await event(trigger(ids, not_before=moment))

    assert time.time() >= moment


async def test_a_request_that_the_api_does_not_know_wakes_the_task(api: Any) -> None:
    (statuses,) = await event(trigger(["00000000-0000-0000-0000-000000000000"], wake_after=1))

    assert statuses["status"] == "aged"


async def test_failing_lookups_are_tolerated(api: Any) -> None:
    ids = submit(api, 6)
    for fault in ("list_500", "list_garbage", "get_500", "get_502"):
        api.inject(fault, 2)
    for request_id in ids:
        api.finish(request_id)

    (statuses,) = await event(trigger(ids, wake_after=6))

    assert (statuses["status"], statuses["ended"]) == ("enough", 6)


async def test_a_rejected_key_does_not_end_the_wait_before_the_deadline(api: Any, connection: Any) -> None:
    ids = submit(api, 6)
    connection(api.base_url, key="another-key-0123456789")
    began = time.time()

    (statuses,) = await event(trigger(ids, end_time=began + 2))

    assert statuses["status"] == "timeout"
    assert 2 <= time.time() - began < 2 + 5


@pytest.mark.parametrize(
    ("state", "policy", "cancelled"),
    [(None, "queued", 4), ("failed", "queued", 4), ("deferred", "queued", 0), (None, "never", 0)],
)
async def test_on_kill_cancels_only_where_a_user_killed_it(
    api: Any, monkeypatch: pytest.MonkeyPatch, state: str | None, policy: str, cancelled: int
) -> None:
    ids = submit(api, 4)
    states = {"run": {"task": state}} if state else {"run": {}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    waiting = trigger(ids, cancel_policy=policy)
    waiting.task_instance = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1)

    await waiting.on_kill()

    deleted = [call for call in api.journal() if call["method"] == "DELETE"]
    assert len(deleted) == cancelled


async def test_requests_that_another_task_has_paid_for_are_never_cancelled(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(api, 4)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: {"run": {}}))
    _, arguments = trigger(ids, cancel_policy="always", followed_ids=ids[1:]).serialize()
    waiting: Any = WanI2VBatchTrigger(**json.loads(json.dumps(arguments)))
    waiting.task_instance = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1)

    await waiting.on_kill()

    deleted = [call["path"] for call in api.journal() if call["method"] == "DELETE"]
    assert deleted == [f"/requests/{ids[0]}"]


def test_the_list_is_read_by_the_model_of_the_batch() -> None:
    trigger = WanI2VBatchTrigger(["r1"], end_time=2e9, model="wan2.7-i2v")
    _, arguments = trigger.serialize()
    assert arguments["model"] == "wan2.7-i2v"
    assert trigger._build_target("r1", 0.0).model == "wan2.7-i2v"
