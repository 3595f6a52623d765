# SPDX-License-Identifier: Apache-2.0
"""
Figures of the batch operator: ``make bench-batch``, or ``python -m benchmarks.batch loop deferrable killed dry-run``.

A thousand rows through the sandbox, sped up, which runs 20 clips at once, with 2% of transient errors and 3% of bad
images. The batch runs in its own process, whose memory is measured; S3 (SeaweedFS) and the sandbox run beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_wan.sandbox import SandboxServer
from benchmarks.report import FOLDER, read, save
from dev.seaweed import SeaweedFS
from dev.testkit.batch_runs import BatchTask, crops
from dev.testkit.s3_folder import BUCKET, Folder

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".run" / "bench-batch"
#: Number of rows of the published figures.
ROWS = 1000
LIMIT = 20
BAD_SHARE = 0.03
#: Two in a hundred submissions fail in one of these ways.
RATES = {
    "reset_after_accept": 0.008,
    "error_500_accepted": 0.004,
    "reset_before_accept": 0.003,
    "failed_string": 0.005,
    "get_500": 0.02,
    "list_500": 0.02,
    "list_garbage": 0.01,
}


@dataclass
class Bench:
    """S3, a sandbox, and a manifest of good and bad rows."""

    folder: Folder
    sandbox: SandboxServer
    rows: int
    bad: set[int]
    memory: list[tuple[float, float]] = field(default_factory=list)
    elapsed: float = 0.0

    def arguments(self, **more: Any) -> dict[str, Any]:
        return {
            "manifest": self.folder.uri("manifest.jsonl"),
            "max_failed_fraction": 0.05,
            "max_in_flight": 3 * LIMIT,
            "submits_per_second": 10,
            "poll_interval": 2,
            **more,
        }


@contextmanager
def bench(rows: int, speed: float) -> Iterator[Bench]:
    """Set all up, with the images in S3."""
    with (
        SeaweedFS() as s3,
        SandboxServer(
            api_key="bench", speed=speed, seed=11, render="tiny", concurrency=LIMIT, queue_seconds=5, rates=RATES
        ) as sandbox,
    ):
        client = s3.client()
        client.create_bucket(Bucket=BUCKET)
        folder = Folder(client, "bench")
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = s3.airflow_connection()
        os.environ["AIRFLOW_CONN_WAN_DEFAULT"] = json.dumps(
            {
                "conn_type": "wan",
                "host": sandbox.base_url,
                "password": sandbox.api_key,
                "extra": {"status_requests_per_second": 5},
            }
        )
        bad = set(random.Random(5).sample(range(1, rows + 1), round(rows * BAD_SHARE)))
        images = crops(rows)
        with ThreadPoolExecutor(4) as pool:
            for number in range(1, rows + 1):
                data = next(images)
                pool.submit(folder.put, f"images/{number:05d}.jpg", data[: len(data) // 2] if number in bad else data)
        lines = [{"image": folder.uri(f"images/{number:05d}.jpg")} for number in range(1, rows + 1)]
        folder.put("manifest.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
        yield Bench(folder, sandbox, rows, bad)


def run(made: Bench, arguments: dict[str, Any], *, kills: int = 0) -> dict[str, Any]:
    """Run the batch to its end, with this number of kills, and return its result."""
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for try_number in range(1, kills + 30):
        parameters = {"prefix": made.folder.prefix, "arguments": arguments, "try_number": try_number}
        log = OUT / f"try-{try_number}.log"
        until = (try_number * (made.rows - len(made.bad))) // (kills + 1) if try_number <= kills else None
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.batch_process", json.dumps(parameters)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                time.sleep(0.5)
                if until is not None and len(made.sandbox.accepted()) >= until:
                    os.kill(process.pid, signal.SIGKILL)
                    break
                if process.poll() is None:
                    made.memory.append((time.monotonic() - began, _megabytes(watched)))
            process.wait()
        if process.returncode == 0:
            made.elapsed = time.monotonic() - began
            result: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
            return {**result, "tries": try_number}
    raise SystemExit(f"the batch came to no end; see {OUT}")


def utilisation(sandbox: SandboxServer) -> tuple[float, float]:
    """The share of its limit that the service ran from the first submission to the last start, and those seconds."""

    def spans(core: Any) -> list[tuple[float, float, float]]:
        return [
            (job.created_at, job.started_at, job.ended_at or core.now())
            for job in core.jobs
            if job.started_at is not None
        ]

    found = sandbox.call(spans)
    first, last = min(made for made, _, _ in found), max(start for _, start, _ in found)
    worked = sum(max(0.0, min(end, last) - start) for _, start, end in found)
    return worked / (LIMIT * (last - first)), last - first


def verify(made: Bench, result: dict[str, Any]) -> list[str]:
    """Return what is wrong with the result."""
    charges = made.sandbox.charges()
    rows = BatchTask(made.folder, {}).rows()
    archived = {row["row"]: row for row in rows if row["status"] == "archived"}
    keys = {name for name in _names(made.folder) if name.startswith("clips/") and name.endswith(".mp4")}
    images = {each["request_id"]: each["payload"]["img_url"].split("?")[0] for each in made.sandbox.accepted()}
    paid = [images[charge["request_id"]] for charge in charges]
    wrong = []
    if len(paid) != len(set(paid)):
        wrong.append(f"{len(paid) - len(set(paid))} clips were charged twice")
    if set(archived) != set(range(1, made.rows + 1)) - made.bad:
        wrong.append("not every good row is archived")
    if {row["row"] for row in rows if row["status"] == "rejected"} != made.bad:
        wrong.append("not every bad row is named")
    if len(rows) != made.rows or [row["row"] for row in rows] != list(range(1, made.rows + 1)):
        wrong.append("the results are not a row an item")
    if len(keys) != len(charges) or len(archived) != len(charges):
        wrong.append(f"{len(charges)} charges, {len(keys)} clips in S3, {len(archived)} archived rows")
    if abs(result["cost"] - sum(charge["usd"] for charge in charges)) > 0.001:
        wrong.append(f"the reported cost is {result['cost']}")
    return wrong


def report(name: str, made: Bench, result: dict[str, Any]) -> dict[str, Any]:
    """Print the figures. :return: them."""
    share, seconds = utilisation(made.sandbox)
    steady = [mb for at, mb in made.memory if at > 30] or [mb for _, mb in made.memory]
    third = max(1, len(steady) // 3)
    figures = {
        "rows": made.rows,
        "bad": len(made.bad),
        "archived": result["archived"],
        "rejected": result["rejected"],
        "tries": result["tries"],
        "charges": len(made.sandbox.charges()),
        "cost": result["cost"],
        "calls": made.sandbox.counters()["calls"],
        "seconds": round(made.elapsed, 1),
        "utilisation": round(share, 4),
        "busy_seconds": round(seconds, 1),
        "memory_first": round(sum(steady[:third]) / third, 1),
        "memory_last": round(sum(steady[-third:]) / third, 1),
        "memory_most": round(max(steady), 1),
        "wrong": verify(made, result),
        "memory": [[round(at), round(mb)] for at, mb in made.memory[::8]],
    }
    print(f"\n{name}:")
    for label, value in figures.items():
        if label != "memory":
            print(f"  {label}: {value}")
    return figures


def dry_run(rows: int) -> dict[str, Any]:
    """A dry run over many rows, in a process of its own."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "many.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            row = {"image": f"https://images.example.com/{number}.jpg", "prompt": f"row {number}"}
            file.write(json.dumps(row) + "\n")
    parameters = {"manifest": str(path), "ledger_uri": f"file://{OUT}/ledger", "dry_run": True}
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.environ["AIRFLOW_CONN_WAN_DEFAULT"] = json.dumps({"conn_type": "wan", "password": "key"})
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps({"conn_type": "aws", "login": "a", "password": "b"})
        result = BatchTask(Folder(None, "none"), parameters).try_()
        os._exit(0 if result["items"] == rows else 1)
    _, status = os.waitpid(child, 0)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss / 1e3
    figures = {
        "rows": rows,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_most": round(peak, 1),
        "wrong": [] if status == 0 else ["the dry run has failed"],
    }
    print(f"\ndry-run: {figures}")
    return figures


def _megabytes(process: psutil.Process) -> float:
    """Return the memory of the working process: the current deferral cycle, or the only process."""
    try:
        return max(each.memory_info().rss for each in [process, *process.children()]) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def _names(folder: Folder) -> Iterator[str]:
    pages = folder.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=folder.prefix + "/")
    for page in pages:
        for found in page.get("Contents", ()):
            yield found["Key"].removeprefix(folder.prefix + "/")


def publish(figures: dict[str, dict[str, Any]]) -> None:
    """Write the figures and the plot of the memory into the documentation, beside those of other parts."""
    path = save("batch", [{"part": name, **part} for name, part in figures.items()], key=("part",))
    _plot({part["part"]: part["memory"] for part in read(path) if "memory" in part})


def _plot(memory: dict[str, list[list[float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3.4))
    for name, points in memory.items():
        axes.plot([at for at, _ in points], [mb for _, mb in points], linewidth=1.2, label=name)
    axes.set(xlabel="seconds", ylabel="MB (resident)", title="Memory of a batch of 1,000 images", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(FOLDER / "batch-memory.png", dpi=110)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["loop", "deferrable", "killed", "dry-run"], default=[])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--speed", type=float, default=6.0, help="how many times faster than the service")
    options = parser.parse_args(arguments)
    figures = {}
    for what in options.what or ["dry-run", "loop", "deferrable", "killed"]:
        if what == "dry-run":
            figures[what] = dry_run(1000 * options.rows)
        else:
            with bench(options.rows, options.speed) as made:
                deferral = {"deferrable": True, "max_in_flight": 5 * LIMIT} if what == "deferrable" else {}
                result = run(made, made.arguments(**deferral), kills=10 if what == "killed" else 0)
                figures[what] = report(what, made, result)
        if options.rows == ROWS:
            publish(figures)
    return 1 if any(part["wrong"] for part in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
