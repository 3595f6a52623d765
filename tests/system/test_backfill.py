# SPDX-License-Identifier: Apache-2.0
"""
A backfill over days that share images, by a real scheduler, three days at a time; then the same again.

By default four small days; ``WAN_FULL_BACKFILL=1`` makes it 14 days of 20 images.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from dev.airflow_home import airflow_command, clean_environment
from dev.stack import ROOT, Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness
from dev.testkit.batch_runs import crops

pytestmark = pytest.mark.nightly
DAG = "wan_dataset_backfill"
FULL = bool(os.environ.get("WAN_FULL_BACKFILL"))
DAYS, IMAGES, DISTINCT = (14, 20, 100) if FULL else (4, 5, 8)
FIRST = date(2026, 1, 5)


@dataclass(frozen=True)
class Backfills:
    """The results of both backfills."""

    first: dict[str, dict[str, Any]]
    second: dict[str, dict[str, Any]]
    first_seconds: float
    second_seconds: float
    charges_before: int
    charges_between: int
    charges_after: int
    most_at_once: int


def format_day(number: int) -> str:
    return f"{FIRST + timedelta(days=number):%Y-%m-%d}"


def backfill(stack: Stack, *options: str) -> tuple[dict[str, dict[str, Any]], float, int]:
    """Create a backfill and wait for it; results by day, seconds, and the most runs at once."""
    last = FIRST + timedelta(days=DAYS - 1)
    command = airflow_command("backfill", "create", "--dag-id", DAG, "--max-active-runs", "3", *options)
    began, started = time.monotonic(), datetime.now(UTC)
    with stack.only_writer():
        done = subprocess.run(
            [*command, "--from-date", f"{FIRST}", "--to-date", f"{last}"],
            env=clean_environment(stack.folder, {"AIRFLOW_HOME": str(stack.home.path)}),
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    most = 0
    while True:
        stack.check()
        runs = [r for r in stack.airflow.pages(f"/dags/{DAG}/dagRuns", "dag_runs") if r["run_type"] == "backfill"]
        most = max(most, sum(run["state"] == "running" for run in runs))
        ended = [run for run in runs if run["state"] in ("success", "failed") and _time(run["end_date"]) > started]
        open_ones = [b for b in stack.airflow.pages("/backfills", "backfills", dag_id=DAG) if not b["completed_at"]]
        if len(ended) == DAYS and not open_ones:
            break
        assert time.monotonic() - began < (3600 if FULL else 600), [(r["dag_run_id"], r["state"]) for r in runs]
        time.sleep(1)
    seconds = time.monotonic() - began
    assert {run["state"] for run in ended} == {"success"}
    results = {run["data_interval_start"][:10]: stack.airflow.xcom(DAG, run["dag_run_id"], "clips") for run in ended}
    return results, seconds, most


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture(scope="module")
def seen(stack: Stack, harness: AirflowHarness, s3: Any) -> Backfills:
    stack.wait_for_dags(DAG)
    pool = {"name": "wan_clips", "slots": 3, "include_deferred": True}
    stack.airflow.call("POST", "/pools", json=pool)
    images = list(crops(DISTINCT, seed=4))
    for day in range(DAYS):
        for index in range(IMAGES):
            # Neighbouring days share most of their images.
            body = images[(day * (DISTINCT // DAYS) + index) % DISTINCT]
            s3.put_object(Bucket=BUCKET, Key=f"datasets/images/{format_day(day)}/{index:02d}.jpg", Body=body)
    before = len(harness.charges())
    first, first_seconds, most = backfill(stack)
    between = len(harness.charges())
    second, second_seconds, _ = backfill(stack, "--reprocess-behavior", "completed")
    after = len(harness.charges())
    figures = f"{DAYS} days of {IMAGES} images, {distinct()} distinct: first {first_seconds:.0f} s"
    print(f"\nbackfill: {figures}, {between - before} charges; again {second_seconds:.0f} s, {after - between} charges")
    return Backfills(first, second, first_seconds, second_seconds, before, between, after, most)


def distinct() -> int:
    return len({(day * (DISTINCT // DAYS) + index) % DISTINCT for day in range(DAYS) for index in range(IMAGES)})


def test_each_distinct_image_is_paid_for_once_though_days_share_them(seen: Backfills) -> None:
    assert distinct() < DAYS * IMAGES
    assert seen.charges_between - seen.charges_before == distinct()
    assert sum(result["cost"] for result in seen.first.values()) == pytest.approx(0.5 * distinct())
    assert seen.most_at_once == 3


def test_every_day_has_all_its_clips(seen: Backfills, s3: Any) -> None:
    assert set(seen.first) == {format_day(day) for day in range(DAYS)}
    for day, result in seen.first.items():
        assert result["archived"] == IMAGES
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"datasets/clips/{day}/")["Contents"]
        assert sum(each["Key"].endswith(".mp4") for each in found) == IMAGES
        key = result["results"].removeprefix(f"s3://{BUCKET}/")
        rows = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()
        assert [json.loads(row)["status"] for row in rows] == ["archived"] * IMAGES


def test_reprocessing_costs_nothing(seen: Backfills) -> None:
    assert seen.charges_after == seen.charges_between
    assert all(result["archived"] == IMAGES for result in seen.second.values())
    if FULL:  # a measurement: a small day is mostly the start of its workers
        assert seen.second_seconds < seen.first_seconds / 2


def test_each_day_has_an_asset_event_of_its_own_prefix(seen: Backfills, stack: Stack) -> None:
    events = [event for event in stack.airflow.pages("/assets/events", "asset_events") if event["source_dag_id"] == DAG]
    extras = {event["uri"].rstrip("/"): event["extra"]["wan"] for event in events}

    assert set(extras) == {f"s3://{BUCKET}/datasets/clips/{format_day(day)}" for day in range(DAYS)}
    assert {each["archived"] for each in extras.values()} == {IMAGES}


def test_a_run_by_hand_on_a_day_without_images_is_green(seen: Backfills, stack: Stack) -> None:
    # Without a logical date there is no data interval.
    run_id = stack.airflow.trigger(DAG)

    assert stack.airflow.wait_for_run(DAG, run_id, seconds=120) == "success"
    assert stack.airflow.xcom(DAG, run_id, "clips")["items"] == 0
