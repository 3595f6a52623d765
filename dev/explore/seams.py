# SPDX-License-Identifier: Apache-2.0
"""
Where the real operator, hook and trigger touch the outside: their clock, ledger, transport, and Airflow.

:func:`seams` puts the process of the running thread behind each of them; nothing else of them is changed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import airflow_provider_wan.ledger as ledger
from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.wire import HttpRequest, HttpResponse
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import Submitter
from airflow_provider_wan.operators import memory
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.polling import here as here_module
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling import plan as plan_module
from airflow_provider_wan.polling import turns as turns_module
from airflow_provider_wan.triggers import hook as trigger_hook
from airflow_provider_wan.triggers import wan as trigger_module
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore.world import CONFIG, Process

Make = Callable[..., Submitter]

_running = threading.local()
_SILENT = logging.Logger("explore", level=logging.CRITICAL + 1)


def here() -> Process:
    """Return the process that this thread plays."""
    process: Process = _running.process
    return process


@contextmanager
def played_by(process: Process) -> Iterator[None]:
    """Play a process in this thread."""
    before = getattr(_running, "process", None)
    _running.process = process
    try:
        yield
    finally:
        _running.process = before


@contextmanager
def seams(make: Make) -> Iterator[None]:
    """Put the present process behind the operator's, hook's and trigger's seams."""
    clock = SimpleNamespace(
        time=lambda: here().clock(), monotonic=lambda: here().clock(), sleep=lambda seconds: here().sleep(seconds)
    )
    with ExitStack() as stack:
        for module in (operator_module, trigger_module, hub_module):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(memory, "open_ledger", lambda *_: here().store()))
        stack.enter_context(patch.object(WanHook, "client", property(lambda _: here().client())))
        stack.enter_context(patch.object(WanHook, "config", CONFIG))
        stack.enter_context(patch.object(WanHook, "_connect", _connect))
        stack.enter_context(patch.object(WanHook, "_connect_here", _connect))
        stack.enter_context(patch.object(here_module, "run_here", lambda wait: run_async(here(), wait())))
        # It looks every few minutes here: what is due by then need not be found out each second.
        stack.enter_context(patch.object(plan_module, "TICK", 100.0))
        # One history tells the next one nothing.
        stack.enter_context(patch.object(hub_module, "_durations", _Forgetful()))
        stack.enter_context(patch.object(turns_module, "_turns", _Forgetful()))
        stack.enter_context(patch.object(trigger_hook, "_imported", [True]))
        stack.enter_context(patch.object(WanI2VTrigger, "_was_killed", _was_killed))
        stack.enter_context(patch.object(ledger, "Submitter", _submission(make)))
        for kind in (WanI2VOperator, WanI2VTrigger):
            stack.enter_context(patch.object(kind, "log", _SILENT))
        stack.enter_context(patch.object(WanI2VTrigger, "logger", lambda *_: _SILENT))
        yield


def _submission(make: Make) -> Callable[..., Submitter]:
    def build(api: Any, store: Any) -> Submitter:
        process = here()
        rng = random.Random(process.world.nonce())
        return make(api, store, clock=process.clock, sleep=lambda seconds: process.sleep(seconds), rng=rng)

    return build


async def _connect(_: WanHook) -> AsyncWanClient:
    return AsyncWanClient(CONFIG, _AsyncTransport())


async def _was_killed(_: WanI2VTrigger) -> bool:
    return here().io("ask Airflow for the task's state", lambda: True, lambda _: RuntimeError("no answer"))


class _Forgetful(dict[Any, Any]):
    def setdefault(self, key: Any, default: Any = None) -> Any:
        return default


class _AsyncTransport:
    async def send(self, call: HttpRequest) -> HttpResponse:
        return here().transport().send(call)

    async def close(self) -> None:
        return None


class _Loop(asyncio.base_events.BaseEventLoop):
    """An event loop that has nothing to wait for but the process's clock."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._selector = self
        # Unix seconds as floats are no finer than a fraction of a microsecond.
        self._clock_resolution = 1e-3

    def time(self) -> float:
        return self._process.clock()

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise AssertionError("the trigger waits for something that never comes")
        if timeout > 0:
            self._process.sleep(timeout)
        return []

    def _process_events(self, events: list[Any]) -> None:
        return None

    def _write_to_self(self) -> None:
        return None


def run_async(process: Process, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine by the clock of a process."""
    loop = _Loop(process)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
