# SPDX-License-Identifier: Apache-2.0
"""Dags of one clip: the trigger form, the blocking job, and the errors as a person reads them."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from airflow_provider_wan.links.wan import build_run_path
from airflow_provider_wan.triggers.deferral import MIN_DEFERRAL_SECONDS
from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle


def test_the_fields_of_the_trigger_form_reach_the_api_with_their_types(
    stack: Stack, harness: AirflowHarness, s3: Any
) -> None:
    given = {
        "resolution": "720P",
        "duration": 10,
        "shot_type": "multi",
        "prompt_extend": True,
        "audio": False,
        "watermark": True,
        "seed": 7,
        "negative_prompt": "blur",
    }
    run = harness.start("wan_single_clip", "all fields", target=f"s3://{BUCKET}/made/form.mp4", **given)

    assert run.end(180) == "success"
    (request,) = [
        each["payload"]
        for each in stack.sandbox_admin("accepted")["accepted"]
        if each["payload"].get("prompt") == "all fields"
    ]
    assert {name: request[name] for name in given} == given
    assert all(type(request[name]) is type(value) for name, value in given.items())
    assert s3.head_object(Bucket=BUCKET, Key="made/form.mp4")["ContentType"] == "video/mp4"


def test_a_job_that_is_not_deferrable_keeps_a_worker_busy_and_gives_the_same_clip(
    harness: AirflowHarness, stack: Stack
) -> None:
    with harness.requests_paused():
        run = harness.start("blocking_clip", "blocking")
        wait_for("the request", lambda: harness.accepted("blocking"), seconds=60, parts=list(stack.components.values()))
        (request_id,) = harness.accepted("blocking")
        assert run.tasks()["generate", -1] == "running"
        wait_for("one busy worker", lambda: len(stack.busy_workers()) == 1, seconds=20)
        harness.force(request_id, "success")

    assert run.end(180) == "success"
    assert harness.accepted("blocking") == [request_id]
    assert run.result("archive")["uri"] == f"s3://{BUCKET}/made/blocking_clip.mp4"
    logs = stack.home.logs / "dag_id=blocking_clip"
    assert list(logs.rglob("attempt=1.log"))
    assert list(logs.rglob("*.trigger.*")) == []


@pytest.fixture(scope="module")
def unhappy(harness: AirflowHarness) -> dict[str, DagRunHandle]:
    """Start runs whose requests fail, concurrently."""
    faults = {"failed": "failed_string", "refused": "backend_400", "cancelled": "cancelled", "never": "never_runs"}
    runs = {}
    for prompt, fault in faults.items():
        harness.fault(fault, prompt)
        runs[prompt] = harness.start("patient_clip", prompt)
    for run in runs.values():
        assert run.end(180) == "failed"
    return runs


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("failed", ["WanClipFailedError", "Video generation failed", "not charged"]),
        ("cancelled", ["WanClipCancelledError", "was cancelled", "not charged"]),
        ("never", ["WanClipTimeoutError", "is still 'queued' after 25 s", "clearing this task", "pays nothing"]),
    ],
)
def test_the_task_log_of_a_clip_that_never_came_says_what_happened_and_what_it_cost(
    unhappy: dict[str, DagRunHandle], harness: AirflowHarness, prompt: str, words: list[str]
) -> None:
    (request_id,) = harness.accepted(prompt)

    log = unhappy[prompt].log("generate")

    for each in [request_id, *words]:
        assert each in log
    assert request_id not in harness.charges()


def test_the_task_log_of_a_refused_request_says_that_nothing_was_paid(
    unhappy: dict[str, DagRunHandle], harness: AirflowHarness
) -> None:
    log = unhappy["refused"].log("generate")

    assert "WanBadRequestError" in log
    assert "Backend error (400)" in log
    assert harness.accepted("refused") == []


def test_a_clip_that_came_too_late_is_picked_up_by_clearing_the_task(
    unhappy: dict[str, DagRunHandle], harness: AirflowHarness
) -> None:
    (request_id,) = harness.accepted("never")
    harness.force(request_id, "success")

    unhappy["never"].clear("generate")
    unhappy["never"].wait_for("generate", "success")

    assert unhappy["never"].result("generate")["request_id"] == request_id
    assert harness.accepted("never") == [request_id]
    assert harness.charges()[request_id] == pytest.approx(0.5)


def test_a_run_that_misses_its_deadline_is_reported_with_the_address_of_its_clips(
    unhappy: dict[str, DagRunHandle], stack: Stack
) -> None:
    path = build_run_path("patient_clip", unhappy["never"].run_id)

    def is_reported() -> bool:
        logs = [stack["triggerer"].log_text(), *(each.read_text() for each in stack.home.logs.rglob("*.log"))]
        return any(re.search(f"Clips are late: .*{re.escape(path)}", log) for log in logs)

    wait_for("the report of the late run", is_reported, seconds=60, every=1, parts=list(stack.components.values()))


def test_clips_are_published_after_a_person_has_approved_them(harness: AirflowHarness, stack: Stack, s3: Any) -> None:
    conf = {"images": [harness.photo], "prompt": "to be approved"}
    run = DagRunHandle(harness, "wan_approved_clips", stack.airflow.trigger("wan_approved_clips", conf=conf))

    def is_waiting() -> bool:
        return run.tasks().get(("approve", -1)) in ("awaiting_input", "deferred")

    wait_for("the question", is_waiting, seconds=120, every=0.5, parts=list(stack.components.values()))
    published = {"Bucket": BUCKET, "Prefix": "published/"}
    assert s3.list_objects_v2(**published)["KeyCount"] == 0
    # As a person would: Airflow fails a task that goes on before the scheduler has seen its worker end.
    time.sleep(MIN_DEFERRAL_SECONDS)
    answer = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/approve/-1/hitlDetails"
    stack.airflow.call("PATCH", answer, json={"chosen_options": ["Approve"]})

    assert run.end(120) == "success"
    assert [each["Key"] for each in s3.list_objects_v2(**published)["Contents"]] == [
        f"published/{run.run_id}/{harness.photo.partition('://')[2]}{suffix}" for suffix in (".json", ".mp4")
    ]
    assert f"Published: 1 clips, $0.50: {stack.home.url}{build_run_path(run.dag_id, run.run_id)}" in run.log("publish")
    assert len(harness.accepted("to be approved")) == 1
