# SPDX-License-Identifier: Apache-2.0
"""Runs an operator as Airflow does: execute, the trigger in a loop, and a fresh instance to resume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.triggers import run_trigger

IMAGE = "https://images.example.com/cat.jpg"


@dataclass
class Run:
    """One task instance of one dag run, with what Airflow keeps for it."""

    ledger: str
    run_id: str = "run-1"
    task_id: str = "generate"
    map_index: int = -1
    region: tuple[UUID, int] = (UUID(int=0), -1)
    try_number: int = 0
    conf: dict[str, Any] = field(default_factory=dict)
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: list[TaskDeferred] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            region_id=self.region[0],
            region_index=self.region[1],
            try_number=self.try_number,
            xcom_push=lambda key, value: self.xcoms.__setitem__(key, value),
        )
        return {"ti": ti, "dag_run": SimpleNamespace(conf=self.conf, run_id=self.run_id)}

    def operator(self, **arguments: Any) -> WanI2VOperator:
        given: dict[str, Any] = {
            "img_url": IMAGE,
            "resolution": "720P",
            "poll_interval": 0.05,
            "ledger_uri": self.ledger,
        }
        given["probe_urls"] = False  # nothing is at that URL
        return WanI2VOperator(task_id=self.task_id, **{"deferrable": True, **given, **arguments})

    def try_(self, **arguments: Any) -> Any:
        """One try, to its end."""
        self.try_number += 1
        return self.carry_on(lambda: self.operator(**arguments).execute(self.context()), arguments)

    def carry_on(self, step: Any, arguments: dict[str, Any]) -> Any:
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                self.deferrals.append(deferred)
                event = asyncio.run(run_trigger(deferred.trigger))
                self.events.append(event)
                resumed = self.operator(**arguments)
                method = getattr(resumed, deferred.method_name)
                step = lambda m=method, e=event: m(self.context(), e)  # noqa: E731


@pytest.fixture
def api(connection: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a sandbox that renders no clips; triggers fire without the minimum deferral."""
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    with SandboxServer(
        render="none", speed=1000, run_sigma=0, queue_sigma=0, api_key="key-0123456789abcdef"
    ) as sandbox:
        connection(sandbox.base_url)
        yield sandbox


@pytest.fixture
def run(api: Any, tmp_path: Path) -> Any:
    return Run(ledger=f"file://{tmp_path}/ledger")
