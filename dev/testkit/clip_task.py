# SPDX-License-Identifier: Apache-2.0
"""A task instance of an operator that makes one clip, run as Airflow does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.operators.wan import WanI2VOperator
from dev.testkit.triggers import run_trigger


@dataclass
class ClipTask:
    """One task instance; each try is a fresh operator.

    :param operator: class of the operator.
    :param given: its arguments.
    :param run_id: the dag run.
    """

    operator: type[WanI2VOperator]
    given: dict[str, Any]
    run_id: str = "run-1"
    task_id: str = "clip"
    tries: int = 0
    deferrals: list[TaskDeferred] = field(default_factory=list)
    outlet_events: OutletEventAccessors = field(default_factory=OutletEventAccessors)
    last: Any = None

    def build(self, **arguments: Any) -> WanI2VOperator:
        """Return the operator of one step."""
        self.last = built = self.operator(task_id=self.task_id, **{**self.given, **arguments})
        return built

    def run(self, **arguments: Any) -> Any:
        """One try, to its end."""
        self.tries += 1
        step: Any = lambda operator: operator.execute(self.context())  # noqa: E731
        while True:
            operator = self.build(**arguments)
            try:
                return step(operator)
            except TaskDeferred as deferred:
                self.deferrals.append(deferred)
                event = asyncio.run(run_trigger(deferred.trigger))
                step = lambda fresh, event=event: fresh.execute_complete(self.context(), event)  # noqa: E731

    def context(self) -> Any:
        """Return Airflow's context."""
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=-1,
            try_number=self.tries,
            xcom_push=lambda key, value: None,
        )
        run = SimpleNamespace(conf={}, run_id=self.run_id)
        return {"ti": ti, "dag_run": run, "outlet_events": self.outlet_events}
