# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for the clips of a batch. It only looks: it never submits and never downloads."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wan import metrics
from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.batch.looks import FEW, PAGE, Look
from airflow_provider_wan.polling.schedule import Wait, WaitEnd
from airflow_provider_wan.triggers.hook import hook_of
from airflow_provider_wan.triggers.kill import ON_KILL_SECONDS, CancelPolicy, was_killed

if TYPE_CHECKING:
    from airflow_provider_wan.polling.hub import Hub


class Wake(StrEnum):
    """Why the task is woken."""

    ENOUGH = "enough"
    """So many clips have ended that they are worth a worker, or all have."""
    AGED = "aged"
    """A clip has ended a while ago."""
    DUE = "due"
    """The task itself asked for this time."""
    TIMEOUT = "timeout"
    """The time of the batch is over."""
    ERROR = "error"
    """They can't be looked at."""


class WanI2VBatchTrigger(BaseTrigger):
    """
    Waits until enough of a batch's requests have ended.

    Fires one event: ``{"status", "ended", "under_way", "end_time"}`` with a status of :class:`Wake`. Arguments and
    event hold ids and numbers only; there are never more ids than may be under way at once.

    :param request_ids: what is under way.
    :param end_time: Unix seconds at which to give up.
    :param wake_after: how many of them must have ended.
    :param wake_at: Unix seconds at which the task has something to do in any case; None: never.
    :param max_age: seconds after which a clip that has ended wakes the task although there are too few.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param poll_interval: seconds between looks.
    :param not_before: Unix seconds before which no event is fired.
    :param cancel_policy: what happens when a user kills the task.
    """

    def __init__(
        self,
        request_ids: Sequence[str],
        end_time: float,
        wake_after: int = 1,
        wake_at: float | None = None,
        max_age: float = 300.0,
        wan_conn_id: str = "wan_default",
        poll_interval: float = 10.0,
        not_before: float = 0.0,
        cancel_policy: str = CancelPolicy.QUEUED,
    ) -> None:
        super().__init__()
        self.request_ids = list(request_ids)
        self.end_time = end_time
        self.wake_after = wake_after
        self.wake_at = wake_at
        self.max_age = max_age
        self.wan_conn_id = wan_conn_id
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.cancel_policy = CancelPolicy(cancel_policy)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON values."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "request_ids": self.request_ids,
                "end_time": self.end_time,
                "wake_after": self.wake_after,
                "wake_at": self.wake_at,
                "max_age": self.max_age,
                "wan_conn_id": self.wan_conn_id,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
                "cancel_policy": self.cancel_policy.value,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is a reason to wake the task, and tell it in one event."""
        ended: dict[str, float] = {}
        try:
            hook = await hook_of(self.wan_conn_id)
            with metrics.waiting(len(self.request_ids)):
                async with hook.hub() as hub:
                    wake = await self._wait(hub, ended)
        except Exception as error:
            # A trigger that raises fails its task without a word: the resumed task looks itself, and says what it is.
            self.log.exception("The batch's requests can't be looked at")
            self.log.info("%s", type(error).__name__)
            wake = Wake.ERROR
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(
            {
                "status": wake.value,
                "ended": len(ended),
                "under_way": len(self.request_ids) - len(ended),
                "end_time": self.end_time,
            }
        )

    async def on_kill(self) -> None:
        """Cancel as the policy says, where a user really killed the task (Airflow 3.3 calls this)."""
        if self.cancel_policy is CancelPolicy.NEVER:
            return
        cancelled = 0
        try:
            async with asyncio.timeout(ON_KILL_SECONDS):
                if not await was_killed(self.task_instance):
                    self.log.info("%d requests are left alone: their task still waits for them", len(self.request_ids))
                    return
                async for taken in self._cancel():
                    cancelled += taken
        except Exception as error:
            self.log.warning("The other requests are left alone (%s)", type(error).__name__)
        self.log.info(
            "Of %d requests the API took the cancellation of %d; the others are left to be picked up later "
            "(cancel_policy=%s)",
            len(self.request_ids),
            cancelled,
            self.cancel_policy.value,
        )

    async def _wait(self, hub: Hub, ended: dict[str, float]) -> Wake:
        news = asyncio.Event()
        # All from one moment on, so that a page shows many of them.
        first = max(self.not_before, time.time() + self.poll_interval)
        waits = {each: asyncio.create_task(hub.wait(self._what(each, first), _silent)) for each in self.request_ids}
        for task in waits.values():
            task.add_done_callback(lambda _: news.set())
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until(ended) - time.time()):
                        await news.wait()
                news.clear()
                now, lost = time.time(), None
                for request_id in [each for each, task in waits.items() if task.done()]:
                    told = waits.pop(request_id).result()
                    if isinstance(told.seen, RequestRecord) and told.seen.status.is_terminal:
                        ended[request_id] = min(now, told.seen.updated_at or now)
                    elif told.verdict.end is WaitEnd.ERROR:
                        lost = Wake.ERROR if isinstance(told.seen, WanAuthError) else lost or Wake.AGED
                if wake := self._judge(ended, lost, now):
                    self.log.info("%d of %d requests have ended", len(ended), len(self.request_ids))
                    return wake
        finally:
            for task in waits.values():
                task.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    def _judge(self, ended: dict[str, float], lost: Wake | None, now: float) -> Wake | None:
        if ended and len(ended) >= min(self.wake_after, len(self.request_ids)):
            return Wake.ENOUGH
        if lost is not None:
            return lost
        if ended and now - min(ended.values()) >= self.max_age:
            return Wake.AGED
        if self.wake_at is not None and now >= max(self.wake_at, self.not_before):
            return Wake.DUE
        return Wake.TIMEOUT if now >= self.end_time else None

    def _until(self, ended: dict[str, float]) -> float:
        """Return when there is a reason to wake the task in any case."""
        aged = min(ended.values(), default=math.inf) + self.max_age
        due = math.inf if self.wake_at is None else max(self.wake_at, self.not_before)
        return min(self.end_time, aged, due)

    def _what(self, request_id: str, first: float) -> Wait:
        return Wait(request_id, self.end_time, first, self.poll_interval, patience=0.0)

    async def _look(self, hub: Hub, wanted: list[str]) -> Look:
        """Look at some: by pages of the list where there are many, one by one those that were not in it."""
        look = Look()
        names = set(wanted)
        offset = 0
        more = len(wanted) > FEW
        try:
            while more:
                page = await hub.list_page(PAGE, offset)
                more = look.page(page, names)
                offset += max(1, page.size)
        except WanError as error:
            look.error = error
        # Enough of them for this time: those that the list never shows come round with chance.
        missing = [each for each in wanted if each not in look.records]
        for request_id in random.sample(missing, min(len(missing), PAGE // 5)):
            if isinstance(look.error, WanAuthError):
                break
            try:
                look.records[request_id] = await hub.look_up(request_id)
            except WanNotFoundError:
                look.unknown.add(request_id)
            except WanError as error:
                look.error = error
        return look

    async def _cancel(self) -> AsyncIterator[bool]:
        async with (await hook_of(self.wan_conn_id)).hub() as hub:
            look = await self._look(hub, self.request_ids)
            for request_id, record in look.records.items():
                if self.cancel_policy.applies_to(record):
                    yield await hub.cancel(request_id)


def _silent(_: str) -> None:
    """Where one of hundreds stands is no news."""
