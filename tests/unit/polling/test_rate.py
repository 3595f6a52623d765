# SPDX-License-Identifier: Apache-2.0
"""Never more status requests than the configured rate, in any stretch of a second, whoever makes them."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from airflow_provider_wan.api.aio import AsyncWanClient
from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.wire import HttpAnswer
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.schedule import Wait
from airflow_provider_wan.polling.turns import Turns, turns_of
from dev.testkit.api_server import KEY, ApiServer

START = 1_800_000_000.0


def test_turns_are_evenly_apart_however_late_they_are_taken():
    roll = random.Random(1)
    turns, now, begun = Turns(), START, []
    while len(begun) < 500:
        if (wait := turns.take(now, 5.0)) == 0.0:
            begun.append(now)
            # A loop that is held up, or has nothing to do for a while, saves nothing up.
            now += roll.choice([0.0, 0.0, 0.0, 0.5, 7.0])
        else:
            now += wait + roll.choice([0.0, 0.0, 0.001, 0.3])
    assert min(after - before for before, after in pairwise(begun)) >= 1 / 5


def test_turns_come_as_often_as_the_rate_allows():
    turns, now, begun = Turns(), START, []
    while now < START + 100:
        wait = turns.take(now, 5.0)
        begun += [now] if wait == 0.0 else []
        now += wait
    assert len(begun) > 470


class Clock(asyncio.SelectorEventLoop):
    """An event loop that skips what it would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self._clock_resolution = 1e-5
        self._real, self._selector = self._selector, self

    def time(self) -> float:
        return self.now

    def select(self, timeout):
        self.now += max(0.0, timeout)
        return self._real.select(0)

    def register(self, *args):
        return self._real.register(*args)

    def get_map(self):
        return self._real.get_map()

    def unregister(self, *args):
        return self._real.unregister(*args)

    def close(self) -> None:
        self._selector = self._real
        super().close()


class Service:
    """Answers at once, and notes when it was asked; a fresh client's key is refused at first."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.begun: list[float] = []
        self.refuses = False

    async def send(self, call):
        self.begun.append(self.clock.now)
        await asyncio.sleep(random.choice([0.01, 0.1, 3.0]))
        if self.refuses:
            return HttpAnswer(401, {}, b"{}")
        told = {"status": "processing", "created_at": START, "updated_at": START}
        if call.params:
            first, count = int(call.params["offset"]), int(call.params["limit"])
            rows = [{"request_id": f"r{n}", **told} for n in range(first, min(3000, first + count))]
            return HttpAnswer(200, {}, json.dumps({"requests": rows, "total": 3000}).encode())
        return HttpAnswer(200, {}, json.dumps({"request_id": call.url.rsplit("/", 1)[1], **told}).encode())

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("waiting", [4, 300])
def test_by_the_clock_of_the_loop_no_two_requests_begin_nearer_than_the_rate_allows(monkeypatch, waiting):
    clock = Clock()
    service = Service(clock)
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(time=clock.time, monotonic=clock.time))
    config = WanConfig(api_key=KEY, base_url="http://api.invalid", status_requests_per_second=5.0)

    async def connect():
        service.refuses = False
        return AsyncWanClient(config, service)

    async def wait(number):
        await asyncio.sleep(random.random() * 60)
        async with shared_hub("c", connect) as hub:
            await hub.wait(Wait(f"r{number}", clock.now + 300, clock.now, 2.0), lambda _: None)

    async def ask():
        for number in range(60):
            await asyncio.sleep(random.random() * 3)
            async with shared_hub("c", connect) as hub:
                await asyncio.gather(
                    hub.list_page(100, 0), *(hub.look_up(f"r{n}") for n in range(3)), return_exceptions=True
                )
            service.refuses = number % 20 == 19

    async def all_at_once():
        await asyncio.gather(*(wait(number) for number in range(waiting)), ask(), ask())

    try:
        clock.run_until_complete(all_at_once())
    finally:
        clock.close()
    assert len(service.begun) > 400
    assert min(after - before for before, after in pairwise(sorted(service.begun))) >= 1 / 5


async def test_at_the_server_the_rate_holds_for_loops_threads_and_hubs_together(monkeypatch):
    monkeypatch.setattr(hub_module, "REFRESH_SECONDS", 0.0)
    rate = 40.0
    until = time.monotonic() + 2.0
    async with ApiServer().serve() as api:
        clips = api.add(150)
        keys = ["old"]

        async def connect():
            key = keys.pop() if keys else KEY
            return AsyncWanClient(WanConfig(api_key=key, base_url=api.url, status_requests_per_second=rate))

        async def waits(request_id):
            now = time.time()
            async with shared_hub("c", connect) as hub:
                await hub.wait(Wait(request_id, now + 2.0, now, 0.1), lambda _: None)

        async def asks():
            while time.monotonic() < until:
                async with shared_hub("c", connect) as hub:
                    await asyncio.gather(hub.list_page(100, 0), hub.look_up(clips[0]), return_exceptions=True)

        def worker():
            asyncio.run(asks())

        def synchronous():
            config = WanConfig(api_key=KEY, base_url=api.url)
            client = WanClient(config, turn=lambda: turns_of("c").take(time.monotonic(), rate))
            while time.monotonic() < until:
                client.get_request(clips[1])
                time.sleep(0.1)
            client.close()

        monkeypatch.setattr(hub_module, "LAST_LOOK_SECONDS", 0.0)
        threads = [threading.Thread(target=each) for each in (worker, synchronous)]
        for thread in threads:
            thread.start()
        try:
            await asyncio.gather(*(waits(each) for each in clips), asks(), return_exceptions=True)
        finally:
            for thread in threads:
                await asyncio.to_thread(thread.join)
    assert min(api.pages, api.singles) > 10
    # What is held up on its way, by up to 0.15 s on a busy machine, arrives that much closer to the next ones.
    assert api.most_within(0.9) <= rate
