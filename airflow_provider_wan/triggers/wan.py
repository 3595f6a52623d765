# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for one request. It only looks: it never submits and never downloads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wan import metrics
from airflow_provider_wan.polling.schedule import Verdict, Wait, WaitEnd
from airflow_provider_wan.triggers.hook import hook_of
from airflow_provider_wan.triggers.kill import ON_KILL_SECONDS, CancelPolicy, was_killed
from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

__all__ = ["CancelPolicy", "WanI2VBatchTrigger", "WanI2VTrigger"]


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
    :param resolution: of the clip, where known; this and the next two help to look at the right time.
    :param duration: seconds of video.
    :param submitted_at: Unix seconds, by the API's clock, at which it was submitted.
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
        resolution: str | None = None,
        duration: int | None = None,
        submitted_at: float | None = None,
    ) -> None:
        super().__init__()
        self.request_id = request_id
        self.end_time = end_time
        self.wan_conn_id = wan_conn_id
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.cancel_policy = CancelPolicy(cancel_policy)
        self.fingerprint = fingerprint
        self.resolution = resolution
        self.duration = duration
        self.submitted_at = submitted_at

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
                "resolution": self.resolution,
                "duration": self.duration,
                "submitted_at": self.submitted_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Register, wait, and tell the end in one event."""
        try:
            hook = await hook_of(self.wan_conn_id)
            with metrics.waiting():
                async with hook.hub() as hub:
                    verdict = (await hub.wait(self._what(), self._tell)).verdict
            if verdict.message:
                self.log.error(verdict.message)
            # What is told sooner can fail the task.
            await asyncio.sleep(max(0.0, self.not_before - time.time()))
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

    def _what(self) -> Wait:
        return Wait(
            request_id=self.request_id,
            end_time=self.end_time,
            not_before=self.not_before,
            poll_interval=self.poll_interval,
            resolution=self.resolution,
            duration=self.duration,
            submitted_at=self.submitted_at,
        )

    def _tell(self, status: str) -> None:
        # One for all: an instance's own is a handful of objects for each of thousands.
        self.logger().info("Request %s is %s", self.request_id, status)

    async def _was_killed(self) -> bool:
        return await was_killed(self.task_instance)

    async def _cancel(self) -> None:
        async with (await hook_of(self.wan_conn_id)).hub() as hub:
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
