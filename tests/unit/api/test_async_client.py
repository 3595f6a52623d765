# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.config import WanConfig
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer

KEY = "key-0123456789abcdef"


@asynccontextmanager
async def build_client(url: Any) -> AsyncIterator[Any]:
    client = AsyncWanClient(WanConfig(api_key=KEY, base_url=url, organization_id="org-7"))
    try:
        yield client
    finally:
        await client.close()


async def test_a_lookup_carries_the_key_and_reads_the_request() -> None:
    with WireServer([wire.answers(200, {"request_id": "r1", "status": "processing"})]) as server:
        async with build_client(server.url) as client:
            assert (await client.get_request("r1")).status == "processing"
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.seen[0].headers["x-organization-id"] == "org-7"


@pytest.mark.parametrize(
    "death",
    [wire.reset_after_request, wire.half_a_head, wire.half_a_body, wire.no_http, wire.broken_gzip, wire.broken_chunks],
    ids=lambda death: getattr(death, "__name__", "?"),
)
async def test_a_lookup_that_dies_is_reported(death: Any) -> None:
    with WireServer([death]) as server:
        async with build_client(server.url) as client:
            with pytest.raises(errors.WanLookupError):
                await client.get_request("r1")


async def test_a_server_that_is_away_is_a_failed_lookup() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with build_client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(errors.WanLookupError):
            await client.get_request("r1")


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    with WireServer([wire.ACCEPTED]) as other:
        with WireServer([wire.answers(302, {}, f"Location: {other.url}")]) as server:
            async with build_client(server.url) as client:
                with pytest.raises(errors.WanBadRequestError):
                    await client.get_request("r1")
        assert other.seen == []


async def test_credentials_of_a_netrc_file_do_not_get_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with WireServer([wire.ACCEPTED]) as server:
        async with build_client(server.url) as client:
            await client.get_request("r1")
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


async def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with WireServer([wire.ACCEPTED]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/api"))
        async with build_client("http://api.example.com/queue") as client:
            assert (await client.get_request("r1")).request_id == "r1"
    assert proxy.seen[0].head.startswith("GET http://api.example.com/queue/requests/r1 ")


async def test_pages_and_cancellations_are_asked_for_as_by_the_other_client() -> None:
    with WireServer([wire.answers(200, {"requests": []}), wire.answers(202, {})]) as server:
        async with build_client(server.url) as client:
            assert (await client.list_requests(limit=2)).size == 0
            assert await client.cancel("r1") is True
    assert server.seen[0].head.startswith("GET /api/requests?model_id=wan2.6-i2v&limit=2&offset=0 ")
    assert server.seen[1].head.startswith("DELETE /api/requests/r1 ")
