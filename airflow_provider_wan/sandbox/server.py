# SPDX-License-Identifier: Apache-2.0
"""A sandbox in a thread of its own, for tests and harnesses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from airflow_provider_wan.sandbox.app import SandboxApp
from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.faults import Fault

T = TypeVar("T")


class SandboxServer:
    """Runs a sandbox; a context manager, or :meth:`start` and :meth:`stop`.

    :param config: how it behaves; default: :class:`SandboxConfig`.
    :param host: address to listen on.
    :param port: port of the API; 0 finds a free one.
    :param result_port: port of the result host; 0 finds a free one.
    :param public_host: host name in the URLs that are given out; default: ``host``.
    :param data_dir: where clips lie; default: a folder that goes when the sandbox does.
    :param state: file that keeps requests, journal and charges; default: none.
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
        """Listen; returns when calls are answered.

        :raises OSError: when a port is taken.
        :raises MissingDependencyError: when clips are to be made and a package is not installed.
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
        """Close; a second time does nothing."""
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
        """What a client's connection is given."""
        return self._app.base_url

    @property
    def admin_url(self) -> str:
        """Address of the controls."""
        return f"{self._app.api_root}/admin"

    @property
    def result_url(self) -> str:
        """Address of the host of results and uploads."""
        return self._app.result_base

    @property
    def api_key(self) -> str:
        """The one key that is let in."""
        return self.config.api_key

    def journal(self) -> list[dict[str, Any]]:
        """Every call, oldest first (see :class:`~airflow_provider_wan.sandbox.journal.Call`)."""
        return self.call(lambda core: core.journal.tell_calls())

    def counters(self) -> dict[str, Any]:
        """Figures of the journal."""
        return self.call(lambda core: core.journal.summary())

    def accepted(self) -> list[dict[str, Any]]:
        """Every request that was taken in, whatever its submitter was told, oldest first."""
        return self.call(lambda core: core.journal.tell_accepted())

    def charges(self) -> list[dict[str, Any]]:
        """Every payment, oldest first."""
        return self.call(lambda core: core.journal.tell_charges())

    def inject(self, fault: Fault | str, count: int | None = 1, match: Mapping[str, Any] | None = None) -> None:
        """Make a fault strike the next matching calls (see :meth:`Admin.inject`)."""
        self.call(lambda core: core.admin.inject(str(fault), count, match))

    def finish(self, request_id: str, status: str = "success", reason: object = None) -> None:
        """Bring a request to a status at once (a success as soon as its clip is made)."""

        def force(core: SandboxCore) -> None:
            job = core.jobs.get(request_id)
            if job is None:
                raise KeyError(request_id)
            core.admin.force(job, status, reason)

        self.call(force)

    def call(self, action: Callable[[SandboxCore], T]) -> T:
        """Do something with the core, in the server's thread."""
        if self._loop is None:
            raise RuntimeError("the sandbox is not running: use it within its context, or call start()")

        async def run() -> T:
            self._app.core.tick()
            return action(self._app.core)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
