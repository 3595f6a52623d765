# SPDX-License-Identifier: Apache-2.0
"""A task's pod is evicted: SIGTERM to all its processes, and SIGKILL after the grace period."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from airflow.sdk.execution_time import supervisor

from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle

GRACE_SECONDS = 5
# 3.4.0b2 does not pass on the SIGTERM that its supervisor gets, so no task hears of the eviction.
PASSES_SIGTERM_ON = "_forward_signal" in inspect.getsource(supervisor)

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowHarness]:
    """An Airflow whose tasks are processes such as KubernetesExecutor's pods have."""
    options = {"core": {"executor": "dev.testkit.pod_executor.PodExecutor"}}
    dags = {"tests": Path(__file__).with_name("dags")}
    with Stack(tmp_path_factory.mktemp("pods"), dags=dags, speed=12, airflow_options=options) as stack:
        stack.s3_client().create_bucket(Bucket=BUCKET)
        stack.wait_for_dags("evicted_clip")
        yield AirflowHarness(stack)


def find_pod(harness: AirflowHarness) -> psutil.Process:
    """The first process of the only pod that runs: the executor gives each pod a session of its own."""
    stack = harness.stack
    assert isinstance(stack, Stack)
    children = psutil.Process(stack["scheduler"].pid).children()
    (pod,) = (child for child in children if os.getsid(child.pid) == child.pid)
    return pod


def evict(pod: psutil.Process) -> None:
    family = [pod, *pod.children(recursive=True)]
    os.killpg(pod.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=GRACE_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)


def wait_for_request(harness: AirflowHarness, prompt: str, count: int = 1) -> str:
    # Each pod imports Airflow anew.
    wait_for("the request", lambda: len(harness.accepted(prompt)) == count, seconds=240)
    return harness.accepted(prompt)[-1]


def test_a_clip_that_is_being_made_is_picked_up_by_the_next_pod(pods: AirflowHarness) -> None:
    with pods.requests_paused():
        run = pods.start("evicted_clip", "evicted while it runs")
        request_id = wait_for_request(pods, "evicted while it runs")
        pods.force(request_id, "processing")
        wait_for("the wait", lambda: "is processing" in run.log("generate"), seconds=60)
        evict(find_pod(pods))
        wait_for("the next attempt", lambda: has_begun(run, attempt=2), seconds=240)
        pods.force(request_id, "success")

    assert run.end(240) == "success"
    assert pods.accepted("evicted while it runs") == [request_id]
    assert pods.charges()[request_id] == pytest.approx(0.5)


@pytest.mark.skipif(not PASSES_SIGTERM_ON, reason="this Airflow does not tell a task that its pod is evicted")
def test_a_clip_that_is_only_queued_is_cancelled_unpaid_and_made_by_the_next_pod(pods: AirflowHarness) -> None:
    with pods.requests_paused():
        run = pods.start("evicted_clip", "evicted while it queues")
        first = wait_for_request(pods, "evicted while it queues")
        wait_for("the wait", lambda: "is queued" in run.log("generate"), seconds=60)
        evict(find_pod(pods))
        second = wait_for_request(pods, "evicted while it queues", count=2)
        pods.force(second, "success")

    assert run.end(240) == "success"
    assert first not in pods.charges()
    assert pods.charges()[second] == pytest.approx(0.5)


def has_begun(run: DagRunHandle, attempt: int) -> bool:
    instances = run.harness.stack.airflow.task_instances(run.dag_id, run.run_id, "generate")
    return any(each["try_number"] == attempt and each["state"] == "running" for each in instances)
