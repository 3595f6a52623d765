# SPDX-License-Identifier: Apache-2.0
"""
The same images, made into clips in three ways by a real Airflow: ``python -m benchmarks.ways``, part of
``make bench-batch``.

For each way: the workers that were started, the CPU time of scheduler and workers, and the time from trigger to end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psutil

from benchmarks.batch import publish
from dev.stack import ROOT, Stack
from dev.testkit.batch_runs import crops

BUCKET = "wan-media"
FOLDER = ROOT / ".run" / "bench-ways"
#: Number of images of the published figures.
IMAGES = 40
LIMIT_SECONDS = 1800.0


def ways(images: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Dag and parameters by way."""
    chunks = {"manifest": f"s3://{BUCKET}/rows.jsonl", "output": f"s3://{BUCKET}/ways/chunks/", "chunk": images // 4}
    return {
        "mapped tasks": ("wan_image_to_video", {}),
        "a batch": ("wan_dataset_backfill", {}),
        "mapped batches": ("wan_manifest_batch", chunks),
    }


def put_images(s3: Any, day: str, images: int) -> None:
    """Upload the same images for each way."""
    rows = []
    for number, body in enumerate(crops(images, seed=21)):
        for prefix in ("images", "datasets/images"):
            s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{day}/{number:03d}.jpg", Body=body)
        rows.append(json.dumps({"image": f"s3://{BUCKET}/images/{day}/{number:03d}.jpg"}))
    s3.put_object(Bucket=BUCKET, Key="rows.jsonl", Body="\n".join(rows))


def cpu_seconds(root: int) -> float:
    """CPU time of a process, of those below it, and of those of them that have ended."""
    total = 0.0
    for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def measure(stack: Stack, dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a Dag to its end."""
    scheduler = stack["scheduler"]
    charges = len(stack.sandbox_admin("charges")["charges"])
    before, read = cpu_seconds(scheduler.pid), len(scheduler.log_text())
    run_id = stack.airflow.trigger(dag_id, conf=conf)
    state = stack.airflow.wait_for_run(dag_id, run_id, seconds=LIMIT_SECONDS)
    run = stack.airflow.run(dag_id, run_id)
    started = [line for line in scheduler.log_text()[read:].splitlines() if "Worker startup parse complete" in line]
    return {
        "state": state,
        "workers": len(started),
        "cpu_seconds": round(cpu_seconds(scheduler.pid) - before, 1),
        "seconds": round(_seconds(run), 1),
        "charges": len(stack.sandbox_admin("charges")["charges"]) - charges,
    }


def _seconds(run: dict[str, Any]) -> float:
    ended, began = (datetime.fromisoformat(run[name].replace("Z", "+00:00")) for name in ("end_date", "start_date"))
    return (ended - began).total_seconds()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args(arguments)
    shutil.rmtree(FOLDER, ignore_errors=True)
    figures: dict[str, Any] = {}
    with Stack(FOLDER, dags={"dags": ROOT / "dags"}, speed=12) as stack:
        s3 = stack.s3_client()
        s3.create_bucket(Bucket=BUCKET)
        runs = ways(options.images)
        stack.wait_for_dags(*(dag_id for dag_id, _ in runs.values()))
        stack.airflow.call("POST", "/pools", json={"name": "wan_clips", "slots": 3, "include_deferred": True})
        # A run without a logical date is about the day on which it is made.
        put_images(s3, f"{datetime.now(UTC):%Y-%m-%d}", options.images)
        for name, (dag_id, conf) in runs.items():
            figures[name] = measure(stack, dag_id, conf)
            print(f"{name}: {figures[name]}", flush=True)
    if options.images == IMAGES:
        publish({"ways": {"images": IMAGES, "figures": figures}})
    return 0 if all(each["charges"] == options.images for each in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
