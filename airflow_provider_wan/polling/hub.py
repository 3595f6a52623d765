# SPDX-License-Identifier: Apache-2.0
"""
One hub per process and connection: all that wait share its session, its connection, its rate and its plan.

The hub knows nothing of Airflow: how to load the configuration is handed to it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError, WanProtocolError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.polling.durations import Durations
from airflow_provider_wan.polling.look import Look
from airflow_provider_wan.polling.pace import Pace
from airflow_provider_wan.polling.plan import Plan
from airflow_provider_wan.polling.schedule import Verdict, Wait, WaitEnd, judge
from airflow_provider_wan.polling.steps import in_between
from airflow_provider_wan.polling.turns import Turns, turns_of
from airflow_provider_wan.polling.waiter import Ended, Tell, Waiter, joint

if TYPE_CHECKING:
    from airflow_provider_wan.api.aio import AsyncWanClient
    from airflow_provider_wan.api.record import RequestPage, RequestRecord

log = logging.getLogger(__name__)

# How old a connection must be to be worth another look after a refused key.
REFRESH_SECONDS = 60.0
# Looks under way at once: a service that answers late is not asked for ever more.
MAX_UNDER_WAY = 16
# A wait whose time is over gets a last look, if one is to be had within this.
LAST_LOOK_SECONDS = 60.0
# How often to see whose time is over, where nothing is to be looked at.
IDLE_SECONDS = 5.0

# Hundreds may be on one page, and what each one does when told is done before the loop turns to others.
TOLD_AT_ONCE = 20

ClientFactory = Callable[[], Awaitable["AsyncWanClient"]]
T = TypeVar("T")


class Hub:
    """
    The shared look-ups of one connection in one event loop.

    :param connect: makes a client from the connection as it is now; called once, and again after a
        refused key where the client is over a minute old.
    :param durations: what is known of run times.
    :param turns: the rate, where it is shared with other loops and threads.
    """

    def __init__(self, connect: ClientFactory, durations: Durations | None = None, turns: Turns | None = None) -> None:
        self._connect = connect
        self._client: AsyncWanClient | None = None
        self._made_at = 0.0
        self._connecting = asyncio.Lock()
        self._pace = Pace()
        self._turns = turns if turns is not None else Turns()
        self._queue = asyncio.Lock()
        self._plan = Plan(durations if durations is not None else Durations())
        self._waiters: dict[str, list[Waiter]] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._driver: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.users = 0

    async def wait(self, wait: Wait, tell: Tell) -> Ended:
        """
        Wait until a request is done, or until its end time.

        :param tell: called with the API's word for where the request stands, each time that changes.
        """
        now = time.time()
        latest = max(now, wait.end_time) + LAST_LOOK_SECONDS
        waiter = Waiter(wait, latest)
        others = self._waiters.setdefault(wait.request_id, [])
        others.append(waiter)
        self._plan.add(joint(others), now, random.uniform(-1, 1))
        if self._driver is None:
            # Not in the context of whoever came first: its log is not everybody's.
            self._driver = asyncio.create_task(self._drive(), name="wan-hub", context=Context())
            self._driver.add_done_callback(self._driver_ended)
        self._wake.set()
        try:
            ended = None
            while ended is None:
                await waiter.signal
                ended = waiter.hear(tell)
            return ended
        finally:
            others.remove(waiter)
            if others:
                self._plan.add(joint(others), time.time(), 0.0)
            else:
                del self._waiters[wait.request_id]
                self._plan.drop(wait.request_id)

    async def look_up(self, request_id: str) -> RequestRecord:
        """
        Look up one request, within the connection's rate.

        :raises WanError: as :meth:`AsyncWanClient.get_request`.
        """
        return await self._asked(lambda client: client.get_request(request_id))

    async def list_page(self, limit: int, offset: int) -> RequestPage:
        """
        Look up one page of one's own requests of the connection's model, within the connection's rate.

        :raises WanError: as :meth:`AsyncWanClient.list_requests`.
        """
        return await self._asked(lambda client: client.list_requests(limit=limit, offset=offset))

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once. :return: whether the API took the call."""
        return await (await self._current()).cancel(request_id)

    async def close(self) -> None:
        """End what is under way, and close the session."""
        tasks = [task for task in (self._driver, *self._looks) if task is not None]
        self._driver = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _drive(self) -> None:
        await self._current()
        while True:
            now = time.time()
            self._end_the_late(now)
            again, tick = now + IDLE_SECONDS, self._plan.tick
            if (pause := self._pace.pause(now)) > 0:
                again = min(again, now + pause)
            elif self._waiters:
                rate = (await self._current()).config.status_requests_per_second
                choice = self._plan.choice(now, max(1, round(rate * tick)), rate)
                looks, then = await in_between(choice)
                again = min(again, then)
                for look in looks:
                    await self._send(look)
            await self._sleep(now + tick, again)

    async def _send(self, look: Look) -> None:
        """Begin a look, as soon as the rate and those that are under way allow it."""
        while len(self._looks) >= (1 if self._pace.probing() else MAX_UNDER_WAY):
            await asyncio.wait(self._looks, return_when=asyncio.FIRST_COMPLETED)
        client = await self._turn()
        if self._pace.pause(time.time()) > 0 or not self._plan.wanted(look):
            self._plan.release(look)
            return
        task = asyncio.create_task(self._look(client, look))
        self._looks.add(task)
        task.add_done_callback(self._look_ended)

    async def _sleep(self, earliest: float, until: float) -> None:
        """Sleep until then, or until something happens, but at least until the earliest time."""
        now = time.time()
        self._wake.clear()
        if until > max(earliest, now):
            with suppress(TimeoutError):
                async with asyncio.timeout(until - now):
                    await self._wake.wait()
        await asyncio.sleep(max(0.0, earliest - time.time()))

    async def _look(self, client: AsyncWanClient, look: Look) -> None:
        try:
            await (self._one(client, look) if look.request_id is not None else self._page(client, look))
        except WanAuthError as error:
            await self._refused(client, error)

    async def _one(self, client: AsyncWanClient, look: Look) -> None:
        request_id, asked_at = str(look.request_id), time.time()
        try:
            record = await client.get_request(request_id)
            if record.request_id != request_id:
                raise WanProtocolError(f"The API's answer for request {request_id} is for another one")
        except WanError as error:
            now = time.time()
            unknown = isinstance(error, WanNotFoundError)
            self._plan.look_failed(look, now, unknown=unknown)
            if isinstance(error, WanAuthError):
                raise
            if error.retryable:
                self._unanswered(error, now)
            else:
                self._answered()
            self._saw(request_id, error, now)
        else:
            self._answered()
            now = time.time()
            self._plan.record_came(look, record, asked_at, now)
            self._saw(request_id, record, now)

    async def _page(self, client: AsyncWanClient, look: Look) -> None:
        asked_at = time.time()
        try:
            page = await client.list_requests(limit=look.limit, offset=look.offset)
        except WanError as error:
            now = time.time()
            # A key that may not list may look: only a request by its id proves it refused.
            self._plan.page_failed(look, error, now)
            if error.retryable:
                self._unanswered(error, now)
            else:
                log.warning("The list of requests can't be used: %s", error)
        else:
            self._answered()
            now = time.time()
            for number, record in enumerate(self._plan.page_came(look, page, asked_at, now), 1):
                self._saw(record.request_id, record, now)
                if number % TOLD_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _saw(self, request_id: str, seen: RequestRecord | WanError, now: float) -> None:
        clip = self._plan.clips.get(request_id)
        missing_since = clip.missing_since if clip is not None else None
        for waiter in tuple(self._waiters.get(request_id, ())):
            waiter.see(seen)
            if verdict := judge(seen, replace(waiter.wait, missing_since=missing_since), now):
                waiter.end(verdict)

    def _end_the_late(self, now: float) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if now >= waiter.latest:
                    waiter.end(Verdict(WaitEnd.TIMEOUT))

    def _answered(self) -> None:
        if self._pace.answered():
            log.info("The API answers again; %d requests wait", len(self._waiters))
            self._wake.set()

    def _unanswered(self, error: WanError, now: float) -> None:
        if self._pace.failed(error, now, self._plan.interval, random.uniform(-1, 1)):
            log.warning("The API does not answer: looking again ever more rarely until it does. %s", error)

    async def _refused(self, client: AsyncWanClient, error: WanAuthError) -> None:
        """Try a renewed connection once; where that is not to be had, nobody can wait any more."""
        try:
            fresh = await self._renewed(client)
        except WanError as broken:
            error, fresh = WanAuthError(f"{error} The connection can't be read anew: {broken}"), client
        if fresh is not client:
            self._plan.hurry(time.time())
            return
        if self._waiters:
            log.error("All %d that wait for this connection stop: %s", len(self._waiters), error)
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.seen = error
                waiter.end(Verdict(WaitEnd.ERROR, str(error)))

    def _look_ended(self, task: asyncio.Task[None]) -> None:
        self._looks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def _driver_ended(self, task: asyncio.Task[None]) -> None:
        if self._driver is task:
            self._driver = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        """Whoever waits must hear of it: a hub that stands still would keep them until their end time."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.fail(error)

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

    async def _asked(self, ask: Callable[[AsyncWanClient], Awaitable[T]]) -> T:
        client = await self._turn()
        try:
            return await ask(client)
        except WanAuthError:
            if await self._renewed(client) is client:
                raise
            return await ask(await self._turn())

    async def _turn(self) -> AsyncWanClient:
        """Wait for the turn to begin a request; it is taken when it is used, however late that is."""
        rate = (await self._current()).config.status_requests_per_second
        async with self._queue:
            wait = self._turns.take(time.monotonic(), rate)
            while wait > 0:
                await asyncio.sleep(wait)
                wait = self._turns.take(time.monotonic(), rate)
        # The one of before may have been refused, and closed, meanwhile.
        return await self._current()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Hub]] = WeakKeyDictionary()
# What was learnt of a service stays for those that wait later.
_durations: dict[Hashable, Durations] = {}


def shared_hub(key: Hashable, connect: ClientFactory) -> AbstractAsyncContextManager[Hub]:
    """Enter the running loop's hub of a connection; the last one out closes its session."""
    return _Entry(key, connect)


class _Entry:
    # Not made of a generator: thousands are entered at once, and each would be kept with all that it refers to.
    __slots__ = ("_connect", "_hub", "_key")

    def __init__(self, key: Hashable, connect: ClientFactory) -> None:
        self._key = key
        self._connect: ClientFactory | None = connect
        self._hub: Hub | None = None

    async def __aenter__(self) -> Hub:
        hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
        connect, self._connect = self._connect, None
        hub = hubs.get(self._key)
        if hub is None:
            assert connect is not None
            hub = hubs[self._key] = Hub(connect, _durations.setdefault(self._key, Durations()), turns_of(self._key))
        hub.users += 1
        self._hub = hub
        return hub

    async def __aexit__(self, *_: object) -> None:
        hub, self._hub = self._hub, None
        hubs = _hubs.get(asyncio.get_running_loop(), {})
        if hub is None:
            return
        hub.users -= 1
        if hub.users == 0:
            if hubs.get(self._key) is hub:
                del hubs[self._key]
            await hub.close()
