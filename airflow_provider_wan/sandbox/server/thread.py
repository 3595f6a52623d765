# SPDX-License-Identifier: Apache-2.0
"""A sandbox in a thread of its own, for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.server.app import SandboxApp

T = TypeVar("T")


class SandboxServer:
    """A running sandbox: a context manager, or :meth:`start` and :meth:`stop`.

    :param config: behaviour; default: :class:`SandboxConfig`.
    :param host: address to listen on.
    :param port: port of the API; 0 picks a free port.
    :param result_port: port of the result host; 0 picks a free port.
    :param public_host: host name in generated URLs; default: ``host``.
    :param data_dir: folder for clips; default: a temporary folder.
    :param state: file that persists requests, journal and charges; default: none.
    :param options: fields of :class:`SandboxConfig` to change, such as ``speed=60``.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        result_port: int = 0,
        public_host: str | None = None,
        data_dir: Path | None = None,
        state: Path | None = None,
        **options: Any,
    ) -> None:
        self.config = replace(config or SandboxConfig(), **options)
        self._app = SandboxApp(
            self.config,
            host=host,
            port=port,
            result_port=result_port,
            public_host=public_host,
            data_dir=data_dir,
            state=state,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start listening, and return when calls can be served.

        :raises OSError: if a port is in use.
        :raises MissingDependencyError: if clips are to be rendered and a package is not installed.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="wan-sandbox", daemon=True)
        thread.start()
        self._loop, self._thread = loop, thread
        try:
            asyncio.run_coroutine_threadsafe(self._app.start(), loop).result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the sandbox; a second call has no effect."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(self._app.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    @property
    def base_url(self) -> str:
        """Base URL of the API, for a connection."""
        return self._app.base_url

    @property
    def admin_url(self) -> str:
        """URL of the admin API."""
        return f"{self._app.api_root}/admin"

    @property
    def result_url(self) -> str:
        """Base URL of results and uploads."""
        return self._app.result_base

    @property
    def api_key(self) -> str:
        """The accepted API key."""
        return self.config.api_key

    def journal(self) -> list[dict[str, Any]]:
        """Return every call, oldest first (see :class:`~airflow_provider_wan.sandbox.journal.CallRecord`)."""
        return self.call(lambda core: core.journal.list_calls())

    def counters(self) -> dict[str, Any]:
        """Return the counters of the journal."""
        return self.call(lambda core: core.journal.summary())

    def accepted(self) -> list[dict[str, Any]]:
        """Return every accepted request, whatever its client was answered, oldest first."""
        return self.call(lambda core: core.journal.list_accepted())

    def charges(self) -> list[dict[str, Any]]:
        """Return every charge, oldest first."""
        return self.call(lambda core: core.journal.list_charges())

    def inject(self, fault: Fault | str, count: int | None = 1, match: Mapping[str, Any] | None = None) -> None:
        """Inject a fault into the next matching calls (see ``AdminHandler.inject``)."""
        self.call(lambda core: core.admin.inject(str(fault), count, match))

    def finish(self, request_id: str, status: str = "success", reason: object = None) -> None:
        """Set the status of a request (success: as soon as its clip is rendered)."""

        def force(core: SandboxCore) -> None:
            job = core.jobs.get(request_id)
            if job is None:
                raise KeyError(request_id)
            core.admin.force(job, status, reason)

        self.call(force)

    def call(self, action: Callable[[SandboxCore], T]) -> T:
        """Call ``action`` with the core in the thread of the server."""
        if self._loop is None:
            raise RuntimeError("the sandbox is not running: use it within its context, or call start()")

        async def run() -> T:
            self._app.core.tick()
            return action(self._app.core)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
