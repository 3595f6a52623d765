# SPDX-License-Identifier: Apache-2.0
"""Batches in a real Airflow: in chunks, and while its processes die."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.links.wan import build_run_path
from airflow_provider_wan.sandbox import SandboxServer
from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle
from dev.testkit.batch_runs import charges_by_request, crops
from dev.testkit.browser import find_browser, log_in, open_browser, open_tab, play
from dev.testkit.process_killer import Killer

WORDS = "seen by nobody but the service"


def put_images(s3: Any, prefix: str, count: int, seed: int) -> list[str]:
    """Upload images. :return: their addresses."""
    for number, body in enumerate(crops(count, seed=seed)):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{number:02d}.jpg", Body=body)
    return [f"s3://{BUCKET}/{prefix}/{number:02d}.jpg" for number in range(count)]


def keys(s3: Any, prefix: str) -> set[str]:
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {each["Key"].removeprefix(prefix) for each in found}


@pytest.fixture(scope="module")
def chunks(harness: AirflowHarness, stack: Stack, s3: Any) -> DagRunHandle:
    """A run of a manifest in two chunks, with the ledger that a batch has by default."""
    images = put_images(s3, "rows", 5, 8)
    rows: list[dict[str, Any]] = [{"image": uri, "name": f"clip-{n}", "prompt": WORDS} for n, uri in enumerate(images)]
    rows.append({"image": rows[0]["image"], "duration": 7})
    s3.put_object(Bucket=BUCKET, Key="rows.jsonl", Body="\n".join(map(json.dumps, rows)))
    conf = {"manifest": f"s3://{BUCKET}/rows.jsonl", "output": f"s3://{BUCKET}/chunks/", "chunk": 3}
    run = DagRunHandle(harness, "wan_manifest_batch", stack.airflow.trigger("wan_manifest_batch", conf=conf))
    # A third of the second chunk is bad, which is more than the Dag allows; its good rows are made all the same.
    assert run.end(240) == "failed"
    return run


def test_each_chunk_of_a_manifest_is_a_task_of_its_own(chunks: DagRunHandle, harness: AirflowHarness, s3: Any) -> None:
    assert {key: state for key, state in chunks.tasks().items() if key[0] == "clips"} == {
        ("clips", 0): "success",
        ("clips", 1): "failed",
    }
    assert len(set(harness.accepted(WORDS)) & harness.charges().keys()) == 5
    assert {f"clip-{n}.mp4" for n in range(5)} <= keys(s3, "chunks/")
    below = "chunks/_batch/wan_manifest_batch.clips/"
    (file,) = (key for key in keys(s3, below) if key.endswith("/1/rejected.jsonl"))
    (rejected,) = s3.get_object(Bucket=BUCKET, Key=below + file)["Body"].read().splitlines()
    assert json.loads(rejected)["row"] == 6


@pytest.fixture(scope="module")
def gallery_page(chunks: DagRunHandle, stack: Stack) -> dict[str, Any]:
    """What the gallery shows of the run, once it has read the batch's ledger."""
    page: dict[str, Any] = {}

    def has_been_read() -> bool:
        page.update(stack.airflow.gallery("api/clips", dag_id=chunks.dag_id, run_id=chunks.run_id))
        return len(page["clips"]) == 5

    wait_for("the gallery to read the ledger", has_been_read, seconds=60, parts=list(stack.components.values()))
    return page


def test_the_gallery_shows_the_clips_of_a_batch_whose_ledger_lies_with_its_output(
    gallery_page: dict[str, Any], chunks: DagRunHandle, stack: Stack
) -> None:
    assert {clip["state"] for clip in gallery_page["clips"]} == {"archived"}
    assert sorted(clip["map_index"] for clip in gallery_page["clips"]) == [0, 0, 0, 1, 1]
    assert [batch["done"] for batch in gallery_page["batches"]] == [3, 3]
    assert gallery_page["error"] is None
    scope = {"dag_id": chunks.dag_id, "run_id": chunks.run_id, "task_id": "clips", "map_index": 1}
    assert stack.airflow.gallery("api/clips", **scope)["totals"]["charged"] == pytest.approx(1.0)
    details = stack.airflow.gallery(f"api/clips/{gallery_page['clips'][0]['id']}")
    assert details["parameters"]["prompt"] == WORDS


@pytest.mark.skipif(find_browser() is None, reason="needs Chromium and chromedriver")
def test_a_clip_plays_in_the_gallery_while_airflow_runs(
    gallery_page: dict[str, Any], chunks: DagRunHandle, stack: Stack, tmp_path: Path
) -> None:
    with open_browser(tmp_path / "profile") as browser:
        log_in(browser, stack.home.url, stack.airflow.token)
        open_tab(browser, f"{stack.home.url}{build_run_path(chunks.dag_id, chunks.run_id)}")
        play(browser, gallery_page["clips"][0]["id"])


def test_a_batch_whose_task_and_triggerer_die_pays_once_for_each_clip(
    harness: AirflowHarness, stack: Stack, s3: Any, api: SandboxServer
) -> None:
    api.call(lambda core: core.configure(speed=12.0, concurrency=4))
    put_images(s3, "mortal", 12, 9)
    conf = {"manifest": f"s3://{BUCKET}/mortal/", "output": f"s3://{BUCKET}/survivors/"}
    run = DagRunHandle(harness, "batch_of_clips", stack.airflow.trigger("batch_of_clips", conf=conf))
    with Killer(stack, run, tasks=3, triggerers=2) as killer:
        assert run.end(300) == "success"
    print(f"{killer.tasks} tasks killed, {killer.triggerers} triggerers killed")

    result = run.result("clips")
    assert killer.tasks >= 2
    assert result["archived"] == len(api.accepted()) == len(charges_by_request(api)) == 12
    assert result["cost"] == 6.0
    assert sum(name.endswith(".mp4") for name in keys(s3, "survivors/")) == 12


@pytest.mark.nightly
def test_batches_and_single_clips_of_one_pool_never_exceed_its_requests_in_flight(
    harness: AirflowHarness, stack: Stack, api: SandboxServer
) -> None:
    slots = 3
    api.call(lambda core: core.configure(speed=12.0, queue_seconds=0.0, run_seconds={5: 48.0}))
    stack.airflow.put_pool("wan_account", slots, include_deferred=True)
    conf = {"image": harness.photo, "output": f"s3://{BUCKET}/limited/"}
    run = DagRunHandle(harness, "limited_clips", stack.airflow.trigger("limited_clips", conf=conf))

    assert run.end(300) == "success"
    requests = api.call(lambda core: [(job.created_at, job.ended_at or 0.0) for job in core.jobs])
    most = max(sum(began <= at < ended for began, ended in requests) for at, _ in requests)
    assert len(requests) == len(charges_by_request(api)) == 2 * 4 + 2
    # A batch, whose two slots are for two requests, and a single clip beside it.
    assert 2 <= most <= slots


def test_the_event_of_a_partitions_clips_has_its_key_and_the_summary(
    harness: AirflowHarness, stack: Stack, s3: Any
) -> None:
    day = "2026-11-27"
    put_images(s3, f"images/{day}", 1, 10)
    run_id = stack.airflow.trigger("wan_partitioned_clips", partition_key=day)

    assert DagRunHandle(harness, "wan_partitioned_clips", run_id).end(180) == "success"
    (event,) = stack.airflow.pages("/assets/events", "asset_events", source_run_id=run_id)
    assert event["partition_key"] == day
    assert event["extra"]["wan"]["output_prefix"] == f"s3://{BUCKET}/clips/{day}/"
    assert (event["extra"]["wan"]["archived"], event["extra"]["wan"]["cost"]) == (1, 0.5)


def test_new_images_start_a_run_that_moves_them_away(harness: AirflowHarness, stack: Stack, s3: Any) -> None:
    put_images(s3, "incoming", 1, 11)
    s3.put_object(Bucket=BUCKET, Key="incoming/bad.png", Body=b"not an image")
    run = DagRunHandle(harness, "wan_new_images", stack.airflow.trigger("wan_new_images"))

    assert run.end(180) == "success"
    assert keys(s3, "incoming/") == set()
    assert keys(s3, "done/") == {"00.jpg"}
    assert keys(s3, "failed/") == {"bad.png"}
    assert run.result("clips")["archived"] == 1
