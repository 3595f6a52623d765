# SPDX-License-Identifier: Apache-2.0
"""The operator that does ingest, generation and archive in one task, against a real S3 and the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.clip_task import ClipTask
from dev.testkit.media_files import picture
from dev.testkit.s3_folder import Folder


def make_task(folder: Folder, ledger: Path, run_id: str = "run-1") -> ClipTask:
    given = {
        "source": folder.put("in.png", picture(3000, 2000, "PNG")),
        "target": folder.uri("clips/a.mp4"),
        "prompt": "The tide comes in",
        "resolution": "720P",
        "poll_interval": 0.05,
        "ledger_uri": f"file://{ledger}",
        "deferrable": True,
    }
    return ClipTask(WanImageToVideoOperator, given, run_id)


@pytest.fixture
def task(folder: Folder, sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipTask:
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    return make_task(folder, tmp_path / "ledger")


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_image_becomes_an_archived_clip_in_one_task(
    task: ClipTask, folder: Folder, sandbox: SandboxServer, tmp_path: Path, deferrable: bool
) -> None:
    result = task.run(deferrable=deferrable)

    assert len(task.deferrals) == int(deferrable)
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
    task: ClipTask, folder: Folder, sandbox: SandboxServer, tmp_path: Path
) -> None:
    first = task.run(reuse="content")

    again = task.run(reuse="content")
    other = make_task(folder, tmp_path / "ledger", "run-2").run(reuse="content", target=folder.uri("clips/b.mp4"))

    assert len(sandbox.accepted()) == 1
    assert again["existing"]
    assert (other["uri"], other["sha256"], other["cost"]) == (folder.uri("clips/b.mp4"), first["sha256"], 0.0)


def test_a_clip_that_contradicts_the_request_is_kept_beside_the_target_and_not_delivered(
    task: ClipTask, folder: Folder, sandbox: SandboxServer, tmp_path: Path
) -> None:
    sandbox.inject("echo_other_duration", 1)

    with pytest.raises(AirflowFailException, match=r"duration=10, where 5.* was asked for"):
        task.run()

    (accepted,) = sandbox.accepted()
    assert "clips/a.mp4" not in folder.names()
    (stored,) = open_store(f"file://{tmp_path}/ledger").entries()
    assert stored.entry.archive_uri == folder.uri(f"clips/a-{accepted['request_id']}.mp4")


def test_a_target_that_holds_another_clip_is_refused_before_the_payment(task: ClipTask, sandbox: SandboxServer) -> None:
    task.run()

    with pytest.raises(AirflowFailException, match="holds the clip of request"):
        task.run(prompt="Another clip")

    assert len(sandbox.accepted()) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"target": "s3://wan-media/folder/"}, "must name a file"),
        ({"target": "clips/a.mp4"}, "s3://"),
        (
            {"target": f"s3://wan-media/{'é' * 500}.mp4", "replace": True, "dest_prefix": "s3://wan-media/"},
            "1004 bytes",
        ),
        ({"fit": "error"}, "360 to 2000"),
        ({"frame": "-1"}, "frame"),
        ({"duration": "7"}, "duration"),
    ],
)
def test_what_can_not_succeed_is_refused_before_the_payment(
    task: ClipTask, sandbox: SandboxServer, arguments: dict[str, Any], fault: str
) -> None:
    with pytest.raises(AirflowFailException, match=fault):
        task.run(**arguments)

    assert sandbox.accepted() == []


def test_the_image_is_not_overwritten_by_its_clip(task: ClipTask, folder: Folder, sandbox: SandboxServer) -> None:
    image = folder.head("in.png")["ETag"]
    for target in (folder.uri("in.png"), folder.uri("in.png").replace("s3://", "s3a://")):
        with pytest.raises(AirflowFailException, match=r"target=.*is the source"):
            task.run(target=target, replace=True)

    assert sandbox.accepted() == []
    assert folder.head("in.png")["ETag"] == image


def test_an_image_that_is_cropped_elsewhere_is_another_clip(
    task: ClipTask, folder: Folder, sandbox: SandboxServer
) -> None:
    source = folder.put("wide.png", picture(3000, 300, "PNG"))

    results = [
        task.run(source=source, fit="crop", crop_anchor=anchor, target=folder.uri(f"{anchor}.mp4"))
        for anchor in ("left", "right")
    ]

    assert results[0]["fingerprint"] != results[1]["fingerprint"]
    assert len(sandbox.accepted()) == 2
