# SPDX-License-Identifier: Apache-2.0
"""One hub per process and connection: all waits share its session, its connection, its rate and its scheduler.

The hub knows nothing of Airflow: a function that loads the configuration is passed in.
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

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.stepwise import run_cooperatively
from airflow_provider_wan.polling.decision import Poll, PollTarget, WaitDecision, WaitStatus, evaluate_poll
from airflow_provider_wan.polling.runtime_stats import RuntimeStats
from airflow_provider_wan.polling.scheduler import PollScheduler
from airflow_provider_wan.polling.subscription import (
    ErrorCallback,
    StatusCallback,
    Subscription,
    WaitOutcome,
    merge_targets,
)
from airflow_provider_wan.polling.throttle import CircuitBreaker, RateLimiter, shared_rate_limiter

if TYPE_CHECKING:
    from airflow_provider_wan.api.async_client import AsyncWanClient
    from airflow_provider_wan.api.record import RequestPage, RequestRecord

log = logging.getLogger(__name__)

# Age at which a connection is worth loading again after its key was rejected.
CONNECTION_REFRESH_SECONDS = 60.0
# Concurrent polls: a slow service does not get ever more of them.
MAX_POLLS_IN_FLIGHT = 16
# A wait whose time is over gets a last poll if that is possible within this time.
LAST_POLL_GRACE = 2.0
# How often to look for something to poll if nothing wakes the hub.
IDLE_SECONDS = 5.0
# Attempts to load the connection before its first use, and the first pause between them, which doubles.
CONNECT_ATTEMPTS = 3
CONNECT_PAUSE = 2.0
# A page may hold hundreds of requests, and each notification wakes a task: yield to the loop in between.
NOTIFICATIONS_PER_STEP = 20

ClientFactory = Callable[[], Awaitable["AsyncWanClient"]]
T = TypeVar("T")


class Hub:
    """The shared polls of one connection in one event loop.

    :param connect: makes a client from the current connection; called once, and again after a rejected key if the
        client is over a minute old.
    :param runtime_stats: observed run times.
    :param rate_limiter: the rate limiter, if shared with other loops and threads.
    """

    def __init__(
        self,
        connect: ClientFactory,
        runtime_stats: RuntimeStats | None = None,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self._connect = connect
        self._client: AsyncWanClient | None = None
        self._connected_at = 0.0
        self._connect_lock = asyncio.Lock()
        self._circuit_breaker = CircuitBreaker()
        self._rate_limiter = rate_limiter if rate_limiter is not None else RateLimiter()
        self._rate_lock = asyncio.Lock()
        # One for each model: the API lists requests by model.
        self._schedulers: dict[str | None, PollScheduler] = {
            None: PollScheduler(runtime_stats if runtime_stats is not None else RuntimeStats())
        }
        self._models: dict[str, str | None] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._poll_tasks: set[asyncio.Task[None]] = set()
        self._driver: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.users = 0

    async def wait(
        self, target: PollTarget, status_callback: StatusCallback, error_callback: ErrorCallback | None = None
    ) -> WaitOutcome:
        """Wait until a request ends, or until its deadline.

        :param target: what to wait for.
        :param status_callback: called with the API's own word for the status each time that it changes.
        :param error_callback: called with the error of a poll each time that its kind changes; the wait goes on.
        :returns: how the wait ended, at the latest a few seconds after the deadline.
        """
        now = time.time()
        latest = max(now, target.end_time) + LAST_POLL_GRACE
        subscription = Subscription(target, latest)
        subscriptions = self._subscriptions.setdefault(target.request_id, [])
        subscriptions.append(subscription)
        model = self._models.setdefault(target.request_id, target.model)
        if model not in self._schedulers:
            self._schedulers[model] = PollScheduler(RuntimeStats(), model)
        self._schedulers[model].add(merge_targets(subscriptions), now, random.uniform(-1, 1))
        if self._driver is None:
            # Not in the context of the first caller, whose log is not everybody's.
            self._driver = asyncio.create_task(self._drive(), name="wan-hub", context=Context())
            self._driver.add_done_callback(self._on_driver_done)
        self._wake.set()
        try:
            outcome = None
            # The subscription's own timer: the driver may be waiting for a connection or a slow poll.
            with suppress(TimeoutError):
                async with asyncio.timeout(latest - now):
                    while outcome is None:
                        await subscription.signal
                        outcome = subscription.drain(status_callback, error_callback)
            if outcome is None:
                outcome = WaitOutcome(WaitDecision(WaitStatus.TIMEOUT), subscription.last_result)
            return outcome
        finally:
            subscriptions.remove(subscription)
            if subscriptions:
                self._schedulers[model].add(merge_targets(subscriptions), time.time(), 0.0)
            else:
                del self._subscriptions[target.request_id], self._models[target.request_id]
                self._schedulers[model].remove(target.request_id)

    async def get_request(self, request_id: str) -> RequestRecord:
        """Get one request, within the connection's rate.

        :raises WanError: as :meth:`AsyncWanClient.get_request`.
        """
        return await self._call(lambda client: client.get_request(request_id))

    async def list_page(self, limit: int, offset: int, model: str | None = None) -> RequestPage:
        """Get one page of the account's requests of a model, within the connection's rate.

        :param limit: number of requests.
        :param offset: number of requests to skip.
        :param model: the model id; ``None`` for the connection's.

        :raises WanError: as :meth:`AsyncWanClient.list_requests`.
        """
        return await self._call(lambda client: client.list_requests(model_id=model, limit=limit, offset=offset))

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once.

        :returns: whether the API accepted the call.
        """
        return await (await self._current_client()).cancel(request_id)

    async def close(self) -> None:
        """Cancel what is in flight, and close the session."""
        tasks = [task for task in (self._driver, *self._poll_tasks) if task is not None]
        self._driver = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _drive(self) -> None:
        await self._connect_first()
        while True:
            now = time.time()
            schedulers = tuple(self._schedulers.values())
            next_wake, tick = now + IDLE_SECONDS, min(scheduler.tick for scheduler in schedulers)
            if (pause := self._circuit_breaker.remaining_pause(now)) > 0:
                next_wake = min(next_wake, now + pause)
            elif self._subscriptions:
                rate = (await self._current_client()).config.status_requests_per_second
                for scheduler in schedulers:
                    selection = scheduler.select_polls_stepwise(now, max(1, round(rate * tick)), rate)
                    polls, next_selection = await run_cooperatively(selection)
                    next_wake = min(next_wake, next_selection)
                    for poll in polls:
                        await self._send(scheduler, poll)
            await self._sleep(now + tick, next_wake)

    async def _send(self, scheduler: PollScheduler, poll: Poll) -> None:
        """Start a poll as soon as the rate and the polls in flight allow it."""
        while len(self._poll_tasks) >= (1 if self._circuit_breaker.is_half_open() else MAX_POLLS_IN_FLIGHT):
            await asyncio.wait(self._poll_tasks, return_when=asyncio.FIRST_COMPLETED)
        client = await self._acquire_client()
        if self._circuit_breaker.remaining_pause(time.time()) > 0 or not scheduler.is_needed(poll):
            scheduler.release(poll)
            return
        task = asyncio.create_task(self._poll_once(client, scheduler, poll))
        self._poll_tasks.add(task)
        task.add_done_callback(self._on_poll_done)

    async def _sleep(self, earliest: float, until: float) -> None:
        """Sleep until a time or an event, but not less than until the earliest time."""
        now = time.time()
        self._wake.clear()
        if until > max(earliest, now):
            with suppress(TimeoutError):
                async with asyncio.timeout(until - now):
                    await self._wake.wait()
        await asyncio.sleep(max(0.0, earliest - time.time()))

    async def _poll_once(self, client: AsyncWanClient, scheduler: PollScheduler, poll: Poll) -> None:
        """Send one poll, and pass its result to the scheduler and the subscriptions."""
        poll_by = self._poll_page if poll.request_id is None else self._poll_request
        await poll_by(client, scheduler, poll)

    async def _poll_request(self, client: AsyncWanClient, scheduler: PollScheduler, poll: Poll) -> None:
        request_id, polled_at = str(poll.request_id), time.time()
        try:
            record = await client.get_request(request_id)
        except WanError as error:
            now = time.time()
            not_found = isinstance(error, WanNotFoundError)
            scheduler.on_record_error(poll, now, not_found=not_found)
            rejected = isinstance(error, WanAuthError)
            if rejected and await self._reload_connection(client):
                return
            if error.retryable or rejected:
                self._record_failure(error, now)
            else:
                self._record_success()
            self._publish(request_id, error, now)
        else:
            self._record_success()
            now = time.time()
            scheduler.on_record(poll, record, polled_at, now)
            self._publish(request_id, record, now)

    async def _poll_page(self, client: AsyncWanClient, scheduler: PollScheduler, poll: Poll) -> None:
        polled_at = time.time()
        try:
            page = await client.list_requests(model_id=scheduler.model, limit=poll.limit, offset=poll.offset)
        except WanError as error:
            now = time.time()
            # A key without permission to list may still get requests: only a request by its id proves it rejected.
            scheduler.on_page_error(poll, error, now)
            if error.retryable:
                self._record_failure(error, now)
            else:
                log.warning("The list of requests can't be used: %s", error)
        else:
            self._record_success()
            now = time.time()
            for number, record in enumerate(scheduler.on_page(poll, page, polled_at, now), 1):
                self._publish(record.request_id, record, now, of_page=True)
                if number % NOTIFICATIONS_PER_STEP == 0:
                    await asyncio.sleep(0)

    def _publish(self, request_id: str, result: RequestRecord | WanError, now: float, *, of_page: bool = False) -> None:
        request = self._schedulers[self._models.get(request_id)].requests.get(request_id)
        missing_since = request.missing_since if request is not None else None
        for subscription in tuple(self._subscriptions.get(request_id, ())):
            subscription.observe(result)
            target = replace(subscription.target, missing_since=missing_since)
            decision = evaluate_poll(result, target, now)
            # The list may be stuck: at the deadline the poll by id has the last word, or else the wait's own timer.
            if decision is not None and not (of_page and decision.status is WaitStatus.TIMEOUT):
                subscription.end(decision)

    def _record_success(self) -> None:
        if self._circuit_breaker.record_success():
            log.info("The API responds again; %d requests are waited for", len(self._subscriptions))
            self._wake.set()

    def _record_failure(self, error: WanError, now: float) -> None:
        if self._circuit_breaker.record_failure(
            error, now, min(scheduler.interval for scheduler in self._schedulers.values()), random.uniform(-1, 1)
        ):
            log.warning("Polls fail: polling at increasing intervals until they succeed. %s", error)

    async def _reload_connection(self, client: AsyncWanClient) -> bool:
        """Load the connection again after its key was rejected.

        :returns: whether it was loaded, so that another poll is worth it at once.
        """
        try:
            current = await self._refresh_client(client)
        except Exception as error:
            # Its text may repeat a connection URI with the key.
            log.warning("The connection can't be loaded again (%s)", type(error).__name__)
            return False
        if current is not client:
            for scheduler in self._schedulers.values():
                scheduler.retry_failed(time.time())
            self._wake.set()
        return current is not client

    def _on_poll_done(self, task: asyncio.Task[None]) -> None:
        self._poll_tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail_all(error)

    def _on_driver_done(self, task: asyncio.Task[None]) -> None:
        if self._driver is task:
            self._driver = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail_all(error)

    def _fail_all(self, error: BaseException) -> None:
        """End all waits: a hub that has stopped would keep them until their deadlines."""
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.fail(error)

    async def _connect_first(self) -> None:
        """Load the connection; a secrets backend may be away for a moment."""
        for attempt in range(1, CONNECT_ATTEMPTS):
            try:
                await self._current_client()
            except WanValidationError:
                raise
            except Exception as error:
                log.warning("The connection can't be loaded (%s); trying again", type(error).__name__)
                await asyncio.sleep(CONNECT_PAUSE * 2.0 ** (attempt - 1))
            else:
                return
        await self._current_client()

    async def _current_client(self) -> AsyncWanClient:
        async with self._connect_lock:
            if self._client is None:
                self._client = await self._connect()
                self._connected_at = time.monotonic()
            return self._client

    async def _refresh_client(self, rejected: AsyncWanClient) -> AsyncWanClient:
        async with self._connect_lock:
            if self._client is rejected and time.monotonic() - self._connected_at >= CONNECTION_REFRESH_SECONDS:
                self._client = await self._connect()
                self._connected_at = time.monotonic()
                await rejected.close()
            return self._client or rejected

    async def _call(self, call: Callable[[AsyncWanClient], Awaitable[T]]) -> T:
        client = await self._acquire_client()
        try:
            return await call(client)
        except WanAuthError:
            if await self._refresh_client(client) is client:
                raise
            return await call(await self._acquire_client())

    async def _acquire_client(self) -> AsyncWanClient:
        """Wait for a slot of the rate limiter. It is taken when it is used, however late that is."""
        rate = (await self._current_client()).config.status_requests_per_second
        async with self._rate_lock:
            delay = self._rate_limiter.acquire(time.monotonic(), rate)
            while delay > 0:
                await asyncio.sleep(delay)
                delay = self._rate_limiter.acquire(time.monotonic(), rate)
        # The previous client may have been rejected and closed meanwhile.
        return await self._current_client()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Hub]] = WeakKeyDictionary()
# What was learnt of a service is kept for later waits.
_runtime_stats: dict[Hashable, RuntimeStats] = {}


def shared_hub(key: Hashable, connect: ClientFactory) -> AbstractAsyncContextManager[Hub]:
    """Enter the running loop's hub of a connection; the last one to leave closes its session."""
    return _HubLease(key, connect)


class _HubLease:
    # Not a generator: thousands are entered at once, and each would keep alive all that it refers to.
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
            runtime_stats = _runtime_stats.setdefault(self._key, RuntimeStats())
            hub = hubs[self._key] = Hub(connect, runtime_stats, shared_rate_limiter(self._key))
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
