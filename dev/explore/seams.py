# SPDX-License-Identifier: Apache-2.0
"""
The seams at which the real operator, hook and trigger reach the outside: clock, ledger, transport and Airflow.

:func:`seams` replaces each seam by the process of the running thread; nothing else is changed.
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
from airflow_provider_wan.api import client as client_module
from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.wire import HttpRequest, HttpResponse
from airflow_provider_wan.hooks import wan as hook_module
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import Submitter
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.polling import hub as hub_module
from airflow_provider_wan.polling import scheduler as scheduler_module
from airflow_provider_wan.polling import throttle as throttle_module
from airflow_provider_wan.triggers import deferral as deferral_module
from airflow_provider_wan.triggers import hook_loader
from airflow_provider_wan.triggers import wan as trigger_module
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore.world import CONFIG, Process

Make = Callable[..., Submitter]

_running = threading.local()
_LOG = logging.getLogger("airflow_provider_wan.explored")


def current_process() -> Process:
    """Return the process that this thread plays."""
    process: Process = _running.process
    return process


class _WorldLog(logging.Handler):
    """Keeps what a process logs in its world."""

    def emit(self, record: logging.LogRecord) -> None:
        process = getattr(_running, "process", None)
        if process is not None:
            process.world.texts.append(self.format(record))


@contextmanager
def logs_collected() -> Iterator[None]:
    """Keep the provider's logs in the world of the process that writes them, and show them nowhere."""
    logger = logging.getLogger("airflow_provider_wan")
    before = logger.handlers, logger.level, logger.propagate
    # pytest's handlers, which keep all records, are taken away too.
    logger.handlers = [_WorldLog(logging.INFO)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.handlers = before[0]
        logger.setLevel(before[1])
        logger.propagate = before[2]


@contextmanager
def running_as(process: Process) -> Iterator[None]:
    """Run as a process in this thread."""
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
        time=lambda: current_process().clock(),
        monotonic=lambda: current_process().clock(),
        sleep=lambda seconds: current_process().sleep(seconds),
    )
    with ExitStack() as stack:
        stack.enter_context(logs_collected())
        for module in (operator_module, trigger_module, hub_module, deferral_module, client_module):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(ledger, "open_store", lambda *_, **__: current_process().store()))
        stack.enter_context(patch.object(WanHook, "client", property(lambda _: current_process().client())))
        stack.enter_context(patch.object(WanHook, "config", CONFIG))
        stack.enter_context(patch.object(WanHook, "_connect", _connect))
        stack.enter_context(patch.object(WanHook, "_connect_sync", _connect))
        stack.enter_context(patch.object(hook_module, "run_sync", lambda wait: run_async(current_process(), wait())))
        # Polls are minutes apart here, so that a history needs few steps.
        stack.enter_context(patch.object(scheduler_module, "TICK_SECONDS", 100.0))
        # Histories share no state.
        stack.enter_context(patch.object(hub_module, "_runtime_stats", _Forgetful()))
        stack.enter_context(patch.object(throttle_module, "_rate_limiters", _Forgetful()))
        stack.enter_context(patch.object(hook_loader, "_imported", [True]))
        stack.enter_context(patch.object(WanI2VTrigger, "_was_killed", _was_killed))
        stack.enter_context(patch.object(ledger, "Submitter", _submitter(make)))
        for kind in (WanI2VOperator, WanI2VTrigger):
            stack.enter_context(patch.object(kind, "log", _LOG))
        stack.enter_context(patch.object(WanI2VTrigger, "logger", lambda *_: _LOG))
        yield


def _submitter(make: Make) -> Callable[..., Submitter]:
    def build(api: Any, store: Any) -> Submitter:
        process = current_process()
        rng = random.Random(process.world.nonce())
        clock = process.clock
        return make(api, store, clock=clock, monotonic=clock, sleep=lambda seconds: process.sleep(seconds), rng=rng)

    return build


async def _connect(_: WanHook) -> AsyncWanClient:
    return AsyncWanClient(CONFIG, _AsyncTransport())


async def _was_killed(_: WanI2VTrigger) -> bool:
    return current_process().io("ask Airflow for the task's state", lambda: True, lambda _: RuntimeError("no answer"))


class _Forgetful(dict[Any, Any]):
    def setdefault(self, key: Any, default: Any = None) -> Any:
        return default


class _AsyncTransport:
    async def send(self, request: HttpRequest) -> HttpResponse:
        return current_process().transport().send(request)

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
