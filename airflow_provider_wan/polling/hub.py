# SPDX-License-Identifier: Apache-2.0
"""
One hub per process and connection: all that wait share its session, its connection and its rate.

The hub knows nothing of Airflow: how to load the configuration is handed to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_wan.api.errors import WanAuthError

if TYPE_CHECKING:
    from airflow_provider_wan.api.aio import AsyncWanClient
    from airflow_provider_wan.api.record import RequestRecord

# How old a connection must be to be worth another look after a refused key.
REFRESH_SECONDS = 60.0

ClientFactory = Callable[[], Awaitable["AsyncWanClient"]]


class Hub:
    """
    The shared look-ups of one connection in one event loop.

    :param connect: makes a client from the connection as it is now; called once, and again after a
        refused key where the client is over a minute old.
    """

    def __init__(self, connect: ClientFactory) -> None:
        self._connect = connect
        self._client: AsyncWanClient | None = None
        self._made_at = 0.0
        self._connecting = asyncio.Lock()
        self._next_slot = 0.0
        self.users = 0

    async def look_up(self, request_id: str) -> RequestRecord:
        """
        Look up one request, within the connection's rate.

        :raises WanError: as :meth:`AsyncWanClient.get_request`.
        """
        client = await self._current()
        await self._slot(client.config.status_requests_per_second)
        try:
            return await client.get_request(request_id)
        except WanAuthError:
            fresh = await self._renewed(client)
            if fresh is client:
                raise
            await self._slot(fresh.config.status_requests_per_second)
            return await fresh.get_request(request_id)

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once. :return: whether the API took the call."""
        return await (await self._current()).cancel(request_id)

    async def close(self) -> None:
        """Close the session."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _current(self) -> AsyncWanClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
                self._made_at = time.monotonic()
            return self._client

    async def _renewed(self, refused: AsyncWanClient) -> AsyncWanClient:
        async with self._connecting:
            if self._client is refused and time.monotonic() - self._made_at >= REFRESH_SECONDS:
                self._client = await self._connect()
                self._made_at = time.monotonic()
                await refused.close()
            return self._client or refused

    async def _slot(self, per_second: float) -> None:
        now = time.monotonic()
        mine = max(now, self._next_slot)
        self._next_slot = mine + 1.0 / per_second
        if mine > now:
            await asyncio.sleep(mine - now)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Hub]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_hub(key: Hashable, connect: ClientFactory) -> AsyncIterator[Hub]:
    """Enter the running loop's hub of a connection; the last one out closes its session."""
    hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
    hub = hubs.get(key)
    if hub is None:
        hub = hubs[key] = Hub(connect)
    hub.users += 1
    try:
        yield hub
    finally:
        hub.users -= 1
        if hub.users == 0:
            if hubs.get(key) is hub:
                del hubs[key]
            await hub.close()
