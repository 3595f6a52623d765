# SPDX-License-Identifier: Apache-2.0
"""The network between the services of the cluster: relays that hold back or delay what passes through them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

HERE = "127.0.0.1"
PIECE = 65_536


class Network:
    """Relays in a thread of this process, one for each service and each port of another service that it uses.

    While a service is cut off, its connections stay open and carry nothing, as when a cable is pulled; what was sent
    arrives afterwards, as TCP sends it again.

    :param routes: (client, server, port of the server in the compose file) → port that the client connects to.
    :param ports: (server, port of the server in the compose file) → port that the server listens on.
    """

    def __init__(self, routes: Mapping[tuple[str, str, int], int], ports: Mapping[tuple[str, int], int]) -> None:
        self._routes = routes
        self._ports = ports
        self._connected = {client: asyncio.Event() for client, _, _ in routes}
        self._delays: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        for client in self._connected:
            self.reconnect(client)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def cut_off(self, client: str) -> None:
        """Let nothing pass between a service and those that it uses."""
        self._loop.call_soon_threadsafe(self._connected[client].clear)

    def reconnect(self, client: str) -> None:
        """Let everything pass again."""
        self._loop.call_soon_threadsafe(self._connected[client].set)

    def slow_down(self, server: str, seconds: float) -> None:
        """Delay each piece of up to 64 KiB that a server sends. :param seconds: 0 for no delay."""
        self._delays[server] = seconds

    async def _listen(self) -> None:
        for (client, server, port), local in self._routes.items():

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                client: str = client,
                server: str = server,
                target: int = self._ports[server, port],
            ) -> None:
                await self._relay(client, server, target, reader, writer)

            await asyncio.start_server(serve, HERE, local)

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(
        self, client: str, server: str, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            await self._connected[client].wait()
            their_reader, their_writer = await asyncio.open_connection(HERE, target)
            with contextlib.closing(their_writer):
                await asyncio.gather(
                    self._copy(client, reader, their_writer, None), self._copy(client, their_reader, writer, server)
                )

    async def _copy(
        self, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str | None
    ) -> None:
        while piece := await reader.read(PIECE):
            await self._connected[client].wait()
            if delay := self._delays.get(server or "", 0.0):
                await asyncio.sleep(delay)
            writer.write(piece)
            await writer.drain()
        await self._connected[client].wait()
        writer.write_eof()
