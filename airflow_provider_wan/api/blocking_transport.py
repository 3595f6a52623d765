# SPDX-License-Identifier: Apache-2.0
"""A synchronous transport on the asynchronous one: a call that blocks has the same total time limit."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING

from airflow_provider_wan.api.async_client import AiohttpTransport
from airflow_provider_wan.api.wire import TransportError

if TYPE_CHECKING:
    from airflow_provider_wan.api.config import WanConfig
    from airflow_provider_wan.api.wire import HttpRequest, HttpResponse

# Beyond the limit of the request: what the event loop can't interrupt, such as a name lookup, is left alone then.
_GRACE_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class BlockingTransport:
    """Send requests from any thread, and wait for their responses.

    The requests run on one event loop per process, in a daemon thread. No call takes longer than the request's
    ``timeout``, however slowly the peer sends.
    """

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._transport: AiohttpTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: weakref.finalize[..., BlockingTransport] | None = None

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request; a POST exactly once.

        :raises TransportError: if no complete response was received.
        """
        loop, transport = self._open()
        future = asyncio.run_coroutine_threadsafe(transport.send(request), loop)
        try:
            return future.result(request.timeout + _GRACE_SECONDS)
        except TimeoutError:
            pass
        finally:
            future.cancel()
        raise TransportError(f"TimeoutError, {request.timeout:.0f} s at most", sent=True)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            finalizer, self._finalizer, self._transport = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _open(self) -> tuple[asyncio.AbstractEventLoop, AiohttpTransport]:
        loop = _shared_loop()
        with self._lock:
            # After a fork, the loop and its connections belong to the parent process.
            if self._transport is None or self._loop is not loop:
                self._transport, self._loop = AiohttpTransport(self._config), loop
                self._finalizer = weakref.finalize(self, _close, self._transport, loop)
            return loop, self._transport


def _close(transport: AiohttpTransport, loop: asyncio.AbstractEventLoop) -> None:
    if loop is not _loops.get(os.getpid()):
        return
    closed: Future[None] = asyncio.run_coroutine_threadsafe(transport.close(), loop)
    if not isinstance(threading.current_thread(), _LoopThread):
        try:
            closed.result(_CLOSE_SECONDS)
        except TimeoutError:
            closed.cancel()


class _LoopThread(threading.Thread):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="wan-http", daemon=True)
        self._event_loop = loop

    def run(self) -> None:
        asyncio.set_event_loop(self._event_loop)
        self._event_loop.run_forever()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_loops_lock = threading.Lock()


def _shared_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this process."""
    if (loop := _loops.get(os.getpid())) is None:
        with _loops_lock:
            if (loop := _loops.get(os.getpid())) is None:
                loop = asyncio.new_event_loop()
                _LoopThread(loop).start()
                _loops[os.getpid()] = loop
    return loop


def _unlock_after_fork() -> None:
    global _loops_lock
    _loops_lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock_after_fork)
