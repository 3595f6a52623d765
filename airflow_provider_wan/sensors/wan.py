# SPDX-License-Identifier: Apache-2.0
"""The sensor for a request that was submitted elsewhere."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.operators.task_result import build_timeout_error, build_upstream_error, clip_result
from airflow_provider_wan.polling.decision import PollTarget, WaitStatus
from airflow_provider_wan.triggers.cancellation import CancelPolicy
from airflow_provider_wan.triggers.deferral import (
    MIN_DEFERRAL_SECONDS,
    compute_end_time,
    deferral_timeout,
    may_defer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.hooks.wan import WanHook


# The longest that one poke may take; the next one asks again.
MAX_POKE_SECONDS = 30.0


class WanRequestSensor(BaseSensorOperator):
    """Wait for a request that was submitted elsewhere, and return its result.

    It never submits or cancels: the request belongs to another task.

    :param request_id: the request (templated).
    :param wan_conn_id: id of a connection of type ``wan`` (templated).
    :param deferrable: wait in the triggerer; Airflow's ``default_deferrable`` by default.
    :param poke_interval: seconds between polls.
    :param timeout: how long to wait, in seconds or as a timedelta.
    :returns: ``{"request_id", "status", "video_url", "thumbnail_url"}``.
    :raises AirflowFailException: if the request failed or was cancelled.
    :raises AirflowSensorTimeout: if it has not ended by the deadline, or the API does not know it until then.
    """

    template_fields: Sequence[str] = ("request_id", "wan_conn_id")
    ui_color = "#e7e3f6"

    def __init__(
        self,
        *,
        request_id: str,
        wan_conn_id: str = "wan_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 15,
        timeout: timedelta | float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.request_id = request_id
        self.wan_conn_id = wan_conn_id
        self.deferrable = deferrable
        self._end_time = math.inf
        #: Model by which the API's list shows the request; None for the connection's.
        self._model: str | None = None

    def execute(self, context: Context) -> Any:
        """Poll once, then defer; or poke, if not deferrable."""
        if str(self.request_id).strip() == "None":  # what a template without a value renders to
            self.request_id = ""
        end_time = compute_end_time(self.timeout, self.execution_timeout)
        if not self.deferrable or not may_defer(end_time):
            if not self.reschedule:
                self._end_time = end_time
            return super().execute(context)
        self._end_time = end_time
        try:
            poke_result = self.poke(context)
        except AirflowFailException as error:
            # As the base class does with a poke of its own, and when a deferred sensor is resumed.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        if poke_result.is_done:
            return poke_result.xcom_value
        from airflow_provider_wan.triggers.wan import WanI2VTrigger

        trigger = WanI2VTrigger(
            request_id=self.request_id,
            end_time=end_time,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poke_interval,
            not_before=time.time() + MIN_DEFERRAL_SECONDS,
            cancel_policy=CancelPolicy.NEVER,
            model=self._model,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=deferral_timeout(end_time),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. No error of the API ends the wait: the request may be paid for."""
        try:
            record = self._get_request(min(self._end_time, time.time() + MAX_POKE_SECONDS))
        except WanValidationError as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from None
        except WanError as error:
            self.log.warning("Polling again in %s s: %s", self.poke_interval, error)
            return PokeReturnValue(is_done=False)
        self._model = record.model
        return self._evaluate(record)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Process the trigger's event, and poll once more."""
        end_time = float(event.get("end_time") or 0.0)
        result: RequestRecord | WanError | None
        try:
            result = self._get_request(end_time)
        except WanError as error:
            result = error
        over = event.get("status") == WaitStatus.TIMEOUT or time.time() >= end_time
        if not over and not (isinstance(result, RequestRecord) and result.is_final):
            self.log.warning("The triggerer or this worker can't poll request %s: polling here", self.request_id)
            result = self._wait_sync(end_time)
        if isinstance(result, RequestRecord):
            poke_result = self._evaluate(result)
            if poke_result.is_done:
                return poke_result.xcom_value
        raise AirflowSensorTimeout(str(build_timeout_error(self.request_id, result, self.timeout)))

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        """Poke a last time at the deadline, not after it."""
        interval: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return max(0.0, min(interval, self.timeout - run_duration() + 0.1))

    def _get_request(self, deadline: float) -> RequestRecord:
        hook = self._hook()
        hook.client.deadline = deadline
        try:
            return hook.get_request(self.request_id)
        finally:
            hook.client.close()

    def _wait_sync(self, end_time: float) -> RequestRecord | WanError | None:
        target = PollTarget(self.request_id, end_time, not_before=0.0, poll_interval=self.poke_interval)
        outcome = self._hook().wait_sync(
            target,
            lambda status: self.log.info("Request %s is %s", self.request_id, status),
            lambda error: self.log.warning("Polling goes on until the deadline, at increasing intervals: %s", error),
        )
        return outcome.last_result

    def _evaluate(self, record: RequestRecord) -> PokeReturnValue:
        self.log.info("Request %s is %s", record.request_id, record.status_text)
        if record.status is RequestStatus.SUCCESS and record.is_final:
            return PokeReturnValue(is_done=True, xcom_value=clip_result(record))
        if record.is_final:
            raise build_upstream_error(record)
        return PokeReturnValue(is_done=False)

    def _hook(self) -> WanHook:
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id)
