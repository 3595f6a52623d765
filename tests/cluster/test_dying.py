# SPDX-License-Identifier: Apache-2.0
"""A waiting clip when its triggerer dies, and when a person intervenes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests

from dev.cluster import Cluster
from dev.component import wait_for
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle

HOLDER = """
    SELECT job.hostname FROM task_instance AS ti JOIN trigger ON trigger.id = ti.trigger_id
    JOIN job ON job.id = trigger.triggerer_id WHERE ti.run_id = %s AND ti.task_id = 'generate'
"""
STORED = """
    SELECT trigger.id, trigger.kwargs FROM task_instance AS ti JOIN trigger ON trigger.id = ti.trigger_id
    WHERE ti.run_id = %s AND ti.task_id = 'generate'
"""
TRIGGERERS = ("triggerer-1", "triggerer-2")
TARGET = f"s3://{BUCKET}/made/cluster"


def waiting(harness: AirflowHarness, prompt: str) -> tuple[DagRunHandle, str]:
    """Start a run whose clip waits; yield it with the id of its request."""
    run = harness.start("wan_single_clip", prompt, target=f"{TARGET}/{prompt}.mp4")
    run.wait_for("generate", "deferred")
    (request_id,) = harness.accepted(prompt)
    return run, request_id


def holder(cluster: Cluster, run: DagRunHandle) -> str | None:
    """Return the triggerer that waits for the run's clip."""
    rows = cluster.rows(HOLDER, run.run_id)
    return str(rows[0][0]) if rows else None


def wait_for_holder(cluster: Cluster, run: DagRunHandle, *, other_than: str | None = None) -> str:
    """Wait until a triggerer waits for the clip, and return the triggerer's name."""
    found: list[str | None] = [None]

    def is_deferred() -> bool:
        found[0] = holder(cluster, run)
        return found[0] not in (None, other_than)

    wait_for("a triggerer to take it", is_deferred, seconds=90, every=0.5)
    return str(found[0])


def logged(run: DagRunHandle, text: str, *, attempt: int) -> bool:
    """Whether an attempt has begun and has logged this text."""
    try:
        return text in run.log("generate", attempt)
    except requests.HTTPError:
        return False


def status(cluster: Cluster, request_id: str) -> str:
    return str(cluster.sandbox_admin(f"requests/{request_id}")["status"])


def test_the_other_triggerer_takes_over_from_one_that_was_killed(cluster: Cluster, harness: AirflowHarness) -> None:
    with harness.requests_paused():
        run, request_id = waiting(harness, "killed")
        first = wait_for_holder(cluster, run)
        cluster.engine.kill(first)
        try:
            second = wait_for_holder(cluster, run, other_than=first)
            wait_for("the other to look", lambda: run.log("generate").count("is queued") >= 1, seconds=60)
            assert status(cluster, request_id) == "queued"
        finally:
            cluster.engine.start(first)
        harness.force(request_id, "success")
        assert run.end(180) == "success"

    assert {first, second} == {"triggerer-1", "triggerer-2"}
    assert harness.accepted("killed") == [request_id]
    assert harness.charges()[request_id] == pytest.approx(0.5)


@contextmanager
def no_triggerer(cluster: Cluster) -> Iterator[None]:
    """Kill both triggerers within the context."""
    for name in TRIGGERERS:
        cluster.engine.kill(name)
    try:
        yield
    finally:
        for name in TRIGGERERS:
            cluster.engine.start(name)


def test_a_task_that_deferred_under_an_older_version_is_resumed_under_this_one(
    cluster: Cluster, harness: AirflowHarness
) -> None:
    with harness.requests_paused():
        run, request_id = waiting(harness, "older")
        wait_for_holder(cluster, run)
        with no_triggerer(cluster):
            ((trigger_id, stored),) = cluster.rows(STORED, run.run_id)
            given = json.loads(stored)
            older = json.dumps({name: given[name] for name in ("request_id", "end_time")})
            assert cluster.rows("UPDATE trigger SET kwargs = %s WHERE id = %s RETURNING id", older, trigger_id)
            harness.force(request_id, "success")
        assert run.end(180) == "success"

    assert harness.accepted("older") == [request_id]


@contextmanager
def frozen(cluster: Cluster, name: str) -> Iterator[None]:
    """Stop a service with SIGSTOP, as on a machine that is out of memory, and continue it."""
    process = psutil.Process(cluster.engine.components[name].pid)
    family = [process, *process.children(recursive=True)]
    for each in family:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in family:
            os.kill(each.pid, signal.SIGCONT)


@pytest.mark.nightly
def test_a_triggerer_that_lost_its_trigger_while_it_stood_still_does_not_cancel_the_request(
    cluster: Cluster, harness: AirflowHarness
) -> None:
    with harness.requests_paused():
        run, request_id = waiting(harness, "frozen")
        first = wait_for_holder(cluster, run)
        wait_for("it to look", lambda: "is queued" in run.log("generate"), seconds=60)
        with frozen(cluster, first):
            wait_for_holder(cluster, run, other_than=first)
        wait_for("the kill of the lost trigger", lambda: "task still waits for it" in run.log("generate"), seconds=60)
        assert status(cluster, request_id) == "queued"
        harness.force(request_id, "success")
        assert run.end(180) == "success"

    assert harness.accepted("frozen") == [request_id]


@pytest.mark.nightly
def test_a_queued_request_is_cancelled_by_mark_failed_and_a_clear_makes_the_clip_once(
    cluster: Cluster, harness: AirflowHarness
) -> None:
    with harness.requests_paused():
        run, request_id = waiting(harness, "marked")
        wait_for("the trigger to look", lambda: "is queued" in run.log("generate"), seconds=60)
        run.mark("generate", "failed")
        wait_for("the cancellation", lambda: status(cluster, request_id) == "cancelled", seconds=60)
        assert run.end() == "failed"
    run.clear("generate", "archive")
    wait_for("the run to go on", lambda: run.tasks()["generate", -1] != "failed", seconds=30, every=0.2)

    assert run.end(180) == "success"

    first, second = harness.accepted("marked")
    assert [each in harness.charges() for each in (first, second)] == [False, True]


@pytest.mark.nightly
def test_a_running_request_is_left_by_a_clear_and_harvested_by_the_next_attempt(
    cluster: Cluster, harness: AirflowHarness
) -> None:
    with harness.requests_paused():
        run, request_id = waiting(harness, "cleared")
        harness.force(request_id, "processing")
        wait_for("the trigger to see it run", lambda: "is processing" in run.log("generate"), seconds=60)
        run.clear("generate", "archive")
        wait_for("the next attempt to wait", lambda: logged(run, "was submitted before", attempt=2), seconds=90)
        assert status(cluster, request_id) == "processing"
        harness.force(request_id, "success")
        assert run.end(180) == "success"

    assert harness.accepted("cleared") == [request_id]
    assert harness.charges()[request_id] == pytest.approx(0.5)
