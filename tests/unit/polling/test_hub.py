# SPDX-License-Identifier: Apache-2.0
"""The hub over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import WanAuthError
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling.decision import PollTarget, WaitStatus
from airflow_provider_wan.polling.hub import shared_hub


class Api:
    """Answer polls, and count connections and the keys they used."""

    url: str

    def __init__(self) -> None:
        self.polls: list[float] = []
        self.connections: set[int] = set()
        self.good_key = "key-1"

    async def answer(self, request: web.Request) -> web.Response:
        self.polls.append(time.monotonic())
        self.connections.add(id(request.transport))
        if request.headers["Authorization"] != f"Bearer {self.good_key}":
            return web.json_response({"error": "no"}, status=401)
        return web.json_response({"request_id": request.match_info["id"], "status": "queued"})


@pytest.fixture
async def api() -> AsyncIterator[Any]:
    served: Any = Api()
    app = web.Application()
    app.router.add_get("/requests/{id}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site: Any = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield served
    await runner.cleanup()


def connector(api: Any, keys: Any, rate: float = 1000.0) -> Any:
    made: list[Any] = []

    async def connect() -> Any:
        await asyncio.sleep(0)
        client = AsyncWanClient(
            WanConfig(api_key=keys[min(len(made), len(keys) - 1)], base_url=api.url, status_requests_per_second=rate)
        )
        made.append(client)
        return client

    return connect, made


async def test_all_that_wait_share_one_connection_lookup_and_one_session(api: Any) -> None:
    connect, made = connector(api, ["key-1"])

    async def wait(request_id: Any) -> Any:
        async with shared_hub("c", connect) as hub:
            return await hub.get_request(request_id)

    records = await asyncio.gather(*(wait(f"r{n}") for n in range(50)))
    assert [record.request_id for record in records] == [f"r{n}" for n in range(50)]
    assert len(made) == 1


async def test_the_last_one_out_closes_the_session_and_the_next_one_opens_another(api: Any) -> None:
    connect, made = connector(api, ["key-1"])
    async with shared_hub("c", connect) as hub:
        async with shared_hub("c", connect) as same:
            assert same is hub
            await hub.get_request("r1")
        assert made[0]._transport._session is not None
    assert made[0]._transport._session is None
    async with shared_hub("c", connect) as another:
        assert another is not hub
        await another.get_request("r1")
    assert len(made) == 2


async def test_connections_of_different_ids_are_kept_apart(api: Any) -> None:
    connect, _ = connector(api, ["key-1"])
    async with shared_hub("a", connect) as a, shared_hub("b", connect) as b:
        assert a is not b


async def test_the_rate_of_the_connection_holds_for_all_together(api: Any) -> None:
    connect, _ = connector(api, ["key-1"], rate=50.0)
    async with shared_hub("c", connect) as hub:
        await asyncio.gather(*(hub.get_request(f"r{n}") for n in range(20)))
    # 20 polls at 50 per second take at least 19 intervals; being late does not violate the rate.
    assert api.polls[-1] - api.polls[0] >= 19 / 50 * 0.9


async def test_a_rejected_key_makes_it_read_the_connection_anew_once_it_is_a_minute_old(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "CONNECTION_REFRESH_SECONDS", 0.0)
    connect, made = connector(api, ["revoked-key", "key-1"])
    async with shared_hub("c", connect) as hub:
        assert (await hub.get_request("r1")).request_id == "r1"
    assert len(made) == 2
    assert made[0]._transport._session is None


async def test_a_rejected_key_of_a_fresh_connection_is_an_error_at_once(api: Any) -> None:
    connect, made = connector(api, ["revoked-key"])
    async with shared_hub("c", connect) as hub:
        with pytest.raises(WanAuthError):
            await hub.get_request("r1")
    assert len(made) == 1


async def test_the_hub_of_a_loop_that_is_gone_is_not_handed_to_another(api: Any) -> None:
    connect, _ = connector(api, ["key-1"])
    hubs = []

    async def enter() -> None:
        async with shared_hub("c", connect) as hub:
            hubs.append(hub)

    await enter()
    await asyncio.to_thread(lambda: asyncio.run(enter()))
    assert hubs[0] is not hubs[1]


async def test_the_list_is_read_by_the_models_that_are_waited_for() -> None:
    listed: list[str] = []

    async def answer_list(request: web.Request) -> web.Response:
        model = request.query["model_id"]
        listed.append(model)
        found = [{"request_id": f"{model}-{number}", "status": "success", "model": model} for number in range(5)]
        for record in found:
            record["outcome"] = {"media_urls": ["https://files.example.com/a.mp4"]}  # type: ignore[assignment]
        return web.json_response({"requests": found})

    app = web.Application()
    app.router.add_get("/requests", answer_list)
    runner = web.AppRunner(app)
    await runner.setup()
    site: Any = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def connect() -> AsyncWanClient:
        return AsyncWanClient(WanConfig(api_key="key-1", base_url=url, status_requests_per_second=1000.0))

    def target(model: str | None, number: int) -> PollTarget:
        name = f"{model or 'wan2.6-i2v'}-{number}"
        return PollTarget(name, time.time() + 20, not_before=0.0, poll_interval=0.05, model=model)

    async with shared_hub("list-by-model", connect) as hub:
        targets = [target(model, number) for model in (None, "wan2.7-i2v", "veo3") for number in range(5)]
        outcomes = await asyncio.gather(*(hub.wait(each, lambda _: None) for each in targets))
    await runner.cleanup()
    assert {outcome.decision.status for outcome in outcomes} == {WaitStatus.SUCCESS}
    assert sorted(listed) == ["veo3", "wan2.6-i2v", "wan2.7-i2v"]
