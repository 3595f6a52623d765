# SPDX-License-Identifier: Apache-2.0
"""The example Dag ``wan_image_to_video`` from images to checked clips in S3."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.ledger.stores import open_store
from dev import leaks
from dev.clips import faults, inspect
from dev.component import wait_for
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, PHOTOS, AirflowHarness, DagRunHandle

DAG = "wan_image_to_video"
# cat.jpg and the upright rocket.jpg are smaller than the API's minimum.
GOOD = {"cat": 451 / 300, "coffee": 600 / 400, "rocket": 320 / 427}
BAD = "broken"
IMAGES = sorted([*GOOD, BAD])


@dataclass(frozen=True)
class Seen:
    """The run, and observations while all its clips waited."""

    run: DagRunHandle
    end: str
    busy_workers: list[str]
    states: Counter[str]
    trigger_arguments: list[str]


@pytest.fixture(scope="module")
def seen(stack: Stack, harness: AirflowHarness, s3: Any) -> Seen:
    """Three photographs and a text file named .jpg, on the day before 2026-03-02."""
    for name in GOOD:
        s3.upload_file(str(PHOTOS / f"{name}.jpg"), BUCKET, f"images/2026-03-01/{name}.jpg")
        s3.upload_file(str(PHOTOS / f"{name}.txt"), BUCKET, f"images/2026-03-01/{name}.txt")
    s3.put_object(Bucket=BUCKET, Key=f"images/2026-03-01/{BAD}.jpg", Body=b"this is no picture\n" * 100)

    def waiting() -> bool:
        return Counter(run.tasks().values())["deferred"] == len(GOOD) and not stack.busy_workers()

    with harness.requests_paused():
        run = DagRunHandle(harness, DAG, stack.airflow.trigger(DAG, logical_date=datetime(2026, 3, 2, tzinfo=UTC)))
        wait_for("all clips to wait", waiting, seconds=120, every=0.5)
        busy, states = stack.busy_workers(), stack.airflow.states(DAG, run.run_id)
        arguments = leaks.trigger_arguments(stack.home.database, stack.home.fernet_key)
        for each in stack.sandbox_admin("accepted")["accepted"]:
            harness.force(each["request_id"], "success")
    return Seen(run, run.end(180), busy, states, arguments)


def test_while_clips_wait_their_tasks_are_deferred_and_no_worker_is_busy(seen: Seen) -> None:
    assert seen.states["deferred"] == len(GOOD)
    assert not seen.states.keys() & {"running", "queued", "scheduled"}
    assert seen.busy_workers == []


@pytest.mark.parametrize("name", sorted(GOOD))
def test_each_image_becomes_a_whole_clip_of_its_shape_beside_its_record(
    seen: Seen, s3: Any, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "clip.mp4"
    s3.download_file(BUCKET, f"clips/2026-03-01/{name}.mp4", str(path))
    record = json.loads(s3.get_object(Bucket=BUCKET, Key=f"clips/2026-03-01/{name}.json")["Body"].read())
    index = IMAGES.index(name)

    facts = inspect(path)

    assert faults(facts, seconds=5, pixels=1280 * 720, audio=True, aspect=GOOD[name]) == []
    assert seen.run.result("clip.archive", index)["sha256"] == facts.sha256
    assert facts.sha256 in json.dumps(record)
    assert seen.run.result("clip.generate", index)["request_id"] in json.dumps(record)


def test_an_image_that_is_none_fails_alone_before_anything_is_paid(seen: Seen) -> None:
    states = seen.run.tasks()
    index = IMAGES.index(BAD)

    assert seen.end == "failed"
    assert states["clip.ingest", index] == "failed"
    assert states["clip.generate", index] == states["clip.archive", index] == "upstream_failed"
    assert all(states["clip.archive", IMAGES.index(name)] == "success" for name in GOOD)


def test_each_clip_is_charged_once_at_the_price_that_was_foretold(seen: Seen, harness: AirflowHarness) -> None:
    charges = harness.charges()

    for name in GOOD:
        made = seen.run.result("clip.generate", IMAGES.index(name))
        prompt = (PHOTOS / f"{name}.txt").read_text(encoding="utf-8").strip()
        assert harness.accepted(prompt) == [made["request_id"]]
        assert charges[made["request_id"]] == pytest.approx(made["cost"]) == pytest.approx(0.5)


def test_with_localexecutor_the_ledger_is_a_folder_below_airflow_home(seen: Seen, stack: Stack) -> None:
    entries = [stored.entry for stored in open_store(f"file://{stack.home.path}/wan-ledger").entries()]

    made = {seen.run.result("clip.generate", IMAGES.index(name))["request_id"] for name in GOOD}
    assert made <= {entry.request_id for entry in entries if entry.state is EntryState.ARCHIVED}


def test_the_triggerers_log_names_each_request(seen: Seen, stack: Stack) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in stack.home.logs.rglob("*.trigger.*"))

    for name in GOOD:
        assert seen.run.result("clip.generate", IMAGES.index(name))["request_id"] in text


def test_neither_key_nor_prompt_nor_signed_url_is_in_database_logs_or_trigger(seen: Seen, stack: Stack) -> None:
    prompts = {f"prompt of {name}": (PHOTOS / f"{name}.txt").read_text(encoding="utf-8").strip() for name in GOOD}
    keys = {"the API key": stack.api_key, "the S3 secret key": stack.s3_keys[1]}
    secrets = leaks.Secrets(keys, prompts, frozenset({"ingest"}))

    found = leaks.scan_database(stack.home.database, stack.home.fernet_key, secrets)
    found += leaks.scan_files([stack.logs, stack.home.logs], secrets)
    found += [leak for text in seen.trigger_arguments for leak in secrets.find(text, "arguments", trigger=True)]

    assert len(seen.trigger_arguments) == len(GOOD)
    assert found == []


def test_a_backfill_makes_the_clips_of_past_days_and_a_day_without_images_is_green(
    stack: Stack, harness: AirflowHarness, s3: Any
) -> None:
    s3.upload_file(str(PHOTOS / "coffee.jpg"), BUCKET, "images/2026-02-10/coffee.jpg")
    days = {"from_date": "2026-02-10T00:00:00Z", "to_date": "2026-02-11T00:00:00Z"}

    with stack.only_writer():
        stack.airflow.call("POST", "/backfills", json={"dag_id": DAG, **days, "dag_run_conf": {}})

    made = [each for each in stack.airflow.runs(DAG) if each["run_type"] == "backfill"]
    made.sort(key=lambda each: str(each["data_interval_start"]))
    with_image, without = (DagRunHandle(harness, DAG, each["dag_run_id"]) for each in made)
    assert with_image.end() == without.end() == "success"
    assert Counter(with_image.tasks().values()) == {"success": 4}
    assert Counter(without.tasks().values()) == {"success": 1, "skipped": 3}
    assert with_image.result("clip.archive", 0)["uri"] == f"s3://{BUCKET}/clips/2026-02-10/coffee.mp4"
