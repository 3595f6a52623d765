# SPDX-License-Identifier: Apache-2.0
"""
The longest blocks of an event loop in which many triggers wait: ours, and triggers that sleep and end as ours do.

``python -m benchmarks.loop --waiting 10000 --seconds 60`` runs ours in a plain loop, without Airflow's triggerer, and
ends some of their requests. Then it runs as many triggers that only sleep, and that fire their events at the times at
which ours fired theirs. For both: the longest block that a watchdog saw until all triggers had begun and later, the
longest steps of the loop, and the longest collections of garbage.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from asyncio.events import Handle
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from benchmarks.report import save

WATCH_SECONDS = 0.01
#: Seconds after the last trigger has begun that count as the start: each is polled once.
START_SECONDS = 15.0
BLOCKS = ("longest_block_at_start_ms", "longest_block_later_ms")
MEDIANS = ("events", *BLOCKS, "cpu_share", "rss_mb")
LONGEST_COUNT = 8


class Steps:
    """The longest steps that the loop made, without the collections of garbage that fell into them."""

    def __init__(self, collections: Collections) -> None:
        self.collections = collections
        self.longest: list[tuple[float, float, str]] = []
        self._run = Handle._run

    def watch(self) -> None:
        run = self._run

        def timed(handle: Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            self.collections.took = 0.0
            run(handle)
            took = time.perf_counter() - wall - self.collections.took
            if took > 0.003:
                self._note(took, time.thread_time() - cpu - self.collections.took, describe_step(handle))

        Handle._run = timed  # type: ignore[method-assign, assignment]

    def to_json(self) -> list[dict[str, Any]]:
        longest = sorted(self.longest, reverse=True)
        return [
            {"ms": round(1e3 * wall, 1), "cpu_ms": round(1e3 * cpu, 1), "step": step} for wall, cpu, step in longest
        ]

    def _note(self, wall: float, cpu: float, step: str) -> None:
        (heapq.heappush if len(self.longest) < LONGEST_COUNT else heapq.heappushpop)(
            self.longest, (wall, cpu, step[:160])
        )


def describe_step(handle: Handle) -> str:
    """Return the task that made the step, if it is known."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    return repr(task.get_coro()) if isinstance(task, asyncio.Task) else repr(callback)


class Collections:
    """The longest garbage collections, which block the loop as well and are the interpreter's."""

    def __init__(self) -> None:
        self.longest: list[float] = []
        self.took = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        took = time.perf_counter() - self._began
        self.took += took
        if took > 0.003:
            self.longest = heapq.nlargest(LONGEST_COUNT, [*self.longest, took])


async def watchdog(blocks: list[tuple[float, float]], began: float) -> None:
    """Record by how much each short sleep was too long, as Airflow's own watchdog does."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(WATCH_SECONDS)
        blocks.append((time.perf_counter() - before - WATCH_SECONDS, before - began))


async def wait_all(
    count: int, seconds: float, ended: int, url: str, event_seconds: dict[int, float] | None
) -> dict[str, Any]:
    """
    Run triggers for some time, and watch the loop.

    :param event_seconds: seconds from the start until the event of each sleeping trigger; None for ours.
    """
    from airflow_provider_wan.triggers.wan import WanI2VTrigger
    from benchmarks.sleeper import Sleeper

    began = time.perf_counter()
    noted: list[Any] = []
    events: dict[int, float] = {}
    watching = asyncio.create_task(watchdog(noted, began))
    collections = Collections()
    steps = Steps(collections)
    steps.watch()

    async def run(number: int) -> None:
        if event_seconds is None:
            trigger: Any = WanI2VTrigger(f"r{number:06}", time.time() + 3600, resolution="720P", duration=5)
        else:
            trigger = Sleeper(event_seconds.get(number, 86400.0) - (time.perf_counter() - began))
        async with aclosing(cast(AsyncGenerator[Any, None], trigger.run())) as stream:
            async for _ in stream:
                events[number] = time.perf_counter() - began

    tasks = []
    for number in range(count):
        # One per step of the loop, as the triggerer creates them.
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(run(number)))
    registered = time.perf_counter() - began
    await asyncio.sleep(seconds / 2)
    if event_seconds is None:
        body = json.dumps({"first": 0, "count": ended, "seconds": 0.1}).encode()
        finish = urllib.request.Request(f"{url}/finish", body, {"Content-Type": "application/json"})
        await asyncio.to_thread(urllib.request.urlopen, finish)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(seconds / 2)
    after = resource.getrusage(resource.RUSAGE_SELF)
    fired, blocks = dict(events), list(noted)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    watching.cancel()
    return {
        "waiting": count,
        "registered_s": round(registered, 2),
        "events": len(fired),
        "event_seconds": fired,
        "longest_block_at_start_ms": _find_longest(blocks, 0.0, registered + START_SECONDS),
        "longest_block_later_ms": _find_longest(blocks, registered + START_SECONDS, seconds + registered),
        "longest_blocks": [
            f"{1e3 * block:.1f} ms at {at:.1f} s" for block, at in heapq.nlargest(LONGEST_COUNT, blocks)
        ],
        "cpu_share": round((after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime) / (seconds / 2), 3),
        "rss_mb": after.ru_maxrss // 1024,
        "longest_steps": steps.to_json(),
        "longest_collections_ms": [round(1e3 * took, 1) for took in collections.longest],
    }


def _find_longest(blocks: list[tuple[float, float]], first: float, last: float) -> float:
    return round(1e3 * max((block for block, at in blocks if first <= at < last), default=0.0), 1)


def run_child(contestant: str, options: argparse.Namespace, folder: Path, url: str) -> dict[str, Any]:
    """Run one contestant in a process of its own, so that neither inherits the other's memory."""
    out = folder / f"{contestant}.json"
    arguments = {"waiting": options.waiting, "seconds": options.seconds, "ended": options.ended}
    command = [sys.executable, "-m", "benchmarks.loop", f"--contestant={contestant}", f"--url={url}", f"--out={out}"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    if contestant == "sleeping":
        command.append(f"--events={folder / 'ours.json'}")
    subprocess.run(command, check=True)
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ended", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--contestant", choices=("ours", "sleeping"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--events", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        connection = {"conn_type": "wan", "host": f"{options.url}/wan", "password": "key-0123456789abcdef"}
        os.environ["AIRFLOW_CONN_WAN_DEFAULT"] = json.dumps(connection)
        events = None
        if options.events:
            seconds = json.loads(options.events.read_text())["event_seconds"]
            events = {int(number): float(at) for number, at in seconds.items()}
        waits = wait_all(options.waiting, options.seconds, options.ended, options.url, events)
        options.out.write_text(json.dumps(asyncio.run(waits)))
        return
    if options.quick:
        options.waiting, options.seconds, options.ended, options.rounds = 500, 30.0, 100, 1
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "sleeping": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            port_file = Path(folder, "port")
            command = [sys.executable, "-m", "benchmarks.server", "--jobs", str(options.waiting)]
            server = subprocess.Popen([*command, "--port-file", str(port_file)])
            try:
                while not port_file.exists() or not port_file.read_text():
                    time.sleep(0.05)
                url = f"http://127.0.0.1:{port_file.read_text()}"
                for contestant, runs in found.items():
                    figures = run_child(contestant, options, Path(folder), url)
                    del figures["event_seconds"]
                    runs.append(figures)
                    print(contestant, json.dumps(figures, indent=1), flush=True)
            finally:
                server.terminate()
                server.wait()
    results = [
        {
            "waiting": options.waiting,
            "contestant": contestant,
            **{name: statistics.median(run[name] for run in runs) for name in MEDIANS},
            "longest_collection_ms": max((ms for run in runs for ms in run["longest_collections_ms"]), default=0.0),
            "all_blocks_ms": [[run[name] for name in BLOCKS] for run in runs],
            "longest_steps": [run["longest_steps"][:3] for run in runs],
        }
        for contestant, runs in found.items()
    ]
    save("loop", results, key=("waiting", "contestant"), quick=options.quick)


if __name__ == "__main__":
    main()
