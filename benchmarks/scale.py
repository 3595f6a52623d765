# SPDX-License-Identifier: Apache-2.0
"""
What a clip takes in batches of ever more clips: CPU, requests to S3 and to the API, and memory.
``python -m benchmarks.scale --clips 100 1000 10000``.

Each batch is a process of its own; SeaweedFS and the sandbox, whose clips end after a second, run beside it. The images
have the same bytes, and each row has its own prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_wan.sandbox import SandboxServer
from benchmarks.archive import peak_mb
from benchmarks.growth import count_requests
from benchmarks.report import ROOT, save
from dev.seaweed import SeaweedFS
from dev.testkit.batch_runs import BatchTask, crops
from dev.testkit.s3_folder import BUCKET, Folder

IN_FLIGHT = 200
ARGUMENTS = {"max_in_flight": IN_FLIGHT, "submits_per_second": 100, "poll_interval": 5.0, "deferrable": False}


def work(prefix: str) -> dict[str, Any]:
    """Run the batch in this process."""
    folder = Folder(None, prefix)
    job = BatchTask(folder, {**ARGUMENTS, "manifest": folder.uri("manifest.jsonl")})
    began, cpu = time.perf_counter(), time.process_time()
    with count_requests() as counted:
        result = job.operator().execute(job.context())
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "s3_requests": counted.total(),
        "s3_by_operation": dict(counted.most_common()),
        "peak_mb": round(peak_mb()),
        "archived": result["archived"],
    }


def measure(s3: SeaweedFS, clips: int) -> dict[str, Any]:
    """Run one batch against a new sandbox."""
    folder = Folder(s3.client(), f"scale-{clips}")
    (image,) = crops(1, seed=3)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: folder.put(f"images/{number:06d}.jpg", image), range(clips)):
            pass
    rows = [{"image": folder.uri(f"images/{number:06d}.jpg"), "prompt": f"clip {number}"} for number in range(clips)]
    folder.put("manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    options: dict[str, Any] = {"speed": 60.0, "seed": 3, "render": "tiny", "queue_seconds": 1.0}
    with SandboxServer(api_key="bench", **options) as sandbox:
        connection = {"conn_type": "wan", "host": sandbox.base_url, "password": sandbox.api_key}
        env = {
            **os.environ,
            "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
            "AIRFLOW_CONN_WAN_DEFAULT": json.dumps(connection),
        }
        command = [sys.executable, "-m", "benchmarks.scale", "--work", folder.prefix]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
        found = json.loads(done.stdout.splitlines()[-1])
        return {
            "clips": clips,
            **found,
            "api_requests": sandbox.counters()["calls"],
            "charges": len({each["request_id"] for each in sandbox.charges()}),
            "cpu_ms_per_clip": round(1000 * found["cpu_seconds"] / clips, 1),
            "s3_requests_per_clip": round(found["s3_requests"] / clips, 2),
            "api_requests_per_clip": round(sandbox.counters()["calls"] / clips, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="*", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work)))
        return
    results = []
    with SeaweedFS() as s3:
        s3.client().create_bucket(Bucket=BUCKET)
        for clips in [20] if options.quick else sorted(options.clips):
            results.append(measure(s3, clips))
            print(results[-1], flush=True)
    save("scale", results, key=("clips",), quick=options.quick)


if __name__ == "__main__":
    main()
