# SPDX-License-Identifier: Apache-2.0
"""Cleared and killed tasks find their request again, and no clip is paid for twice."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness


def test_a_wait_survives_the_loss_of_the_triggerer(stack: Stack, harness: AirflowHarness) -> None:
    with harness.requests_paused():
        run = harness.start("wan_single_clip", "lost triggerer", target=f"s3://{BUCKET}/made/lost.mp4")
        run.wait_for("generate", "deferred")
        (request_id,) = harness.accepted("lost triggerer")
        stack["triggerer"].kill()
        harness.force(request_id, "success")
        stack["triggerer"].start()

        assert run.end(180) == "success"
    assert harness.accepted("lost triggerer") == [request_id]
    assert harness.charges()[request_id] == pytest.approx(0.5)
    assert run.result("archive")["request_id"] == request_id


def test_clearing_a_finished_clip_neither_pays_nor_downloads_again(
    stack: Stack, harness: AirflowHarness, s3: Any
) -> None:
    target = f"s3://{BUCKET}/made/cleared.mp4"
    run = harness.start("wan_single_clip", "cleared", target=target)
    assert run.end(180) == "success"
    before = s3.head_object(Bucket=BUCKET, Key="made/cleared.mp4")

    run.clear("generate", "archive")
    wait_for("the run to go on", lambda: run.tasks()["archive", -1] != "success", seconds=30, every=0.2)
    assert run.end(180) == "success"

    assert len(harness.accepted("cleared")) == 1
    assert run.result("archive")["existing"] is True
    assert s3.head_object(Bucket=BUCKET, Key="made/cleared.mp4")["LastModified"] == before["LastModified"]


def status(stack: Stack, request_id: str) -> str:
    return str(stack.sandbox_admin(f"requests/{request_id}")["status"])


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="Airflow calls on_kill from 3.3 on")
def test_marking_a_waiting_task_failed_cancels_its_queued_request(stack: Stack, harness: AirflowHarness) -> None:
    with harness.requests_paused():
        run = harness.start("wan_single_clip", "marked failed", target=f"s3://{BUCKET}/made/marked.mp4")
        run.wait_for("generate", "deferred")
        (request_id,) = harness.accepted("marked failed")
        wait_for("the trigger to look", lambda: "is queued" in run.log("generate"), seconds=60)
        run.mark("generate", "failed")
        wait_for("the cancellation", lambda: status(stack, request_id) == "cancelled", seconds=60)
    assert run.end() == "failed"
    assert request_id not in harness.charges()


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="Airflow calls on_kill from 3.3 on")
def test_a_request_that_runs_is_left_alone_by_a_kill_and_picked_up_by_a_clear(
    stack: Stack, harness: AirflowHarness
) -> None:
    with harness.requests_paused():
        run = harness.start("wan_single_clip", "killed late", target=f"s3://{BUCKET}/made/late.mp4")
        run.wait_for("generate", "deferred")
        (request_id,) = harness.accepted("killed late")
        harness.force(request_id, "processing")
        wait_for("the trigger to see it run", lambda: "is processing" in run.log("generate"), seconds=60)
        run.mark("generate", "failed")
        assert run.end() == "failed"
        wait_for("the kill", lambda: "a later attempt resumes it" in run.log("generate"), seconds=60)
        assert status(stack, request_id) == "processing"
        harness.force(request_id, "success")
        run.clear("generate", "archive")
        wait_for("the run to go on", lambda: run.tasks()["generate", -1] != "failed", seconds=30, every=0.2)
        assert run.end(180) == "success"
    assert harness.accepted("killed late") == [request_id]
    assert harness.charges()[request_id] == pytest.approx(0.5)
