# SPDX-License-Identifier: Apache-2.0
"""The sandbox on two sockets of one event loop: the API with its admin calls, and the host of results."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from airflow_provider_wan.sandbox import responses
from airflow_provider_wan.sandbox.blob_store import FolderBlobStore
from airflow_provider_wan.sandbox.config import BASE_PATH, RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.job import RenderedFiles, RenderFailure
from airflow_provider_wan.sandbox.rendering.renderer import ThreadRenderer
from airflow_provider_wan.sandbox.server import transport
from airflow_provider_wan.sandbox.server.state_file import StateFile

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

    :param config: behaviour.
    :param host: address to listen on.
    :param port: port of the API; 0 picks a free port.
    :param result_port: port of the result host; 0 picks a free port.
    :param public_host: host name in generated URLs; default: ``host``.
    :param data_dir: folder for clips; default: next to ``state``, or a temporary folder.
    :param state: file that persists requests, journal and charges; default: none.
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
        """Base URL of the API, for a connection."""
        return self.api_root + BASE_PATH

    async def start(self) -> None:
        """Restore the state file and start listening."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        folder = self._data_dir
        if folder is None:
            holder = tempfile.TemporaryDirectory(prefix="wan-sandbox-", ignore_cleanup_errors=True)
            folder = Path(self._stack.enter_context(holder))
        blobs = FolderBlobStore(folder)
        self.core = SandboxCore(self._config, clock=time.time, blobs=blobs)
        if self._config.render is not RenderMode.NONE:
            renderer = ThreadRenderer(self._config, blobs, self._on_rendered)
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
        """Stop listening and close all connections."""
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
            page = responses.SandboxResponse(200, ROOT_PAGE % self.base_url.encode(), "text/html")
            return await transport.send(request, page, 0)
        if not path.startswith((BASE_PATH + "/", "/admin")):
            return await transport.send(request, responses.error(404, "not found"), 0)
        answer = self.core.handle(request.method, path, dict(request.query), request.headers, body)
        self._wake.set()
        if answer.wait_for is not None:
            await self._wait_until_ended(answer.wait_for)
            answer = self.core.build_submission_response(answer.wait_for)
        return await transport.send(request, answer, self.core.config.hang_seconds)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answer = self.core.handle_result(request.method, request.path, dict(request.query), request.headers, body)
        return await transport.send(request, answer, self.core.config.hang_seconds)

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

    async def _wait_until_ended(self, request_id: str) -> None:
        job = self.core.jobs.get(request_id)
        while job is not None and not job.status.ended:
            await self._moved.wait()

    def _on_rendered(self, request_id: str, render: RenderedFiles | RenderFailure) -> None:
        def deliver() -> None:
            self.core.complete_render(request_id, render)
            self._wake.set()

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(deliver)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
