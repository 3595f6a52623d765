# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for the requests of a batch. It only polls: it never submits or downloads."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wan import metrics
from airflow_provider_wan.api.errors import WanAuthError, WanError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.polling.decision import PAGE_SIZE, PollTarget, StatusScan, WaitStatus
from airflow_provider_wan.triggers.cancellation import ON_KILL_SECONDS, CancelPolicy, was_killed
from airflow_provider_wan.triggers.hook_loader import load_hook

if TYPE_CHECKING:
    from airflow_provider_wan.polling.hub import Hub


# Share of the requests after whose end the task is resumed even if the service seems to have enough of them.
MAX_ENDED_SHARE = 0.75


class ResumeReason(StrEnum):
    """Why the task is resumed."""

    ENOUGH = "enough"
    """Enough requests have ended to be worth a worker, or all have."""
    AGED = "aged"
    """A request ended a while ago."""
    DUE = "due"
    """The task asked to be resumed at this time."""
    TIMEOUT = "timeout"
    """The deadline of the batch has passed."""
    ERROR = "error"
    """The requests can't be polled."""


class WanI2VBatchTrigger(BaseTrigger):
    """Wait until enough of a batch's requests have ended.

    Fires one event, ``{"status", "ended", "in_flight", "end_time"}``, with a status of :class:`ResumeReason`.
    Arguments and event hold ids and numbers only; there are never more ids than requests that may be in flight.

    :param request_ids: the requests in flight.
    :param end_time: deadline in Unix seconds.
    :param wake_after: number of requests that must have ended. More must have, as long as more of the others are
        waiting at the service than running.
    :param wake_at: Unix seconds at which the task is resumed in any case; ``None`` for never.
    :param max_age: seconds after which a request that has ended resumes the task although there are too few.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param poll_interval: seconds between polls.
    :param not_before: Unix seconds before which no event is fired.
    :param cancel_policy: what happens when a user kills the task; see :class:`CancelPolicy`.
    :param followed_ids: those of ``request_ids`` that another task has paid for: they are never cancelled.
    :param model: model by which the API's list shows the requests; ``None`` for the connection's.
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
        followed_ids: Sequence[str] = (),
        model: str | None = None,
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
        self.followed_ids = list(followed_ids)
        self.model = model

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
                "followed_ids": self.followed_ids,
                "model": self.model,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is a reason to resume the task, and report it in one event."""
        ended: dict[str, float] = {}
        try:
            hook = await load_hook(self.wan_conn_id)
            with metrics.track_in_flight(len(self.request_ids)):
                async with hook.hub() as hub:
                    reason = await self._wait(hub, ended)
        except Exception as error:
            # A trigger that raises fails its task without a message: the resumed task polls and reports the cause.
            self.log.exception("The batch's requests can't be polled")
            self.log.info("%s", type(error).__name__)
            reason = ResumeReason.ERROR
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(
            {
                "status": reason.value,
                "ended": len(ended),
                "in_flight": len(self.request_ids) - len(ended),
                "end_time": self.end_time,
            }
        )

    async def on_kill(self) -> None:
        """Apply the cancel policy if a user killed the task. Airflow 3.3 and later call this."""
        if self.cancel_policy is CancelPolicy.NEVER:
            return
        cancelled = 0
        try:
            async with asyncio.timeout(ON_KILL_SECONDS):
                if not await was_killed(self.task_instance):
                    self.log.info(
                        "%d requests are not cancelled: their task still waits for them", len(self.request_ids)
                    )
                    return
                async for accepted in self._cancel():
                    cancelled += accepted
        except Exception as error:
            self.log.warning("The remaining requests are not cancelled (%s)", type(error).__name__)
        self.log.info(
            "The API accepted the cancellation of %d of %d requests; a later attempt resumes the others "
            "(cancel_policy=%s)",
            cancelled,
            len(self.request_ids),
            self.cancel_policy.value,
        )

    async def _wait(self, hub: Hub, ended: dict[str, float]) -> ResumeReason:
        wait_done = asyncio.Event()
        # All start at the same time, so that one page shows many of them.
        first_poll = max(self.not_before, time.time() + self.poll_interval)
        started: set[str] = set()
        waits = {
            each: asyncio.create_task(
                hub.wait(self._build_target(each, first_poll), partial(_record_status, started, each))
            )
            for each in self.request_ids
        }
        for task in waits.values():
            task.add_done_callback(lambda _: wait_done.set())
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._next_deadline(ended) - time.time()):
                        await wait_done.wait()
                wait_done.clear()
                now, failure = time.time(), None
                for request_id in [each for each, task in waits.items() if task.done()]:
                    outcome = waits.pop(request_id).result()
                    record = outcome.last_result
                    if isinstance(record, RequestRecord) and record.status.is_terminal:
                        ended[request_id] = min(now, record.updated_at or now)
                    elif outcome.decision.status is WaitStatus.ERROR:
                        rejected = isinstance(record, WanAuthError)
                        failure = ResumeReason.ERROR if rejected else failure or ResumeReason.AGED
                if reason := self._resume_reason(ended, started, failure, now):
                    self.log.info("%d of %d requests have ended", len(ended), len(self.request_ids))
                    return reason
        finally:
            for task in waits.values():
                task.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    def _resume_reason(
        self, ended: dict[str, float], started: set[str], failure: ResumeReason | None, now: float
    ) -> ResumeReason | None:
        enough = ended and len(ended) >= min(self.wake_after, len(self.request_ids))
        if enough and not self._is_queue_full(ended, started):
            return ResumeReason.ENOUGH
        if failure is not None:
            return failure
        if ended and now - min(ended.values()) >= self.max_age:
            return ResumeReason.AGED
        if self.wake_at is not None and now >= max(self.wake_at, self.not_before):
            return ResumeReason.DUE
        return ResumeReason.TIMEOUT if now >= self.end_time else None

    def _is_queue_full(self, ended: dict[str, float], started: set[str]) -> bool:
        """Return whether more requests wait at the service than it runs, so that it needs no new ones for a while.

        A status may be old: three quarters that have ended are enough in any case.
        """
        running = len(started - ended.keys())
        waiting = len(self.request_ids) - len(ended) - running
        return 0 < running < waiting and len(ended) < MAX_ENDED_SHARE * len(self.request_ids)

    def _next_deadline(self, ended: dict[str, float]) -> float:
        """Return the time at which the task is resumed in any case."""
        aged_at = min(ended.values(), default=math.inf) + self.max_age
        due_at = math.inf if self.wake_at is None else max(self.wake_at, self.not_before)
        return min(self.end_time, aged_at, due_at)

    def _build_target(self, request_id: str, first_poll: float) -> PollTarget:
        return PollTarget(
            request_id,
            self.end_time,
            first_poll,
            self.poll_interval,
            not_found_grace=0.0,
            needs_file=False,
            model=self.model,
        )

    async def _scan(self, hub: Hub) -> StatusScan:
        """Poll all requests once. Of those that the list does not show, a random sample is polled by id."""
        in_random_order = random.sample(self.request_ids, len(self.request_ids))
        scan = StatusScan(in_random_order, max_single_polls=PAGE_SIZE // 5)
        while (poll := scan.next_poll()) is not None:
            try:
                if poll.request_id is None:
                    scan.on_page(await hub.list_page(poll.limit, poll.offset, self.model))
                else:
                    scan.on_record(poll, await hub.get_request(poll.request_id))
            except WanError as error:
                scan.on_error(poll, error)
        return scan

    async def _cancel(self) -> AsyncIterator[bool]:
        async with (await load_hook(self.wan_conn_id)).hub() as hub:
            scan = await self._scan(hub)
            for request_id, record in scan.records.items():
                if request_id not in self.followed_ids and self.cancel_policy.applies_to(record):
                    yield await hub.cancel(request_id)


def _record_status(started: set[str], request_id: str, status: str) -> None:
    """Record which requests run. Batches do not log the status of single requests."""
    if not RequestStatus.parse(status).is_waiting:
        started.add(request_id)
