# SPDX-License-Identifier: Apache-2.0
"""The operator that does ingest, generation and archive in one task, against a real S3 and the sandbox."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.media_files import picture
from dev.testkit.s3_folder import Folder
from dev.testkit.triggers import run_trigger


class Task:
    """One task instance; each try is a fresh operator."""

    def __init__(self, folder: Folder, ledger: Path, run_id: str = "run-1") -> None:
        self.deferrals = 0
        self.outlet_events = OutletEventAccessors()
        self.last: WanImageToVideoOperator | None = None
        self.tries = 0
        self._run_id = run_id
        self._given = {
            "source": folder.put("in.png", picture(3000, 2000, "PNG")),
            "target": folder.uri("clips/a.mp4"),
            "prompt": "The tide comes in",
            "resolution": "720P",
            "poll_interval": 0.05,
            "ledger_uri": f"file://{ledger}",
            "deferrable": True,
        }

    def run(self, **arguments: Any) -> Any:
        self.tries += 1
        step: Any = lambda operator: operator.execute(self._context())  # noqa: E731
        while True:
            self.last = operator = WanImageToVideoOperator(task_id="clip", **{**self._given, **arguments})
            try:
                return step(operator)
            except TaskDeferred as deferred:
                self.deferrals += 1
                event = asyncio.run(run_trigger(deferred.trigger))
                step = lambda fresh, event=event: fresh.execute_complete(self._context(), event)  # noqa: E731

    def _context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=self._run_id,
            task_id="clip",
            map_index=-1,
            try_number=self.tries,
            xcom_push=lambda key, value: None,
        )
        run = SimpleNamespace(conf={}, run_id=self._run_id)
        return {"ti": ti, "dag_run": run, "outlet_events": self.outlet_events}


@pytest.fixture
def task(folder: Folder, sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    return Task(folder, tmp_path / "ledger")


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_image_becomes_an_archived_clip_in_one_task(
    task: Task, folder: Folder, sandbox: SandboxServer, tmp_path: Path, deferrable: bool
) -> None:
    result = task.run(deferrable=deferrable)

    assert task.deferrals == int(deferrable)
    (accepted,) = sandbox.accepted()
    assert result["request_id"] == accepted["request_id"]
    assert (result["uri"], result["existing"], result["cost"]) == (folder.uri("clips/a.mp4"), False, 0.5)
    assert folder.head("clips/a.mp4")["ContentLength"] == result["size"]
    assert json.loads(json.dumps(result)) == result
    ((asset, event),) = task.outlet_events.items()
    extra: Any = event.extra["wan"]
    assert asset.name == folder.uri("clips/")
    assert (extra["uri"], extra["sha256"], extra["cost"]) == (result["uri"], result["sha256"], 0.5)
    lineage = task.last.get_openlineage_facets_on_complete(None)
    for side, name in ((lineage.inputs, "in.png"), (lineage.outputs, "clips/a.mp4")):
        assert [f"{each.namespace}/{each.name}" for each in side] == [folder.uri(name)]
    stored = open_store(f"file://{tmp_path}/ledger").read(result["fingerprint"])
    assert stored is not None
    assert (stored.entry.state, stored.entry.archive_uri) == (EntryState.ARCHIVED, folder.uri("clips/a.mp4"))


def test_a_second_try_and_another_run_pay_for_nothing(
    task: Task, folder: Folder, sandbox: SandboxServer, tmp_path: Path
) -> None:
    first = task.run(reuse="content")

    again = task.run(reuse="content")
    other = Task(folder, tmp_path / "ledger", "run-2").run(reuse="content", target=folder.uri("clips/b.mp4"))

    assert len(sandbox.accepted()) == 1
    assert again["existing"]
    assert (other["uri"], other["sha256"], other["cost"]) == (folder.uri("clips/b.mp4"), first["sha256"], 0.0)


def test_a_target_that_holds_another_clip_is_refused_before_the_payment(task: Task, sandbox: SandboxServer) -> None:
    task.run()

    with pytest.raises(AirflowFailException, match="holds the clip of request"):
        task.run(prompt="Another clip")

    assert len(sandbox.accepted()) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"target": "s3://wan-media/folder/"}, "must name a file"),
        ({"target": "clips/a.mp4"}, "s3://"),
        ({"fit": "error"}, "360 to 2000"),
        ({"frame": "-1"}, "frame"),
        ({"duration": "7"}, "duration"),
    ],
)
def test_what_can_not_succeed_is_refused_before_the_payment(
    task: Task, sandbox: SandboxServer, arguments: dict[str, Any], fault: str
) -> None:
    with pytest.raises(AirflowFailException, match=fault):
        task.run(**arguments)

    assert sandbox.accepted() == []


def test_an_image_that_is_cropped_elsewhere_is_another_clip(task: Task, folder: Folder, sandbox: SandboxServer) -> None:
    source = folder.put("wide.png", picture(3000, 300, "PNG"))

    results = [
        task.run(source=source, fit="crop", crop_anchor=anchor, target=folder.uri(f"{anchor}.mp4"))
        for anchor in ("left", "right")
    ]

    assert results[0]["fingerprint"] != results[1]["fingerprint"]
    assert len(sandbox.accepted()) == 2
