# SPDX-License-Identifier: Apache-2.0
"""Real processes die at random moments, and each clip is paid for once and archived."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.client import WanClient, WanConfig
from airflow_provider_wan.sandbox import SandboxServer
from dev.clips import inspect
from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, PHOTOS, AirflowHarness, DagRunHandle
from dev.testkit.process_killer import Killer

# How often finished tasks are run again if they end before all kills.
ROUNDS = 5


def start(harness: AirflowHarness, api: SandboxServer, dag_id: str, count: int) -> DagRunHandle:
    client = WanClient(WanConfig(api_key=api.api_key, base_url=api.base_url))
    image = client.upload((PHOTOS / "coffee.jpg").read_bytes(), "jpeg")
    return DagRunHandle(harness, dag_id, harness.stack.airflow.trigger(dag_id, conf={"image": image, "count": count}))


@pytest.mark.parametrize(("clips", "kills"), [(4, 6), pytest.param(12, 30, marks=pytest.mark.nightly)])
def test_whatever_dies_each_clip_is_paid_for_once_and_archived(
    stack: Stack, harness: AirflowHarness, s3: Any, api: SandboxServer, tmp_path: Path, clips: int, kills: int
) -> None:
    # Clips run and don't end by themselves, so that their waits are disturbed as often as is planned.
    api.call(lambda core: core.configure(queue_seconds=0.0, run_seconds={5: 1e6}))
    run = start(harness, api, "many_clips", clips)
    run.wait_for("plan", "success")
    with Killer(stack, run, tasks=kills * 2 // 3, triggerers=kills // 3, clears=kills // 5) as first:
        wait_for("the waits to be disturbed", first.waits_disturbed, seconds=300, every=0.5)
    wait_for("every clip to be asked for", lambda: len(api.accepted()) >= clips, seconds=120, every=0.5)
    for each in api.accepted():
        api.finish(each["request_id"])
    with Killer(stack, run, tasks=kills - first.tasks) as second:
        assert run.end(300) == "success"
        for _ in range(ROUNDS):
            if first.tasks + second.tasks == kills:
                break
            run.clear("clip.generate", "clip.archive")
            wait_for("the run to go on", lambda: set(run.tasks().values()) != {"success"}, seconds=30, every=0.2)
            assert run.end(300) == "success"
    assert first.tasks + second.tasks == kills

    accepted = Counter(each["payload"]["prompt"] for each in api.accepted())
    charged = Counter(each["request_id"] for each in api.charges())
    assert accepted == {f"clip {n}": 1 for n in range(clips)}
    assert len(charged) == clips
    assert set(charged.values()) == {1}
    for n in range(clips):
        s3.download_file(BUCKET, f"many/{n}.mp4", str(tmp_path / f"{n}.mp4"))
        assert inspect(tmp_path / f"{n}.mp4").seconds == pytest.approx(5, abs=0.2)


@pytest.mark.nightly
def test_forty_clips_that_are_done_at_once_are_forty_successes_and_forty_charges(
    harness: AirflowHarness, api: SandboxServer
) -> None:
    # A trigger that fires within some seconds of its deferral can make Airflow fail the task.
    api.call(lambda core: core.configure(speed=100.0, run_sigma=0.0, queue_sigma=0.0, render="none"))
    run = start(harness, api, "quick_clips", 40)
    assert run.end(420) == "success"
    assert Counter(run.tasks().values()) == {"success": 41}
    assert len(api.accepted()) == len(api.charges()) == 40
