# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_wan.api.client import WanClient, WanConfig
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.triggers.wan import WanI2VBatchTrigger
from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger as Same

KEY = "key-0123456789abcdef"


@pytest.fixture
def api(connection):
    with SandboxServer(render="none", speed=0.001, api_key=KEY) as sandbox:
        connection(sandbox.base_url, extra={"status_requests_per_second": 200})
        yield sandbox


def submit(api, count):
    client = WanClient(WanConfig(api_key=KEY, base_url=api.base_url))
    asked = [I2VRequest(img_url="https://h.example.com/a.png", seed=number) for number in range(count)]
    return [client.submit(request).request_id for request in asked]


def trigger(ids, **more):
    return WanI2VBatchTrigger(ids, **{"end_time": time.time() + 60, "poll_interval": 0.05, **more})


async def event(trigger):
    fresh = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
    return [each.payload async for each in fresh.run()]


def test_it_is_one_class_in_both_places():
    assert WanI2VBatchTrigger is Same
    assert trigger(["a"]).serialize()[0] == "airflow_provider_wan.triggers.wan_batch.WanI2VBatchTrigger"


async def test_it_wakes_when_enough_have_ended(api):
    ids = submit(api, 12)
    for request_id in ids[:5]:
        api.finish(request_id)

    (told,) = await event(trigger(ids, wake_after=5))

    assert (told["status"], told["ended"], told["under_way"]) == ("enough", 5, 7)


async def test_many_are_looked_at_by_pages(api):
    ids = submit(api, 120)
    for request_id in ids:
        api.finish(request_id)

    (told,) = await event(trigger(ids, wake_after=120))

    assert told["ended"] == 120
    reads = [call for call in api.journal() if call["method"] == "GET"]
    assert {call["path"] for call in reads} == {"/requests"}
    # Two, or a few more where they begin to wait one after the other.
    assert 2 <= len(reads) <= 12


async def test_one_that_has_ended_a_while_ago_wakes_it_alone(api):
    ids = submit(api, 3)
    api.finish(ids[0])

    (told,) = await event(trigger(ids, wake_after=3, max_age=1.0))

    assert (told["status"], told["ended"]) == ("aged", 1)


async def test_it_wakes_at_the_time_that_the_task_asked_for(api):
    (told,) = await event(trigger(submit(api, 3), wake_at=time.time() + 0.3))

    assert told["status"] == "due"


async def test_it_wakes_at_the_end_of_the_time(api):
    (told,) = await event(trigger(submit(api, 3), end_time=time.time() + 0.3))

    assert told["status"] == "timeout"


async def test_nothing_under_way_waits_for_its_time(api):
    (told,) = await event(trigger([], wake_at=time.time() + 0.2))

    assert told["status"] == "due"


async def test_no_event_is_fired_too_soon(api):
    ids = submit(api, 1)
    api.finish(ids[0])
    moment = time.time() + 0.6

    await event(trigger(ids, not_before=moment))

    assert time.time() >= moment


async def test_a_request_that_the_api_does_not_know_wakes_the_task(api):
    (told,) = await event(trigger(["00000000-0000-0000-0000-000000000000"], wake_after=1))

    assert told["status"] == "aged"


async def test_failing_look_ups_are_waited_out(api):
    ids = submit(api, 6)
    for fault in ("list_500", "list_garbage", "get_500", "get_502"):
        api.inject(fault, 2)
    for request_id in ids:
        api.finish(request_id)

    (told,) = await event(trigger(ids, wake_after=6))

    assert (told["status"], told["ended"]) == ("enough", 6)


async def test_a_refused_key_wakes_the_task_which_says_so(api, connection):
    ids = submit(api, 6)
    connection(api.base_url, key="another-key-0123456789")

    (told,) = await event(trigger(ids))

    assert told["status"] == "error"


@pytest.mark.parametrize(
    ("state", "policy", "cancelled"),
    [(None, "queued", 4), ("failed", "queued", 4), ("deferred", "queued", 0), (None, "never", 0)],
)
async def test_on_kill_cancels_only_where_a_user_killed_it(api, monkeypatch, state, policy, cancelled):
    ids = submit(api, 4)
    states = {"run": {"task": state}} if state else {"run": {}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    waiting = trigger(ids, cancel_policy=policy)
    waiting.task_instance = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1)

    await waiting.on_kill()

    deleted = [call for call in api.journal() if call["method"] == "DELETE"]
    assert len(deleted) == cancelled
