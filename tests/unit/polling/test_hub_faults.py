# SPDX-License-Identifier: Apache-2.0
"""Bad days of the API, over real sockets: no clip's end is lost, none is invented, and the rate holds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextvars import ContextVar

import pytest
from aiohttp import web

from airflow_provider_wan.api import aio
from airflow_provider_wan.api.aio import AsyncWanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.schedule import Wait
from airflow_provider_wan.polling.waiter import Ended
from dev.testkit.api_server import KEY, ApiServer, is_list, reset

RATE = 200.0
POLL = 0.05


@pytest.fixture
async def api():
    async with ApiServer().serve() as server:
        yield server


def connector(api, *keys, rate=RATE):
    made = []

    async def connect():
        key = (keys or (KEY,))[min(len(made), len(keys or (KEY,)) - 1)]
        client = AsyncWanClient(WanConfig(api_key=key, base_url=api.url, status_requests_per_second=rate))
        made.append(client)
        return client

    connect.made = made
    return connect


async def wait_for(connect, request_id, *, seconds=30.0, poll=POLL, told=None, **more) -> Ended:
    now = time.time()
    async with shared_hub("c", connect) as hub:
        return await hub.wait(
            Wait(request_id, now + seconds, now, poll, **more), (told if told is not None else []).append
        )


async def all_of(api, ids, connect=None, *, finish=None, **more) -> dict[str, str]:
    """Wait for all; end them one by one meanwhile. :return: the end of each, as it was told."""
    connect = connect or connector(api)
    waits = {each: asyncio.create_task(wait_for(connect, each, **more)) for each in ids}

    async def end():
        ends = {}
        for each in random.Random(4).sample(list(ids), len(ids)):
            await asyncio.sleep(0.35 / len(ids))
            ends[each] = "failed" if int(each[1:]) % 3 == 0 else "success"
            # Whoever was told of an end before it came was told of one that was invented.
            assert not waits[each].done()
            api.finish(each, ends[each])
        return ends

    ends = await (finish or end)()
    told = {each: (await task).verdict.end.value for each, task in waits.items()}
    assert told == ends
    return told


def holds(api, rate=RATE):
    assert api.most_within(1.0) <= rate


@pytest.fixture(params=[1, 60])
def clips(api, request):
    api.add(20, status="success", age=900)
    return api.add(request.param)


async def test_every_end_is_told_and_the_rate_holds(api, clips):
    await all_of(api, clips)
    holds(api)


async def test_many_are_looked_at_by_pages_and_few_by_their_ids(api):
    api.add(300, status="success", age=900)
    many = api.add(200)
    await all_of(api, many)
    assert api.pages * 5 > api.singles
    assert len(api.seen) < 3 * len(many)
    api.seen.clear()
    (one,) = api.add(1)
    await all_of(api, [one])
    assert api.pages == 0


async def test_a_list_that_is_taken_away_is_done_without(api, clips):
    api.bend = lambda request: web.json_response({"error": "not found"}, status=404) if is_list(request) else None
    await all_of(api, clips)
    assert api.pages <= 2
    holds(api)


async def test_a_list_that_is_taken_away_midway_is_done_without(api):
    clips = api.add(60)
    api.bend = lambda request: (
        web.Response(status=404)
        if is_list(request) and any(c.status != "processing" for c in api.clips.values())
        else None
    )
    await all_of(api, clips)
    holds(api)


async def test_a_list_that_the_key_may_not_read_is_no_refused_key(api):
    clips = api.add(20)
    api.bend = lambda request: web.json_response({"error": "forbidden"}, status=403) if is_list(request) else None
    await all_of(api, clips)


FAILS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "500": lambda _: web.Response(status=500),
    "garbage": lambda _: web.Response(text="<html>busy</html>", content_type="text/html"),
    "half a list": lambda _: web.json_response({"requests": [None, 7, {"request_id": "r3"}, {"status": "success"}]}),
    "a list of nothing": lambda _: web.json_response({"requests": [], "has_more": False}),
    "reset": reset,
}


@pytest.mark.parametrize("fails", FAILS)
async def test_half_of_the_pages_failing_hurts_nobody(api, fails):
    roll = random.Random(5)
    clips = api.add(60)
    api.bend = lambda request: FAILS[fails](request) if is_list(request) and roll.random() < 0.5 else None
    await all_of(api, clips)
    holds(api)


@pytest.mark.parametrize("turns", ["always", "now and then"])
@pytest.mark.parametrize("totals", [True, False])
async def test_a_list_in_the_reversed_order_is_understood(api, turns, totals):
    roll = random.Random(6)
    api.totals = totals
    api.reverse = lambda: turns == "always" or roll.random() < 0.5
    api.add(250, status="success", age=900)
    await all_of(api, api.add(60))
    holds(api)


async def test_a_list_that_grows_meanwhile_loses_nobody(api):
    clips = api.add(60)

    async def finish():
        ends = {}
        for each in clips:
            api.add(12, status="queued", age=0)
            await asyncio.sleep(0.01)
            api.finish(each)
            ends[each] = "success"
        return ends

    await all_of(api, clips, finish=finish)
    holds(api)


async def test_smaller_pages_than_were_asked_for_lose_nobody(api):
    api.largest_page = 20
    await all_of(api, api.add(100))


@pytest.mark.parametrize(("waiting", "retry_after"), [(1, "1"), (60, "1"), (60, None)])
async def test_a_storm_of_429_is_waited_out(api, waiting, retry_after):
    clips = api.add(waiting)
    began = time.monotonic()
    headers = {"Retry-After": retry_after} if retry_after else {}
    api.bend = lambda _: web.Response(status=429, headers=headers) if time.monotonic() - began < 1.0 else None
    await all_of(api, clips)
    holds(api)
    # What is asked for while the API asks for silence is no more than what was under way.
    assert sum(at - began < 0.8 for at, _ in api.seen) <= (16 if retry_after else 24)


async def test_a_server_that_is_down_for_a_while_loses_nobody_and_is_not_hammered(api):
    clips = api.add(60)
    began = time.monotonic()
    api.bend = lambda request: reset(request) if time.monotonic() - began < 1.0 else None
    await all_of(api, clips)
    assert sum(at - began < 1.0 for at, _ in api.seen) < 30


async def test_garbage_of_every_kind_is_waited_out(api, clips):
    roll = random.Random(7)
    kinds = [
        *FAILS.values(),
        lambda _: web.json_response({"request_id": "another", "status": "success"}),
        lambda _: web.json_response({"requests": "none"}),
        lambda _: web.json_response([]),
        lambda _: web.json_response({"request_id": clips[0], "status": 7}),
        lambda _: web.Response(
            text='{"request_id": "r1", "status": "processing", "created_at": NaN, "updated_at": 1e400}'
        ),
        lambda _: web.Response(body=b"\xff" * 100, content_type="application/json"),
    ]
    api.bend = lambda request: roll.choice(kinds)(request) if roll.random() < 0.4 else None
    await all_of(api, clips)
    holds(api)


async def test_times_that_make_no_sense_hurt_nobody(api):
    clips = api.add(40)
    for number, clip in enumerate(api.clips.values()):
        clip.created_at = [0, -5e9, time.time() * 1000, time.time() + 4000][number % 4]
        clip.updated_at = clip.created_at + 1e7
    await all_of(api, clips)


async def test_a_request_of_the_web_console_is_found_in_the_list(api):
    (one,) = api.add(1)
    api.clips[one].by_id = False
    api.add(30, status="success")
    await all_of(api, [one])


async def test_a_request_that_the_list_does_not_have_is_asked_for_by_its_id(api):
    clips = api.add(30)
    for each in clips[:3]:
        api.clips[each].listed = False
    await all_of(api, clips)


async def test_a_request_that_nobody_knows_is_an_error_and_the_others_wait_on(api):
    connect = connector(api)
    clips = api.add(5)
    nobody = asyncio.create_task(wait_for(connect, "nobody", patience=0.4))
    await all_of(api, clips, connect)
    assert (await nobody).verdict.end == "error"


async def test_a_server_that_answers_after_30_seconds_is_heard(api, monkeypatch):
    # In the 30th part of the time: the answer takes 1 s, of the 4 that are waited for it.
    monkeypatch.setattr(aio, "PATIENCE", aio.PATIENCE / 30)
    clips = api.add(40)
    api.bend = lambda _: asyncio.sleep(1)
    for each in clips:
        api.finish(each)

    async def ends():
        return dict.fromkeys(clips, "success")

    await all_of(api, clips, finish=ends)
    holds(api)


async def test_a_refused_key_is_read_anew_once_and_all_wait_on(api, monkeypatch):
    monkeypatch.setattr(hub_module, "REFRESH_SECONDS", 0.0)
    clips = api.add(60)
    connect = connector(api, "old", KEY)
    await all_of(api, clips, connect)
    assert len(connect.made) == 2


async def test_a_key_that_stays_refused_stops_all_with_one_clear_error(api, caplog):
    clips = api.add(60)
    connect = connector(api, "wrong")
    ended = await asyncio.gather(*(wait_for(connect, each) for each in clips))
    assert {each.verdict.end for each in ended} == {"error"}
    assert all("API key" in each.verdict.message for each in ended)
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert len(api.seen) <= 16


async def test_one_who_leaves_takes_nobody_along(api):
    connect = connector(api)
    clips = api.add(20)
    leaving = asyncio.create_task(wait_for(connect, clips[0]))
    staying = asyncio.create_task(wait_for(connect, clips[1]))
    await asyncio.sleep(0.3)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    api.finish(clips[1])
    assert (await staying).verdict.end == "success"
    assert connect.made[0]._transport._session is None


async def test_two_who_wait_for_the_same_request_are_both_told(api):
    connect = connector(api)
    (one,) = api.add(1)
    first = asyncio.create_task(wait_for(connect, one, seconds=0.5))
    second = asyncio.create_task(wait_for(connect, one))
    assert (await first).verdict.end == "timeout"
    api.finish(one)
    assert (await second).verdict.end == "success"


async def test_changes_are_told_once_each(api):
    (one,) = api.add(1, status="queued")
    told = []
    waiting = asyncio.create_task(wait_for(connector(api), one, poll=0.02, told=told))
    async with asyncio.timeout(30):
        for heard, then in (("queued", "processing"), ("processing", "success")):
            while heard not in told:
                await asyncio.sleep(0.01)
            api.finish(one, then)
        await waiting
    assert told == ["queued", "processing", "success"]


async def test_each_is_told_in_its_own_context_so_that_logs_are_not_mixed_up(api):
    who = ContextVar("who")
    told = {}
    connect = connector(api)

    async def waits(request_id):
        who.set(request_id)
        async with shared_hub("c", connect) as hub:
            now = time.time()
            await hub.wait(Wait(request_id, now + 30, now, POLL), lambda status: told.setdefault(request_id, who.get()))

    clips = api.add(20, status="success")
    await asyncio.gather(*(waits(each) for each in clips))
    assert told == {each: each for each in clips}


async def test_ends_at_the_end_time_even_where_nobody_answers(api, monkeypatch):
    monkeypatch.setattr(hub_module, "LAST_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(hub_module, "IDLE_SECONDS", 0.1)
    clips = api.add(30)
    api.bend = reset
    connect = connector(api)
    ended = await asyncio.gather(*(wait_for(connect, each, seconds=0.5) for each in clips))
    assert {each.verdict.end for each in ended} == {"timeout"}
