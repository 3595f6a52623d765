# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for one request. It only polls: it never submits or downloads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_wan import metrics
from airflow_provider_wan.polling.decision import PollTarget, WaitDecision, WaitStatus
from airflow_provider_wan.traces import record_span
from airflow_provider_wan.triggers.cancellation import ON_KILL_SECONDS, CancelPolicy, was_killed
from airflow_provider_wan.triggers.hook_loader import load_hook
from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError

__all__ = ["CancelPolicy", "WanI2VBatchTrigger", "WanI2VTrigger"]


class WanI2VTrigger(BaseTrigger):
    """Wait until a request ends, or until a deadline.

    Fires one event, ``{"status", "request_id", "fingerprint", "end_time"}``, with a status of
    :class:`~airflow_provider_wan.polling.decision.WaitStatus`. Arguments and event hold ids and numbers only, since
    Airflow stores both in plain text; the resumed task gets the rest from the API.

    :param request_id: the request to wait for.
    :param end_time: deadline in Unix seconds; a restart of the triggerer does not extend it.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param poll_interval: seconds between polls.
    :param not_before: Unix seconds before which no event is fired.
    :param cancel_policy: what happens when a user kills the task; see :class:`CancelPolicy`.
    :param fingerprint: fingerprint of the clip, passed through to the event.
    :param resolution: resolution of the clip, if known; this and the next two help to poll at the right time.
    :param duration: seconds of video, if known.
    :param submitted_at: Unix seconds of the submission, by the API's clock, if known.
    :param model: model by which the API's list is filtered, if it is not the connection's.
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
        model: str | None = None,
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
        self.model = model

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
                "model": self.model,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the request, and report it in one event."""
        try:
            hook = await load_hook(self.wan_conn_id)
            attributes = {"request_id": self.request_id, "fingerprint": self.fingerprint}
            with metrics.track_in_flight(), record_span("wan.wait", **attributes) as set_attributes:
                async with hook.hub() as hub:
                    decision = (await hub.wait(self._build_target(), self._log_status, self._log_error)).decision
                set_attributes(status=decision.status.value)
            if decision.message:
                self.log.error(decision.message)
            # An earlier event can fail the task.
            await asyncio.sleep(max(0.0, self.not_before - time.time()))
        except Exception as error:
            # A trigger that raises fails its task without a message: the resumed task reports the cause.
            self.log.exception("Request %s can't be polled", self.request_id)
            decision = WaitDecision(WaitStatus.ERROR, type(error).__name__)
        yield TriggerEvent(
            {
                "status": decision.status.value,
                "request_id": self.request_id,
                "fingerprint": self.fingerprint,
                "end_time": self.end_time,
            }
        )

    async def on_kill(self) -> None:
        """Apply the cancel policy if a user killed the task. Airflow 3.3 and later call this."""
        if self.cancel_policy is CancelPolicy.NEVER:
            return
        try:
            async with asyncio.timeout(ON_KILL_SECONDS):
                if not await self._was_killed():
                    self.log.info("Request %s is not cancelled: its task still waits for it", self.request_id)
                    return
                await self._cancel()
        except Exception as error:
            self.log.warning(
                "Request %s is not cancelled: it is unknown whether it may be (%s)",
                self.request_id,
                type(error).__name__,
            )

    def _build_target(self) -> PollTarget:
        return PollTarget(
            request_id=self.request_id,
            end_time=self.end_time,
            not_before=self.not_before,
            poll_interval=self.poll_interval,
            resolution=self.resolution,
            duration=self.duration,
            submitted_at=self.submitted_at,
            model=self.model,
        )

    def _log_status(self, status: str) -> None:
        # The class's logger: one per instance would be a handful of objects for each of thousands of triggers.
        self.logger().info("Request %s is %s", self.request_id, status)

    def _log_error(self, error: WanError) -> None:
        self.logger().warning("Polling goes on until the deadline, at increasing intervals: %s", error)

    async def _was_killed(self) -> bool:
        return await was_killed(self.task_instance)

    async def _cancel(self) -> None:
        async with (await load_hook(self.wan_conn_id)).hub() as hub:
            record = await hub.get_request(self.request_id)
            if not self.cancel_policy.applies_to(record):
                self.log.info(
                    "Request %s is %s: it is not cancelled, a later attempt resumes it (cancel_policy=%s)",
                    self.request_id,
                    record.status_text,
                    self.cancel_policy.value,
                )
                return
            accepted = await hub.cancel(self.request_id)
            self.log.info(
                "Request %s was %s: cancellation %s",
                self.request_id,
                record.status_text,
                "accepted by the API" if accepted else "not accepted by the API",
            )
