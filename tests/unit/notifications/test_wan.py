# SPDX-License-Identifier: Apache-2.0
"""What is reported of a run."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_wan.notifications.wan import WanRunNotifier

ADDRESS = "https://airflow.example.com/dags/cats/runs/manual__1%2B2/plugin/wan-run"


class Recorder(WanRunNotifier):
    def send(self, message: str) -> None:
        self.message = message


@pytest.fixture(autouse=True)
def base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")


def context(results: Any = None) -> Any:
    run = SimpleNamespace(dag_id="cats", run_id="manual__1+2")
    return {"dag_run": run, "ti": SimpleNamespace(xcom_pull=lambda task_ids: results)}


@pytest.mark.parametrize(
    ("results", "sums"),
    [
        ([{"cost": 0.5}], "1 clips, $0.50"),
        ([[{"cost": 0.5}, {"cost": None}, {"cost": 0.25}]], "3 clips, $0.75"),
        ([{"archived": 40, "cost": 20.0}, None, "text"], "40 clips, $20.00"),
        ([], "0 clips, $0.00"),
        ([{"items": 40, "cost": 20.0, "dry_run": True}], "0 clips, $0.00"),
    ],
)
def test_a_run_is_reported_with_its_clips_their_cost_and_their_address(results: Any, sums: str) -> None:
    notifier = Recorder(text="Done", task_ids=["clip"])
    notifier.notify(context(results))
    assert notifier.message == f"Done: {sums}: {ADDRESS}"


def test_the_callback_of_a_deadline_has_the_run_as_the_api_describes_it_and_no_task() -> None:
    given: Any = {"dag_run": {"dag_id": "cats", "dag_run_id": "manual__1+2"}}
    notifier = Recorder(text="Late", context=given)

    async def wait() -> None:
        await notifier

    asyncio.run(wait())
    assert notifier.message == f"Late: {ADDRESS}"


def test_one_task_may_be_named_without_a_list() -> None:
    asked = []
    given = context()
    given["ti"].xcom_pull = lambda task_ids: asked.append(task_ids)
    Recorder(task_ids="clip").notify(given)
    assert asked == [["clip"]]


def test_a_message_that_takes_its_time_does_not_block_the_triggerer() -> None:
    main = threading.get_ident()

    class Slow(WanRunNotifier):
        def send(self, message: str) -> None:
            self.thread = threading.get_ident()

    notifier = Slow()
    asyncio.run(notifier.async_notify(context()))
    assert notifier.thread != main
