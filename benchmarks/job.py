# SPDX-License-Identifier: Apache-2.0
"""
The whole job in each way, one after the other on one Airflow: from images on S3 to checked clips on S3.

``python -m benchmarks.job --images 40`` runs ours (three mapped tasks, one mapped task, a batch that defers, a batch in
its worker) beside Airflow's own operators, a task with ``requests``, and a script with asyncio. ``--kill`` kills one
worker, or the script, when half of the clips have been submitted, and starts the script again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from airflow_provider_wan.media.video import Mp4Checker
from benchmarks.job_common import CLIP, POLL_SECONDS
from benchmarks.report import ROOT, save
from dev.component import wait_for
from dev.installation import REGION
from dev.stack import Stack
from dev.testkit.batch_runs import crops
from dev.testkit.process_killer import task_processes

BUCKET = "wan-media"
FOLDER = ROOT / ".run" / "bench-job"
#: Name and Dag of each way; the script is no Dag.
WAYS = {
    "ours, three tasks": "job_three_tasks",
    "ours, one task": "job_one_task",
    "ours, batch that defers": "job_batch_deferred",
    "ours, batch in its worker": "job_batch_loop",
    "HttpOperator, HttpSensor, HttpToS3Operator": "job_stock_operators",
    "a task with requests": "job_python_task",
    "a script with asyncio": None,
}
PARALLELISM = 8
SAMPLE_SECONDS = 0.5
#: Samples from one look at the memory to the next: it costs CPU.
MEMORY_EVERY = 6
LIMIT_SECONDS = 3600.0
SERVICES = ("s3", "sandbox")


@dataclass
class Samples:
    """What the processes are seen to do, every half second; their memory every three.

    :param worker_seconds: seconds for which workers ran a task.
    :param peak_mb: memory of Airflow or the script, shared pages divided among those who share them.
    :param count: number of samples.
    """

    worker_seconds: float = 0.0
    peak_mb: float = 0.0
    count: int = 0


@dataclass
class Job:
    """One run of one way."""

    stack: Stack
    way: str
    images: list[str]
    target: str
    samples: Samples = field(default_factory=Samples)
    script: subprocess.Popen[bytes] | None = None
    script_cpu: float = 0.0

    @property
    def dag_id(self) -> str | None:
        """Its Dag; None for the script."""
        return WAYS[self.way]

    def start(self) -> Callable[[], str]:
        """Start it. :return: what waits for its end, and returns its state."""
        if self.dag_id is None:
            self.start_script()
            return self._wait_for_script
        conf = {"images": self.images, "manifest": f"s3://{BUCKET}/job/rows.jsonl", "target": self.target}
        dag_id, run_id = self.dag_id, self.stack.airflow.trigger(self.dag_id, conf=conf)
        return lambda: self.stack.airflow.wait_for_run(dag_id, run_id, seconds=LIMIT_SECONDS)

    def start_script(self) -> None:
        """Start the script, with what Airflow's connections hold."""
        access, secret = self.stack.s3_keys
        job = {
            "images": self.images,
            "target": self.target,
            "base_url": self.stack.sandbox_url,
            "api_key": self.stack.api_key,
            "clip": CLIP,
            "poll_seconds": POLL_SECONDS,
            "s3": {
                "endpoint_url": self.stack.s3_url,
                "aws_access_key_id": access,
                "aws_secret_access_key": secret,
                "region_name": REGION,
            },
        }
        self.script = subprocess.Popen([sys.executable, "-m", "benchmarks.job_script", json.dumps(job)], cwd=ROOT)

    def _wait_for_script(self) -> str:
        while True:
            process = self.script
            assert process is not None
            _, status, usage = os.wait4(process.pid, 0)
            self.script_cpu += usage.ru_utime + usage.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != -9:
                return "success" if process.returncode == 0 else "failed"
            # A person starts it again.
            self.start_script()

    def roots(self) -> list[psutil.Process]:
        """The processes that it consists of, but the services."""
        if self.dag_id is None:
            return [psutil.Process(self.script.pid)] if self.script else []
        parts = [name for name in self.stack.components if name not in SERVICES]
        return [psutil.Process(self.stack[name].pid) for name in parts]

    def sample(self) -> None:
        """Look at the processes once."""
        if self.dag_id is None:
            self.samples.worker_seconds += SAMPLE_SECONDS
        else:
            self.samples.worker_seconds += SAMPLE_SECONDS * len(self.stack.busy_workers())
        self.samples.count += 1
        if self.samples.count % MEMORY_EVERY != 1:
            return
        total = 0.0
        for root in self.roots():
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss / 1e6
        self.samples.peak_mb = max(self.samples.peak_mb, total)

    def kill_one(self) -> bool:
        """Kill the script, or the process of one task. :return: whether there was one."""
        if self.dag_id is None:
            if self.script is not None:
                self.script.kill()
            return self.script is not None
        tasks = task_processes(self.stack["scheduler"].pid)
        if tasks:
            tasks[0].kill()
        return bool(tasks)


@contextmanager
def sampled(job: Job, at_half: Callable[[], bool] | None) -> Iterator[None]:
    """Take samples of a job while it runs, and call something at its half until it returns True."""
    over = threading.Event()
    pending = [at_half] if at_half is not None else []

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                job.sample()
            if pending and pending[0]():
                pending.clear()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure_cpu(stack: Stack) -> dict[str, float]:
    """CPU seconds of each part, with the processes that it has started."""
    found = {}
    for name, component in stack.components.items():
        total = 0.0
        root = psutil.Process(component.pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        found[name] = total
    return found


def count_s3_requests(stack: Stack) -> int:
    """Requests to S3 so far, by SeaweedFS's own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.metrics_port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("SeaweedFS_s3_request_total{")))


def count_whole_clips(stack: Stack, target: str) -> tuple[int, float]:
    """The clips below a prefix that are whole, and the time at which the last one was written."""
    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    client, whole, last = stack.s3_client(), 0, 0.0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            if not item["Key"].endswith(".mp4"):
                continue
            last = max(last, item["LastModified"].timestamp())
            checker = Mp4Checker()
            checker.feed(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
            checker.finish()
            whole += 1
    return whole, last


def measure(stack: Stack, way: str, images: list[str], target: str, *, kill: bool) -> dict[str, Any]:
    """Run one way to its end."""
    job = Job(stack, way, images, target)
    accepted_before = len(stack.sandbox_admin("accepted")["accepted"])
    charges_before = len(stack.sandbox_admin("charges")["charges"])
    calls, requests, cpu = stack.sandbox_admin("counters")["calls"], count_s3_requests(stack), measure_cpu(stack)

    def kill_at_half() -> bool:
        accepted = len(stack.sandbox_admin("accepted")["accepted"]) - accepted_before
        return accepted >= len(images) // 2 and job.kill_one()

    began = time.time()
    wait = job.start()
    with sampled(job, kill_at_half if kill else None):
        state = wait()
    seconds = time.time() - began
    used = {name: round(after - cpu[name], 1) for name, after in measure_cpu(stack).items()}
    if job.dag_id is None:
        used = {"script": round(job.script_cpu, 1), **{name: used[name] for name in SERVICES}}
    s3_requests = count_s3_requests(stack) - requests
    api_requests = stack.sandbox_admin("counters")["calls"] - calls
    accepted = {each["request_id"]: each["time"] for each in stack.sandbox_admin("accepted")["accepted"]}
    charges = stack.sandbox_admin("charges")["charges"][charges_before:]
    own = max((each["time"] - accepted[each["request_id"]] for each in charges), default=0.0)
    clips, last = count_whole_clips(stack, target)
    return {
        "state": state,
        "seconds": round(seconds, 1),
        "seconds_to_last_clip": round(last - began, 1),
        "seconds_of_service": round(own, 1),
        "worker_seconds": round(job.samples.worker_seconds, 1),
        "peak_mb": round(job.samples.peak_mb),
        "cpu_seconds": used,
        "api_requests": api_requests,
        "s3_requests": s3_requests,
        "charges": len(charges),
        "clips": clips,
    }


def summarize(way: str, images: int, kill: bool, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, and all times."""

    def median(name: str) -> float:
        return float(statistics.median(each[name] for each in runs))

    cpu = [sum(seconds for part, seconds in each["cpu_seconds"].items() if part not in SERVICES) for each in runs]
    last = median("seconds_to_last_clip")
    return {
        "images": images,
        "way": way,
        "killed": kill,
        "rounds": len(runs),
        "states": sorted({each["state"] for each in runs}),
        "seconds": median("seconds"),
        "seconds_to_last_clip": last,
        "beyond_service": round(last - median("seconds_of_service"), 1),
        "worker_seconds": median("worker_seconds"),
        "cpu_seconds": round(statistics.median(cpu), 1),
        "peak_mb": median("peak_mb"),
        "api_requests": median("api_requests"),
        "s3_requests": median("s3_requests"),
        "charges": [each["charges"] for each in runs],
        "clips": [each["clips"] for each in runs],
        "all_seconds_to_last_clip": [each["seconds_to_last_clip"] for each in runs],
        "cpu_by_part": [each["cpu_seconds"] for each in runs],
    }


def put_images(stack: Stack, count: int) -> list[str]:
    """Put the images and their manifest into the bucket. :return: their URIs."""
    client, uris = stack.s3_client(), []
    for number, body in enumerate(crops(count, seed=21)):
        key = f"job/images/{number:04d}.jpg"
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
        uris.append(f"s3://{BUCKET}/{key}")
    rows = "\n".join(json.dumps({"image": uri}) for uri in uris)
    client.put_object(Bucket=BUCKET, Key="job/rows.jsonl", Body=rows.encode())
    return uris


def run_all(images: int, rounds: int, speed: float, ways: list[str], kills: tuple[bool, ...]) -> list[dict[str, Any]]:
    """Run all ways, in turns, on one Airflow."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    options = {"core": {"parallelism": str(PARALLELISM), "max_map_length": "2000"}}
    sandbox = ("--render=tiny",)
    dags = {"dags": ROOT / "benchmarks" / "dags"}
    results = []
    with Stack(FOLDER, dags=dags, speed=speed, sandbox_options=sandbox, airflow_options=options) as stack:
        stack.s3_client().create_bucket(Bucket=BUCKET)
        stack.wait_for_dags(*(dag_id for dag_id in WAYS.values() if dag_id))
        stack.airflow.put_connection("wan_http", conn_type="http", host=stack.sandbox_url, password=stack.api_key)
        results_url = f"http://127.0.0.1:{stack.result_port}"
        stack.airflow.put_connection("wan_results", conn_type="http", host=results_url)
        uris = put_images(stack, images)
        for kill in kills:
            found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for turn in range(rounds):
                for way in ways:
                    target = f"s3://{BUCKET}/job/clips/{WAYS[way] or 'script'}/{kill:d}{turn}/"
                    found[way].append(measure(stack, way, uris, target, kill=kill))
                    print(f"{way}{', killed' if kill else ''}: {found[way][-1]}", flush=True)
                    wait_for("all workers to be free", lambda: not stack.busy_workers(), seconds=120)
            results += [summarize(way, images, kill, runs) for way, runs in found.items()]
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speed", type=float, default=4.0, help="how many times faster than the service")
    parser.add_argument("--ways", nargs="*", choices=[*WAYS, []], metavar="WAY", help=f"some of {', '.join(WAYS)}")
    parser.add_argument("--kill", action="store_true", help="only with a worker killed")
    parser.add_argument("--no-kill", action="store_true", help="only without")
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    options = parser.parse_args()
    kills = (True,) if options.kill else (False,) if options.no_kill else (False, True)
    ways = options.ways or list(WAYS)
    if options.quick:
        results = run_all(min(options.images, 6), 1, 12.0, ways, kills)
    else:
        results = run_all(options.images, options.rounds, options.speed, ways, kills)
    save("job", results, key=("images", "killed", "way"), quick=options.quick)
    ours = [each for each in results if each["way"].startswith("ours")]
    return 0 if all(set(each["charges"]) == set(each["clips"]) == {each["images"]} for each in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
