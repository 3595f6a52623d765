# SPDX-License-Identifier: Apache-2.0
"""
Thousands of jobs waiting in a real ``airflow triggerer``: the costs, and the lag at the end of a job.

``python -m benchmarks.waiting ours:10000 ours:1000 dbt-cloud:1000`` runs them one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contestants import CONTESTANTS, POLL_SECONDS, environment
from benchmarks.database import fill, resumed, states
from benchmarks.report import save
from dev.airflow_home import airflow_command, clean_environment, make_home
from dev.component import Component, wait_for

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / ".run" / "templates"
# The share of the jobs that end while lag is measured, and over how long.
ENDING, ENDING_SECONDS = 500, 60.0
STEADY_SECONDS = 60.0
RUNS = (
    "idle:1000",
    "ours:1000",
    "dbt-cloud:1000",
    "anthropic:1000",
    "openai:1000",
    "http sensor:1000",
    "idle:10000",
    "ours:10000",
)
QUICK_RUNS = ("idle:50", "ours:50", "dbt-cloud:50", "anthropic:50", "openai:50", "http sensor:50")


def call(port: int, path: str, body: object = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def blocks_in(log: str) -> list[float]:
    """Return the blocks of the loop that the triggerer's watchdog logged, in seconds."""
    return [float(found) for found in re.findall(r"blocked for ([\d.]+) seconds", log)]


class Processes:
    """The two processes of a triggerer: the one that reads the database, and the one whose loop runs the triggers."""

    def __init__(self, pid: int) -> None:
        self.supervisor = psutil.Process(pid)
        self.runner = max(self.supervisor.children(recursive=True), key=lambda each: each.memory_info().rss)

    def cpu(self) -> tuple[float, float]:
        return tuple(sum(each.cpu_times()[:2]) for each in (self.runner, self.supervisor))  # type: ignore[return-value]

    def memory(self) -> tuple[float, float]:
        return tuple(each.memory_info().rss / 1e6 for each in (self.runner, self.supervisor))  # type: ignore[return-value]


def run(name: str, count: int, folder: Path, *, steady: float, ending: int, ending_seconds: float) -> dict[str, Any]:
    """Run one contestant. :return: its figures."""
    contestant = CONTESTANTS[name]
    overrides = {
        # The watchdog's own sleep of 0.1 s is part of what it measures.
        "triggerer": {"capacity": str(count + 100), "blocked_main_thread_warning_threshold": "0.13"},
        "logging": {"colored_console_log": "False"},
    }
    home = make_home(folder / "airflow", port=1, dags={}, templates=TEMPLATES, overrides=overrides)
    end = time.time() + 36000
    fill(home.database, home.fernet_key, contestant.classpath, (contestant.arguments(n, end) for n in range(count)))
    plain = clean_environment(folder, {"PYTHONPATH": str(ROOT) + os.environ.get("BENCH_PATH", "")})
    port_file = folder / "port"
    server = Component(
        "server",
        [sys.executable, "-m", "benchmarks.server", "--jobs", str(count), "--port-file", str(port_file)],
        env=plain,
        cwd=ROOT,
        log_dir=folder,
    )
    server.start()
    triggerer: Component | None = None
    try:
        wait_for("the server", lambda: port_file.exists() and port_file.read_text(), seconds=60, parts=[server])
        port = int(port_file.read_text())
        env = {**plain, "AIRFLOW_HOME": str(home.path), **environment(name, port)}
        command = airflow_command("triggerer", "--skip-serve-logs", "--capacity", str(count + 100))
        triggerer = Component("triggerer", command, env=env, cwd=ROOT, log_dir=folder)
        began = time.monotonic()
        triggerer.start()
        parts = [server, triggerer]
        if name == "idle":
            time.sleep(30 + count / 50)
            ending = 0
        else:
            seen = lambda: call(port, "/figures")["seen"] >= count  # noqa: E731
            wait_for("all to be polled", seen, seconds=900, every=1, parts=parts)
        started = time.monotonic() - began
        time.sleep(2 * POLL_SECONDS)
        processes = Processes(triggerer.pid)
        figures, at, cpu = call(port, "/figures"), time.monotonic(), processes.cpu()
        started_cpu = cpu
        early = len(blocks_in(triggerer.log_text()))
        time.sleep(steady)
        later, passed = call(port, "/figures"), time.monotonic() - at
        spent = [(b - a) / passed for a, b in zip(cpu, processes.cpu(), strict=True)]
        memory = processes.memory()
        asked = sum(later["asked"].values()) - sum(figures["asked"].values())
        # Then some end: how late does Airflow resume their tasks?
        before, cpu = sum(later["asked"].values()), processes.cpu()
        ending = min(ending, count)
        call(port, "/finish", {"first": 0, "count": ending, "seconds": ending_seconds})
        deadline = time.monotonic() + ending_seconds + 180
        while time.monotonic() < deadline and states(home.database).get("scheduled", 0) < ending:
            time.sleep(1)
            triggerer.check()
        after = [(b - a) for a, b in zip(cpu, processes.cpu(), strict=True)]
        last = call(port, "/figures")
        ended = {int(number): at for number, at in last["ended"].items()}
        resumed_at = resumed(home.database)
        lags = [resumed_at[number] - at for number, at in ended.items() if number in resumed_at]
        log = triggerer.log_text()
    finally:
        if triggerer is not None:
            triggerer.stop()
        server.stop()
    blocks = blocks_in(log)
    return {
        "contestant": name,
        "package": f"{contestant.package} {version(contestant.package)}",
        "waiting": count,
        "poll_interval": POLL_SECONDS,
        "seconds_until_all_were_seen": round(started, 1),
        "cpu_seconds_until_steady": [round(each, 2) for each in started_cpu],
        "steady": {
            "requests_per_second": round(asked / passed, 2),
            "cpu_of_runner": round(spent[0], 4),
            "cpu_of_supervisor": round(spent[1], 4),
            "memory_of_runner_mb": round(memory[0], 1),
            "memory_of_supervisor_mb": round(memory[1], 1),
        },
        "ending": {
            "ended": ending,
            "over_seconds": ending_seconds,
            "resumed": len(lags),
            "lag_p50": quantile(lags, 0.5),
            "lag_p99": quantile(lags, 0.99),
            "lag_mean": round(statistics.fmean(lags), 2) if lags else None,
            "requests": sum(last["asked"].values()) - before,
            "cpu_seconds_of_runner": round(after[0], 2),
            "cpu_seconds_of_supervisor": round(after[1], 2),
        },
        "most_in_ten_seconds": last["most_in_ten_seconds"],
        "requests": last["asked"],
        "longest_block_of_the_loop": max(blocks, default=0.0),
        "longest_block_later": max(blocks[early:], default=0.0),
        "blocks_over_0.2": sum(block > 0.2 for block in blocks),
        "failures_in_the_log": len(re.findall(r"Trigger failed|level=error|\[error", log)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="CONTESTANT:COUNT", help=f"default: {' '.join(RUNS)}")
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--steady", type=float, default=STEADY_SECONDS)
    parser.add_argument("--ending", type=int, default=ENDING)
    parser.add_argument("--ending-seconds", type=float, default=ENDING_SECONDS)
    options = parser.parse_args()
    if options.quick:
        options.steady, options.ending, options.ending_seconds = 10.0, 20, 10.0
    for each in options.runs or (QUICK_RUNS if options.quick else RUNS):
        name, _, count = each.rpartition(":")
        with tempfile.TemporaryDirectory(dir=ROOT / ".run", prefix="bench-") as folder:
            result = run(
                name,
                int(count),
                Path(folder),
                steady=options.steady,
                ending=options.ending,
                ending_seconds=options.ending_seconds,
            )
        print(json.dumps(result, indent=1), flush=True)
        # Saved one by one, so that an interrupted run keeps its results.
        save("waiting", [result], key=("waiting", "contestant"), quick=options.quick)


if __name__ == "__main__":
    main()
