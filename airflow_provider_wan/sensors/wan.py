# SPDX-License-Identifier: Apache-2.0
"""The sensor for a request that was submitted elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.links.wan import WanRequestLink
from airflow_provider_wan.operators.task_result import build_error, build_upstream_error, clip_result
from airflow_provider_wan.polling.decision import WaitStatus
from airflow_provider_wan.triggers.cancellation import CancelPolicy
from airflow_provider_wan.triggers.deferral import MIN_DEFERRAL_SECONDS, deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.hooks.wan import WanHook


class WanRequestSensor(BaseSensorOperator):
    """Wait for a request that was submitted elsewhere, and return its result.

    It never submits or cancels: the request belongs to another task.

    :param request_id: the request (templated).
    :param wan_conn_id: id of a connection of type ``wan`` (templated).
    :param deferrable: wait in the triggerer; Airflow's ``default_deferrable`` by default.
    :param poke_interval: seconds between polls.
    :param timeout: how long to wait, in seconds or as a timedelta.
    :returns: ``{"request_id", "status", "video_url", "thumbnail_url"}``.
    :raises AirflowFailException: if the request failed, was cancelled or is unknown.
    """

    template_fields: Sequence[str] = ("request_id", "wan_conn_id")
    operator_extra_links = (WanRequestLink(),)
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

    def execute(self, context: Context) -> Any:
        """Poll once, then defer; or poke, if not deferrable."""
        self._persist_link(context)
        if not self.deferrable:
            return super().execute(context)
        poke_result = self.poke(context)
        if poke_result.is_done:
            return poke_result.xcom_value
        from airflow_provider_wan.triggers.wan import WanI2VTrigger

        now = time.time()
        end_time = now + self.timeout
        trigger = WanI2VTrigger(
            request_id=self.request_id,
            end_time=end_time,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poke_interval,
            not_before=now + MIN_DEFERRAL_SECONDS,
            cancel_policy=CancelPolicy.NEVER,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=deferral_timeout(end_time),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once."""
        try:
            return self._evaluate(self._hook().get_request(self.request_id))
        except WanError as error:
            if not error.retryable:
                raise AirflowFailException(f"{type(error).__name__}: {error}") from error
            self.log.warning("Polling again in %s s: %s", self.poke_interval, error)
            return PokeReturnValue(is_done=False)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Process the trigger's event, and poll once more."""
        self._persist_link(context)
        try:
            record = self._hook().get_request(self.request_id)
        except WanError as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        poke_result = self._evaluate(record)
        if poke_result.is_done:
            return poke_result.xcom_value
        unfinished = build_error(record, waited=f" after {self.timeout:.0f} s")
        if event.get("status") == WaitStatus.TIMEOUT:
            raise AirflowSensorTimeout(str(unfinished))
        raise AirflowFailException(f"The trigger ended with {event.get('status')!r}. {unfinished}")

    def _evaluate(self, record: RequestRecord) -> PokeReturnValue:
        self.log.info("Request %s is %s", record.request_id, record.status_text)
        if record.status is RequestStatus.SUCCESS:
            return PokeReturnValue(is_done=True, xcom_value=clip_result(record))
        if record.status.is_terminal:
            raise build_upstream_error(record)
        return PokeReturnValue(is_done=False)

    def _hook(self) -> WanHook:
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id)

    def _persist_link(self, context: Context) -> None:
        base_url = self._hook().config.base_url
        WanRequestLink.persist(context, f"{base_url}/requests/{self.request_id}")
