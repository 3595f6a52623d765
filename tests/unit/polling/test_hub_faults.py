# SPDX-License-Identifier: Apache-2.0
"""Faults of the API, over real sockets: no end of a request is lost or invented, and the rate holds."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, cast

import pytest
from aiohttp import web

from airflow_provider_wan.api import async_client, errors
from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling.decision import PollTarget
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.subscription import WaitOutcome
from dev.testkit.api_server import KEY, ApiServer, is_list, reset

RATE = 200.0
POLL = 0.05


@pytest.fixture
async def api() -> AsyncIterator[Any]:
    async with ApiServer().serve() as server:
        yield server


def connector(api: Any, *keys: Any, rate: Any = RATE) -> Any:
    made: list[Any] = []

    async def connect() -> Any:
        key = (keys or (KEY,))[min(len(made), len(keys or (KEY,)) - 1)]
        client = AsyncWanClient(WanConfig(api_key=key, base_url=api.url, status_requests_per_second=rate))
        made.append(client)
        return client

    cast(Any, connect).made = made
    return connect


async def wait_for(
    connect: Any, request_id: Any, *, seconds: float = 30.0, poll: Any = POLL, statuses: Any = None, **more: Any
) -> WaitOutcome:
    now = time.time()
    async with shared_hub("c", connect) as hub:
        return await hub.wait(
            PollTarget(request_id, now + seconds, now, poll, **more), (statuses if statuses is not None else []).append
        )


async def wait_all(api: Any, ids: Any, connect: Any = None, *, finish: Any = None, **more: Any) -> dict[str, str]:
    """Wait for all, and end them one by one meanwhile. :return: the reported status of each."""
    connect = connect or connector(api)
    waits = {each: asyncio.create_task(wait_for(connect, each, **more)) for each in ids}

    async def end() -> Any:
        ends = {}
        for each in random.Random(4).sample(list(ids), len(ids)):
            await asyncio.sleep(0.35 / len(ids))
            ends[each] = "failed" if int(each[1:]) % 3 == 0 else "success"
            # A wait that is done before its end would have reported an invented one.
            assert not waits[each].done()
            api.finish(each, ends[each])
        return ends

    ends = await (finish or end)()
    statuses = {each: (await task).decision.status.value for each, task in waits.items()}
    assert statuses == ends
    return statuses


def holds(api: Any, rate: Any = RATE) -> None:
    assert api.most_within(1.0) <= rate


@pytest.fixture(params=[1, 60])
def requests(api: Any, request: pytest.FixtureRequest) -> Any:
    api.add(20, status="success", age=900)
    return api.add(request.param)


async def test_every_end_is_reported_and_the_rate_holds(api: Any, requests: Any) -> None:
    await wait_all(api, requests)
    holds(api)


async def test_many_are_polled_by_pages_and_few_by_their_ids(api: Any) -> None:
    api.add(300, status="success", age=900)
    many = api.add(200)
    await wait_all(api, many)
    assert api.pages * 5 > api.singles
    assert len(api.seen) < 3 * len(many)
    api.seen.clear()
    (one,) = api.add(1)
    await wait_all(api, [one])
    assert api.pages == 0


async def test_a_list_that_is_taken_away_is_done_without(api: Any, requests: Any) -> None:
    api.bend = lambda request: web.json_response({"error": "not found"}, status=404) if is_list(request) else None
    await wait_all(api, requests)
    assert api.pages <= 2
    holds(api)


async def test_a_list_that_is_taken_away_midway_is_done_without(api: Any) -> None:
    requests = api.add(60)
    api.bend = lambda request: (
        web.Response(status=404)
        if is_list(request) and any(c.status != "processing" for c in api.clips.values())
        else None
    )
    await wait_all(api, requests)
    holds(api)


async def test_a_list_that_the_key_may_not_read_is_no_rejected_key(api: Any) -> None:
    requests = api.add(20)
    api.bend = lambda request: web.json_response({"error": "forbidden"}, status=403) if is_list(request) else None
    await wait_all(api, requests)


FAILS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "500": lambda _: web.Response(status=500),
    "garbage": lambda _: web.Response(text="<html>busy</html>", content_type="text/html"),
    "half a list": lambda _: web.json_response({"requests": [None, 7, {"request_id": "r3"}, {"status": "success"}]}),
    "a list of nothing": lambda _: web.json_response({"requests": [], "has_more": False}),
    "reset": reset,
}


@pytest.mark.parametrize("fails", FAILS)
async def test_half_of_the_pages_failing_hurts_nobody(api: Any, fails: Any) -> None:
    roll = random.Random(5)
    requests = api.add(60)
    api.bend = lambda request: FAILS[fails](request) if is_list(request) and roll.random() < 0.5 else None
    await wait_all(api, requests)
    holds(api)


@pytest.mark.parametrize("limiter", ["always", "now and then"])
@pytest.mark.parametrize("totals", [True, False])
async def test_a_list_in_the_reversed_order_is_understood(api: Any, limiter: str, totals: bool) -> None:
    roll = random.Random(6)
    api.totals = totals
    api.reverse = lambda: limiter == "always" or roll.random() < 0.5
    api.add(250, status="success", age=900)
    await wait_all(api, api.add(60))
    holds(api)


async def test_a_list_that_grows_meanwhile_loses_nobody(api: Any) -> None:
    requests = api.add(60)

    async def finish() -> Any:
        ends = {}
        for each in requests:
            api.add(12, status="queued", age=0)
            await asyncio.sleep(0.01)
            api.finish(each)
            ends[each] = "success"
        return ends

    await wait_all(api, requests, finish=finish)
    holds(api)


async def test_smaller_pages_than_were_asked_for_lose_nobody(api: Any) -> None:
    api.largest_page = 20
    await wait_all(api, api.add(100))


@pytest.mark.parametrize(("waiting", "retry_after"), [(1, "1"), (60, "1"), (60, None)])
async def test_a_storm_of_429_is_tolerated(api: Any, waiting: int, retry_after: str | None) -> None:
    requests = api.add(waiting)
    began = time.monotonic()
    headers = {"Retry-After": retry_after} if retry_after else {}
    api.bend = lambda _: web.Response(status=429, headers=headers) if time.monotonic() - began < 1.0 else None
    await wait_all(api, requests)
    holds(api)
    # Until Retry-After has passed, only the polls in flight arrive.
    assert sum(at - began < 0.8 for at, _ in api.seen) <= (16 if retry_after else 24)


async def test_a_server_that_is_down_for_a_while_loses_nobody_and_is_not_hammered(api: Any) -> None:
    requests = api.add(60)
    began = time.monotonic()
    api.bend = lambda request: reset(request) if time.monotonic() - began < 1.0 else None
    await wait_all(api, requests)
    assert sum(at - began < 1.0 for at, _ in api.seen) < 30


async def test_garbage_of_every_kind_is_tolerated(api: Any, requests: Any) -> None:
    roll = random.Random(7)
    kinds = [
        *FAILS.values(),
        lambda _: web.json_response({"request_id": "another", "status": "success"}),
        lambda _: web.json_response({"requests": "none"}),
        lambda _: web.json_response([]),
        lambda _: web.json_response({"request_id": requests[0], "status": 7}),
        lambda _: web.Response(
            text='{"request_id": "r1", "status": "processing", "created_at": NaN, "updated_at": 1e400}'
        ),
        lambda _: web.Response(body=b"\xff" * 100, content_type="application/json"),
    ]
    api.bend = lambda request: roll.choice(kinds)(request) if roll.random() < 0.4 else None
    await wait_all(api, requests)
    holds(api)


async def test_totals_that_make_no_sense_hurt_nobody(api: Any) -> None:
    requests = api.add(30)
    totals = itertools.cycle([30, 2**63 - 1, -1, 10**400])

    def add_total(request: Any) -> web.Response | None:
        if not is_list(request):
            return None
        other = {"request_id": "other", "status": "queued"}
        return web.json_response({"requests": [other], "total": next(totals), "has_more": True})

    api.bend = add_total
    await wait_all(api, requests)


async def test_times_that_make_no_sense_hurt_nobody(api: Any) -> None:
    requests = api.add(40)
    for number, request in enumerate(api.clips.values()):
        request.created_at = [0, -5e9, time.time() * 1000, time.time() + 4000][number % 4]
        request.updated_at = request.created_at + 1e7
    await wait_all(api, requests)


async def test_a_request_of_the_web_console_is_found_in_the_list(api: Any) -> None:
    (one,) = api.add(1)
    api.clips[one].by_id = False
    api.add(30, status="success")
    await wait_all(api, [one])


async def test_a_request_that_the_list_does_not_have_is_asked_for_by_its_id(api: Any) -> None:
    requests = api.add(30)
    for each in requests[:3]:
        api.clips[each].listed = False
    await wait_all(api, requests)


async def test_a_request_that_nobody_knows_is_an_error_and_the_others_wait_on(api: Any) -> None:
    connect = connector(api)
    requests = api.add(5)
    nobody = asyncio.create_task(wait_for(connect, "nobody", not_found_grace=0.4))
    await wait_all(api, requests, connect)
    assert (await nobody).decision.status == "error"


async def test_a_server_that_responses_after_30_seconds_is_heard(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # In the 30th part of the time: the answer takes 1 s, of the 4 that are waited for it.
    monkeypatch.setattr(async_client, "POLL_TIMEOUT", async_client.POLL_TIMEOUT / 30)
    requests = api.add(40)
    api.bend = lambda _: asyncio.sleep(1)
    for each in requests:
        api.finish(each)

    async def ends() -> Any:
        return dict.fromkeys(requests, "success")

    await wait_all(api, requests, finish=ends)
    holds(api)


async def test_a_rejected_key_is_read_anew_once_and_all_wait_on(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CONNECTION_REFRESH_SECONDS", 0.0)
    requests = api.add(60)
    connect = connector(api, "revoked-key", KEY)
    await wait_all(api, requests, connect)
    assert len(connect.made) == 2


async def test_a_key_that_stays_refused_is_waited_out_without_hammering(api: Any) -> None:
    requests = api.add(60)
    connect = connector(api, "revoked-key")
    ended = await asyncio.gather(*(wait_for(connect, each, seconds=2.0, poll=0.2) for each in requests))
    assert {each.decision.status for each in ended} == {"timeout"}
    assert any(isinstance(each.last_result, errors.WanAuthError) for each in ended)
    assert len(api.seen) <= 40


async def test_a_key_that_is_accepted_again_resumes_all(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = api.add(5)
    began = time.monotonic()
    api.bend = lambda _: web.json_response({"error": "no"}, status=401) if time.monotonic() - began < 1.0 else None
    await wait_all(api, requests)


REFUSALS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "302": lambda _: web.Response(status=302, headers={"Location": "https://login.example.com"}),
    "400": lambda _: web.json_response({"error": "bad"}, status=400),
    "401": lambda _: web.json_response({"error": "bad key"}, status=401),
    "402": lambda _: web.json_response({"error": "no credit"}, status=402),
    "403 of a firewall": lambda _: web.Response(status=403, text="<h1>Blocked</h1>", content_type="text/html"),
    "404": lambda _: web.json_response({"error": "not found"}, status=404),
    "410": lambda _: web.Response(status=410),
    "418": lambda _: web.Response(status=418),
    "a wrapped 500": lambda _: web.json_response({"error": "Backend error (400). Please try again."}, status=500),
    "an answer for another": lambda _: web.json_response(
        {"request_id": "another", "status": "success", "outcome": {"video_url": "https://x.example.com/other.mp4"}}
    ),
    "requests null": lambda _: web.json_response({"requests": None}),
}


@pytest.mark.parametrize("waiting", [1, 20])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_no_refusal_ends_the_wait_for_a_paid_request(api: Any, refusal: str, waiting: int) -> None:
    requests = api.add(waiting)
    began = time.monotonic()
    api.bend = lambda request: REFUSALS[refusal](request) if time.monotonic() - began < 0.8 else None
    await wait_all(api, requests)
    holds(api)


async def test_an_error_is_reported_once_per_kind_and_asked_about_ever_more_rarely(api: Any) -> None:
    (one,) = api.add(1)
    api.bend = REFUSALS["410"]
    reported: list[errors.WanError] = []
    async with shared_hub("c", connector(api)) as hub:
        now = time.time()
        outcome = await hub.wait(PollTarget(one, now + 3.0, now, POLL), lambda _: None, reported.append)
    assert outcome.decision.status == "timeout"
    assert len(reported) == 1
    assert len(api.seen) < 12


async def test_a_success_whose_file_is_named_later_is_waited_for(api: Any) -> None:
    (one,) = api.add(1, status="success")
    began = time.monotonic()
    early = {"request_id": one, "status": "success", "outcome": None}
    api.bend = lambda _: web.json_response(early) if time.monotonic() - began < 0.8 else None
    outcome = await wait_for(connector(api), one)
    assert outcome.decision.status == "success"
    assert outcome.last_result is not None
    assert time.monotonic() - began >= 0.8


async def test_a_list_that_never_moves_on_does_not_hide_what_a_poll_by_id_says(api: Any) -> None:
    requests = api.add(30)
    stuck = {"requests": [api.clips[each].to_json() for each in reversed(requests)], "total": 30, "has_more": False}
    api.bend = lambda request: web.json_response(stuck) if is_list(request) else None
    began = time.monotonic()
    await wait_all(api, requests)
    assert time.monotonic() - began < 10


async def test_a_wait_ends_at_its_deadline_whatever_the_peer_does(api: Any) -> None:
    """Silence, and a connection that can't be loaded."""
    (one,) = api.add(1)
    api.bend = lambda _: asyncio.sleep(60)
    began = time.monotonic()
    assert (await wait_for(connector(api), one, seconds=1.0)).decision.status == "timeout"
    assert time.monotonic() - began < 1.0 + 5.0

    async def never() -> Any:
        await asyncio.sleep(60)

    began = time.monotonic()
    async with shared_hub("never", never) as hub:
        now = time.time()
        outcome = await hub.wait(PollTarget(one, now + 1.0, now, POLL), lambda _: None)
    assert outcome.decision.status == "timeout"
    assert time.monotonic() - began < 1.0 + 5.0


async def test_a_year_of_retry_after_ends_with_the_deadline_and_is_not_believed(api: Any) -> None:
    (one,) = api.add(1)
    api.bend = lambda _: web.Response(status=429, headers={"Retry-After": "9999999"})
    began = time.monotonic()
    outcome = await wait_for(connector(api), one, seconds=1.0)
    assert outcome.decision.status == "timeout"
    assert time.monotonic() - began < 1.0 + 5.0
    assert isinstance(outcome.last_result, errors.WanRateLimitError)
    assert outcome.last_result.retry_after == 600.0


async def test_a_retry_after_of_nothing_does_not_become_a_poll_without_a_pause(api: Any) -> None:
    (one,) = api.add(1)
    api.bend = lambda _: web.Response(status=429, headers={"Retry-After": "0"})
    await wait_for(connector(api), one, seconds=2.0)
    assert len(api.seen) < 20


async def test_one_who_leaves_takes_nobody_along(api: Any) -> None:
    connect = connector(api)
    requests = api.add(20)
    leaving = asyncio.create_task(wait_for(connect, requests[0]))
    staying = asyncio.create_task(wait_for(connect, requests[1]))
    await asyncio.sleep(0.3)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    api.finish(requests[1])
    assert (await staying).decision.status == "success"
    assert connect.made[0]._transport._session is None


async def test_two_who_wait_for_the_same_request_are_both_reported(api: Any) -> None:
    connect = connector(api)
    (one,) = api.add(1)
    first = asyncio.create_task(wait_for(connect, one, seconds=0.5))
    second = asyncio.create_task(wait_for(connect, one))
    assert (await first).decision.status == "timeout"
    api.finish(one)
    assert (await second).decision.status == "success"


async def test_changes_are_reported_once_each(api: Any) -> None:
    (one,) = api.add(1, status="queued")
    statuses: list[Any] = []
    waiting = asyncio.create_task(wait_for(connector(api), one, poll=0.02, statuses=statuses))
    async with asyncio.timeout(30):
        for heard, then in (("queued", "processing"), ("processing", "success")):
            while heard not in statuses:
                await asyncio.sleep(0.01)
            api.finish(one, then)
        await waiting
    assert statuses == ["queued", "processing", "success"]


async def test_each_is_reported_in_its_own_context_so_that_logs_are_not_mixed_up(api: Any) -> None:
    who: Any = ContextVar("who")
    statuses: dict[Any, Any] = {}
    connect = connector(api)

    async def waits(request_id: Any) -> None:
        who.set(request_id)
        async with shared_hub("c", connect) as hub:
            now = time.time()
            await hub.wait(
                PollTarget(request_id, now + 30, now, POLL), lambda status: statuses.setdefault(request_id, who.get())
            )

    requests = api.add(20, status="success")
    await asyncio.gather(*(waits(each) for each in requests))
    assert statuses == {each: each for each in requests}


async def test_ends_at_the_end_time_even_if_nobody_responds(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LAST_POLL_GRACE", 0.3)
    monkeypatch.setattr(hub_module, "IDLE_SECONDS", 0.1)
    requests = api.add(30)
    api.bend = reset
    connect = connector(api)
    ended = await asyncio.gather(*(wait_for(connect, each, seconds=0.5) for each in requests))
    assert {each.decision.status for each in ended} == {"timeout"}
