# SPDX-License-Identifier: Apache-2.0
"""Real processes die at random moments, and each clip is paid for once and archived."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from airflow_provider_wan.api.client import WanClient, WanConfig
from airflow_provider_wan.sandbox import SandboxServer
from dev.clips import inspect
from dev.component import wait_for
from dev.stack import Stack
from tests.system.desk import BUCKET, PHOTOS, Desk, Run

CLIPS = 12
TASK_KILLS = 30
TRIGGERER_KILLS = 10
CLEARS = 6
SEED = 3


@pytest.fixture
def api(stack: Stack) -> Iterator[SandboxServer]:
    """A service of its own for these tests, whose books hold nothing else."""
    # It shares its process with the tests: it must not take its own slowness for a dead image host.
    with SandboxServer(render="tiny", speed=4, run_sigma=0.2, queue_sigma=0.2, fetch_seconds=180) as sandbox:
        stack.airflow.put_connection("wan_money", conn_type="wan", host=sandbox.base_url, password=sandbox.api_key)
        yield sandbox


def start(desk: Desk, api: SandboxServer, dag_id: str, count: int) -> Run:
    client = WanClient(WanConfig(api_key=api.api_key, base_url=api.base_url))
    image = client.upload((PHOTOS / "coffee.jpg").read_bytes(), "jpeg")
    return Run(desk, dag_id, desk.stack.airflow.trigger(dag_id, conf={"image": image, "count": count}))


def task_processes(scheduler: int) -> list[psutil.Process]:
    """The processes in which tasks run: each the child of one of the executor's workers."""
    found = []
    for process in psutil.Process(scheduler).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("airflow worker -- ") and "LocalExecutor" not in title:
            found.append(process)
    return found


class Killer(threading.Thread):
    """Kills task processes and the triggerer, and clears tasks that wait, by a seeded plan, until its work is done."""

    def __init__(self, stack: Stack, run: Run) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.run_ = run
        self.tasks = self.triggerers = self.clears = 0
        self.over = threading.Event()
        self._random = random.Random(SEED)

    def run(self) -> None:
        while not self.over.wait(self._random.uniform(0.4, 1.4)):
            if self.tasks < TASK_KILLS:
                self._kill_a_task()
            try:
                deferred = [key for key, state in self.run_.tasks().items() if state == "deferred"]
            except requests.RequestException:
                continue  # a busy API server is no reason to stop killing
            if deferred and self.triggerers < TRIGGERER_KILLS and self._random.random() < 0.3:
                self.stack["triggerer"].kill()
                self.stack["triggerer"].start()
                self.triggerers += 1
            if deferred and self.clears < CLEARS and self._random.random() < 0.2:
                task_id, map_index = self._random.choice(deferred)
                self.run_.clear([task_id, map_index])  # type: ignore[arg-type]
                self.clears += 1

    def _kill_a_task(self) -> None:
        processes = task_processes(self.stack["scheduler"].pid)
        if processes:
            victim = self._random.choice(processes)
            try:
                victim.kill()
                self.tasks += 1
            except psutil.NoSuchProcess:
                pass


def test_whatever_dies_each_clip_is_paid_for_once_and_archived(
    stack: Stack, desk: Desk, s3: Any, api: SandboxServer, tmp_path: Path
) -> None:
    run = start(desk, api, "many_clips", CLIPS)
    killer = Killer(stack, run)
    killer.start()
    try:
        assert run.end(420) == "success"
        # Where the clips were done before the plan was, the rest of it falls on clears of finished tasks.
        while killer.tasks < TASK_KILLS or killer.triggerers < TRIGGERER_KILLS:
            run.clear("clip.generate", "clip.archive")
            wait_for("the run to go on", lambda: set(run.tasks().values()) != {"success"}, seconds=30, every=0.2)
            assert run.end(300) == "success"
    finally:
        killer.over.set()
        killer.join(60)
    print(f"{killer.tasks} tasks killed, {killer.triggerers} triggerers killed, {killer.clears} tasks cleared")

    accepted = Counter(each["payload"]["prompt"] for each in api.accepted())
    charged = Counter(each["request_id"] for each in api.charges())
    assert accepted == {f"clip {n}": 1 for n in range(CLIPS)}
    assert len(charged) == CLIPS
    assert set(charged.values()) == {1}
    for n in range(CLIPS):
        s3.download_file(BUCKET, f"many/{n}.mp4", str(tmp_path / f"{n}.mp4"))
        assert inspect(tmp_path / f"{n}.mp4").seconds == pytest.approx(5, abs=0.2)


def test_forty_clips_that_are_done_at_once_are_forty_successes_and_forty_charges(
    desk: Desk, api: SandboxServer
) -> None:
    # A trigger that fires within some seconds of its deferral can make Airflow fail the task.
    api.call(lambda core: core.configure(speed=100.0, run_sigma=0.0, queue_sigma=0.0, render="none"))
    run = start(desk, api, "quick_clips", 40)
    assert run.end(420) == "success"
    assert Counter(run.tasks().values()) == {"success": 41}
    assert len(api.accepted()) == len(api.charges()) == 40
