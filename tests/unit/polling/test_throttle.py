# SPDX-License-Identifier: Apache-2.0
"""Status requests never exceed the configured rate in any second, whichever part sends them."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.wire import HttpResponse
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling.decision import PollTarget
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.throttle import RateLimiter, shared_rate_limiter
from dev.testkit.api_server import KEY, ApiServer

START = 1_800_000_000.0


def test_slots_are_evenly_apart_however_late_they_are_taken() -> None:
    roll = random.Random(1)
    limiter = RateLimiter()
    now = START
    begun: list[Any] = []
    while len(begun) < 500:
        if (wait := limiter.acquire(now, 5.0)) == 0.0:
            begun.append(now)
            # A loop that is delayed or idle accumulates no allowance.
            now += roll.choice([0.0, 0.0, 0.0, 0.5, 7.0])
        else:
            now += wait + roll.choice([0.0, 0.0, 0.001, 0.3])
    assert min(after - before for before, after in pairwise(begun)) >= 1 / 5


def test_slots_come_as_often_as_the_rate_allows() -> None:
    limiter, now, begun = RateLimiter(), START, []
    while now < START + 100:
        wait = limiter.acquire(now, 5.0)
        begun += [now] if wait == 0.0 else []
        now += wait
    assert len(begun) > 470


class Clock(asyncio.SelectorEventLoop):
    """An event loop that skips its waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self._clock_resolution = 1e-5
        loop: Any = self
        self._real, loop._selector = loop._selector, self

    def time(self) -> float:
        return self.now

    def select(self, timeout: Any) -> Any:
        self.now += max(0.0, timeout)
        return self._real.select(0)

    def register(self, *args: Any) -> Any:
        return self._real.register(*args)

    def get_map(self) -> Any:
        return self._real.get_map()

    def unregister(self, *args: Any) -> Any:
        return self._real.unregister(*args)

    def close(self) -> None:
        self._selector = self._real
        super().close()


class Service:
    """Answers at once, and records the time of each call; a new client's key is refused at first."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.begun: list[float] = []
        self.refuses = False

    async def send(self, call: Any) -> Any:
        self.begun.append(self.clock.now)
        await asyncio.sleep(random.choice([0.01, 0.1, 3.0]))
        if self.refuses:
            return HttpResponse(401, {}, b"{}")
        statuses = {"status": "processing", "created_at": START, "updated_at": START}
        if call.params:
            first, count = int(call.params["offset"]), int(call.params["limit"])
            rows = [{"request_id": f"r{n}", **statuses} for n in range(first, min(3000, first + count))]
            return HttpResponse(200, {}, json.dumps({"requests": rows, "total": 3000}).encode())
        return HttpResponse(200, {}, json.dumps({"request_id": call.url.rsplit("/", 1)[1], **statuses}).encode())

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("waiting", [4, 40])
def test_by_the_clock_of_the_loop_no_two_requests_begin_nearer_than_the_rate_allows(
    monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    clock = Clock()
    service = Service(clock)
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(time=clock.time, monotonic=clock.time))
    config = WanConfig(api_key=KEY, base_url="http://api.invalid", status_requests_per_second=5.0)

    async def connect() -> Any:
        service.refuses = False
        return AsyncWanClient(config, service)

    async def wait(number: Any) -> None:
        await asyncio.sleep(random.random() * 60)
        async with shared_hub("c", connect) as hub:
            await hub.wait(PollTarget(f"r{number}", clock.now + 300, clock.now, 2.0), lambda _: None)

    async def ask() -> None:
        for number in range(60):
            await asyncio.sleep(random.random() * 3)
            async with shared_hub("c", connect) as hub:
                await asyncio.gather(
                    hub.list_page(100, 0), *(hub.get_request(f"r{n}") for n in range(3)), return_exceptions=True
                )
            service.refuses = number % 20 == 19

    async def all_at_once() -> None:
        await asyncio.gather(*(wait(number) for number in range(waiting)), ask(), ask())

    try:
        clock.run_until_complete(all_at_once())
    finally:
        clock.close()
    assert len(service.begun) > 400
    assert min(after - before for before, after in pairwise(sorted(service.begun))) >= 1 / 5


async def test_at_the_server_the_rate_holds_for_loops_threads_and_hubs_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "CONNECTION_REFRESH_SECONDS", 0.0)
    rate = 40.0
    until = time.monotonic() + 2.0
    async with ApiServer().serve() as api:
        requests = api.add(150)
        keys = ["old"]

        async def connect() -> Any:
            key = keys.pop() if keys else KEY
            return AsyncWanClient(WanConfig(api_key=key, base_url=api.url, status_requests_per_second=rate))

        async def waits(request_id: Any) -> None:
            now = time.time()
            async with shared_hub("c", connect) as hub:
                await hub.wait(PollTarget(request_id, now + 2.0, now, 0.1), lambda _: None)

        async def asks() -> None:
            while time.monotonic() < until:
                async with shared_hub("c", connect) as hub:
                    await asyncio.gather(hub.list_page(100, 0), hub.get_request(requests[0]), return_exceptions=True)

        def worker() -> None:
            asyncio.run(asks())

        def synchronous() -> None:
            config = WanConfig(api_key=KEY, base_url=api.url)
            client = WanClient(config, acquire_slot=lambda: shared_rate_limiter("c").acquire(time.monotonic(), rate))
            while time.monotonic() < until:
                client.get_request(requests[1])
                time.sleep(0.1)
            client.close()

        monkeypatch.setattr(hub_module, "LAST_POLL_GRACE", 0.0)
        threads = [threading.Thread(target=each) for each in (worker, synchronous)]
        for thread in threads:
            thread.start()
        try:
            await asyncio.gather(*(waits(each) for each in requests), asks(), return_exceptions=True)
        finally:
            for thread in threads:
                await asyncio.to_thread(thread.join)
    assert min(api.pages, api.singles) > 10
    # What is held up on its way, by up to 0.15 s on a busy machine, arrives that much closer to the next ones.
    assert api.most_within(0.9) <= rate
