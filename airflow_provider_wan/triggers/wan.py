# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for one request. It only looks: it never submits and never downloads."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wan.api.errors import WanError, WanNotFoundError
from airflow_provider_wan.polling.schedule import Verdict, Wait, WaitEnd, judge

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.polling.hub import Hub

# Airflow gives on_kill 30 s by default: what can't be done by then is left alone.
ON_KILL_SECONDS = 20.0


class CancelPolicy(StrEnum):
    """
    What happens to a request when its task is killed by a user.

    ``QUEUED`` cancels what has not begun to run, which costs nothing, and lets what runs finish: it is
    paid for, and the next attempt picks it up. ``ALWAYS`` asks for both. ``NEVER`` leaves all alone.
    """

    QUEUED = "queued"
    ALWAYS = "always"
    NEVER = "never"

    def applies_to(self, record: RequestRecord) -> bool:
        """Whether a request in this state is to be cancelled."""
        if record.status.is_terminal or self is CancelPolicy.NEVER:
            return False
        return self is CancelPolicy.ALWAYS or record.status.is_waiting


class WanI2VTrigger(BaseTrigger):
    """
    Waits until a request is done, or until the end time.

    Fires one event: ``{"status", "request_id", "fingerprint", "end_time"}`` with a status of
    :class:`~airflow_provider_wan.polling.schedule.WaitEnd`. Arguments and event hold ids and numbers
    only, since Airflow keeps both in plain text; whoever resumes looks the rest up anew.

    :param request_id: what to wait for.
    :param end_time: Unix seconds at which to give up: a restart of the triggerer does not lengthen it.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param poll_interval: seconds between looks.
    :param not_before: Unix seconds before which no event is fired.
    :param cancel_policy: what happens when a user kills the task; see :class:`CancelPolicy`.
    :param fingerprint: of the clip, handed through to the event.
    """

    def __init__(
        self,
        request_id: str,
        end_time: float,
        wan_conn_id: str = "wan_default",
        poll_interval: float = 10.0,
        not_before: float = 0.0,
        cancel_policy: str = CancelPolicy.QUEUED,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.request_id = request_id
        self.end_time = end_time
        self.wan_conn_id = wan_conn_id
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.cancel_policy = CancelPolicy(cancel_policy)
        self.fingerprint = fingerprint

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and plain JSON values."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "request_id": self.request_id,
                "end_time": self.end_time,
                "wan_conn_id": self.wan_conn_id,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
                "cancel_policy": self.cancel_policy.value,
                "fingerprint": self.fingerprint,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the wait has an end, and tell it in one event."""
        from airflow_provider_wan.hooks.wan import WanHook

        try:
            async with WanHook(self.wan_conn_id).hub() as hub:
                verdict = await self._wait(hub)
        except Exception as error:
            # A trigger that raises fails its task without a word: the resumed task says what it was.
            self.log.exception("Request %s can't be looked at", self.request_id)
            verdict = Verdict(WaitEnd.ERROR, f"{type(error).__name__}")
        yield TriggerEvent(
            {
                "status": verdict.end.value,
                "request_id": self.request_id,
                "fingerprint": self.fingerprint,
                "end_time": self.end_time,
            }
        )

    async def on_kill(self) -> None:
        """Cancel as the policy says, where a user really killed the task (Airflow 3.3 calls this)."""
        if self.cancel_policy is CancelPolicy.NEVER:
            return
        try:
            async with asyncio.timeout(ON_KILL_SECONDS):
                if not await self._was_killed():
                    self.log.info("Request %s is left alone: its task still waits for it", self.request_id)
                    return
                await self._cancel()
        except Exception as error:
            self.log.warning(
                "Request %s is left alone: whether it may be cancelled can't be told (%s)",
                self.request_id,
                type(error).__name__,
            )

    async def _wait(self, hub: Hub) -> Verdict:
        wait = Wait(self.request_id, self.end_time, self.not_before, self.poll_interval)
        # Not all at once, when a triggerer starts with thousands.
        await _until(max(self.not_before, time.time() + random.random() * self.poll_interval), self.end_time)
        told: str | None = None
        while True:
            seen, wait = await _look(hub, wait)
            now = time.time()
            text = seen.status_text if not isinstance(seen, WanError) else f"unanswered: {seen}"
            if text != told:
                self.log.info("Request %s is %s", self.request_id, text)
                told = text
            if verdict := judge(seen, wait, now):
                if verdict.message:
                    self.log.error(verdict.message)
                await _until(self.not_before)
                return verdict
            pause = getattr(seen, "retry_after", None)
            await _until(wait.next_look(now, random.uniform(-1, 1), pause))

    async def _was_killed(self) -> bool:
        """
        Tell a user's action from a hand-over to another triggerer, which calls ``on_kill`` too.

        After a hand-over the task is still deferred; cancelling would destroy a healthy, paid job.
        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti: Any = self.task_instance
        if ti is None:
            return False
        find: Callable[..., dict[str, Any]] = RuntimeTaskInstance.get_task_states
        map_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
        runs = await asyncio.to_thread(
            find, dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index
        )
        # A mapped task's key is not its id: the values are what counts. A cleared task has none.
        states = [str(state) for tasks in runs.values() for state in tasks.values()]
        return "deferred" not in states

    async def _cancel(self) -> None:
        from airflow_provider_wan.hooks.wan import WanHook

        async with WanHook(self.wan_conn_id).hub() as hub:
            record = await hub.look_up(self.request_id)
            if not self.cancel_policy.applies_to(record):
                self.log.info(
                    "Request %s is %s: it is left to be picked up later (cancel_policy=%s)",
                    self.request_id,
                    record.status_text,
                    self.cancel_policy.value,
                )
                return
            taken = await hub.cancel(self.request_id)
            self.log.info(
                "Request %s was %s: asked to cancel it, %s",
                self.request_id,
                record.status_text,
                "and the API took it" if taken else "which the API did not take",
            )


async def _look(hub: Hub, wait: Wait) -> tuple[RequestRecord | WanError, Wait]:
    try:
        return await hub.look_up(wait.request_id), replace(wait, missing_since=None)
    except WanNotFoundError as error:
        since = wait.missing_since if wait.missing_since is not None else time.time()
        return error, replace(wait, missing_since=since)
    except WanError as error:
        return error, wait


async def _until(moment: float, latest: float | None = None) -> None:
    due = moment if latest is None else min(moment, latest)
    await asyncio.sleep(max(0.0, due - time.time()))
