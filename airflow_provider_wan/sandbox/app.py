# SPDX-License-Identifier: Apache-2.0
"""The sandbox on two sockets of one event loop: the API with its controls, and the host of results."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from airflow_provider_wan.sandbox import answers, wire
from airflow_provider_wan.sandbox.blobs import FolderBlobs
from airflow_provider_wan.sandbox.config import BASE_PATH, RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.job import Rendered, RenderFailed
from airflow_provider_wan.sandbox.render import ThreadRenderer
from airflow_provider_wan.sandbox.state import StateFile

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_BODY = 64 * 1024 * 1024
STEP = 0.02
ROOT_PAGE = b"""<!doctype html><html><head><title>wan sandbox</title></head><body>
<h1>This is the wan sandbox</h1>
<p>It stands in for the wan2.6-i2v request-queue API. Nothing here costs money; no model made these clips.</p>
<p>API: <code>%s</code> &middot; controls: <a href="/admin/">/admin/</a></p></body></html>
"""


class SandboxApp:
    """One sandbox, running in the current event loop.

    :param config: how it behaves.
    :param host: address to listen on.
    :param port: port of the API; 0 finds a free one.
    :param result_port: port of the result host; 0 finds a free one.
    :param public_host: host name in the URLs that are given out; default: ``host``.
    :param data_dir: where clips lie; default: beside ``state``, or a folder that goes when the sandbox does.
    :param state: file that keeps requests, journal and charges; default: none.
    """

    def __init__(
        self,
        config: SandboxConfig,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        result_port: int = 0,
        public_host: str | None = None,
        data_dir: Path | None = None,
        state: Path | None = None,
    ) -> None:
        self._host, self._port, self._result_port = host, port, result_port
        self._public_host = public_host or host
        self._data_dir = data_dir or (state.with_name(state.name + ".files") if state else None)
        self._state = StateFile(state) if state else None
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self.api_root = ""
        self.result_base = ""
        self.core: SandboxCore

    @property
    def base_url(self) -> str:
        """What a client's connection is given."""
        return self.api_root + BASE_PATH

    async def start(self) -> None:
        """Listen, and take up what the state file holds."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        folder = self._data_dir
        if folder is None:
            holder = tempfile.TemporaryDirectory(prefix="wan-sandbox-", ignore_cleanup_errors=True)
            folder = Path(self._stack.enter_context(holder))
        blobs = FolderBlobs(folder)
        self.core = SandboxCore(self._config, clock=time.time, blobs=blobs)
        if self._config.render is not RenderMode.NONE:
            renderer = ThreadRenderer(self._config, blobs, self._rendered)
            self._stack.callback(renderer.close)
            self.core.renderer = renderer
        if self._state is not None:
            self.core.replay(self._state.read())
            self.core.sink = self._state.write
            self._stack.callback(self._close_state, self._state)
        result_port = await self._listen(self._result, self._result_port)
        self.result_base = self.core.result_base = f"http://{self._public_host}:{result_port}"
        other = "localhost" if self._public_host != "localhost" else "127.0.0.1"
        self.core.other_base = f"http://{other}:{result_port}"
        api_port = await self._listen(self._api, self._port)
        self.api_root = f"http://{self._public_host}:{api_port}"
        ticker = asyncio.create_task(self._tick())
        self._stack.push_async_callback(_cancel, ticker)

    async def stop(self) -> None:
        """Close everything; open connections are cut."""
        await self._stack.aclose()

    def _close_state(self, state: StateFile) -> None:
        self.core.sink = None
        state.close()

    async def _listen(self, handler: Handler, port: int) -> int:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._host, port).start()
        return int(runner.addresses[0][1])

    async def _api(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.path
        if path == "/":
            page = answers.Answer(200, ROOT_PAGE % self.base_url.encode(), "text/html")
            return await wire.send(request, page, 0)
        if not path.startswith((BASE_PATH + "/", "/admin")):
            return await wire.send(request, answers.error(404, "not found"), 0)
        answer = self.core.handle(request.method, path, dict(request.query), request.headers, body)
        self._wake.set()
        if answer.wait_for is not None:
            await self._ended(answer.wait_for)
            answer = self.core.submitted(answer.wait_for)
        return await wire.send(request, answer, self.core.config.hang_seconds)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answer = self.core.handle_result(request.method, request.path, dict(request.query), request.headers, body)
        return await wire.send(request, answer, self.core.config.hang_seconds)

    async def _tick(self) -> None:
        while True:
            wait = self.core.tick()
            self._moved.set()
            self._moved = asyncio.Event()
            self._wake.clear()
            # Not wait_for(): before Python 3.12 it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait is None else max(STEP, wait)):
                    await self._wake.wait()

    async def _ended(self, request_id: str) -> None:
        job = self.core.jobs.get(request_id)
        while job is not None and not job.status.ended:
            await self._moved.wait()

    def _rendered(self, request_id: str, render: Rendered | RenderFailed) -> None:
        def tell() -> None:
            self.core.rendered(request_id, render)
            self._wake.set()

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
