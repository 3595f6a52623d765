# SPDX-License-Identifier: Apache-2.0
"""
The longest blocks of an event loop in which many triggers wait: ours alone, without Airflow's triggerer.

``python -m benchmarks.loop --waiting 10000 --seconds 60`` runs the triggers in a plain loop, ends some of their
requests, and prints the longest block that a watchdog saw and the longest steps of the loop, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import os
import resource
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

WATCH_SECONDS = 0.01
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


async def wait_all(count: int, seconds: float, ended: int, url: str) -> dict[str, Any]:
    from airflow_provider_wan.triggers.wan import WanI2VTrigger

    began = time.perf_counter()
    noted: list[Any] = []
    events: list[Any] = []
    watching = asyncio.create_task(watchdog(noted, began))
    collections = Collections()
    steps = Steps(collections)
    steps.watch()

    async def run(number: int) -> None:
        trigger = WanI2VTrigger(f"r{number:06}", time.time() + 3600, resolution="720P", duration=5)
        async with aclosing(cast(AsyncGenerator[Any, None], trigger.run())) as stream:
            events.extend([event async for event in stream])

    tasks = []
    for number in range(count):
        # One per step of the loop, as the triggerer creates them.
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(run(number)))
    registered = time.perf_counter() - began
    await asyncio.sleep(seconds / 2)
    body = json.dumps({"first": 0, "count": ended, "seconds": 0.1}).encode()
    finish = urllib.request.Request(f"{url}/finish", body, {"Content-Type": "application/json"})
    await asyncio.to_thread(urllib.request.urlopen, finish)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(seconds / 2)
    after = resource.getrusage(resource.RUSAGE_SELF)
    event_count = len(events)
    blocks = list(noted)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    watching.cancel()
    return {
        "waiting": count,
        "registered_s": round(registered, 2),
        "events": event_count,
        "longest_blocks": [
            f"{1e3 * block:.1f} ms at {at:.1f} s" for block, at in heapq.nlargest(LONGEST_COUNT, blocks)
        ],
        "cpu_share": round((after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime) / (seconds / 2), 3),
        "rss_mb": after.ru_maxrss // 1024,
        "longest_steps": steps.to_json(),
        "longest_collections_ms": [round(1e3 * took, 1) for took in collections.longest],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ended", type=int, default=1000)
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "port")
        command = [sys.executable, "-m", "benchmarks.server", "--jobs", str(options.waiting)]
        server = subprocess.Popen([*command, "--port-file", str(port_file)])
        try:
            while not port_file.exists() or not port_file.read_text():
                time.sleep(0.05)
            url = f"http://127.0.0.1:{port_file.read_text()}"
            connection = {"conn_type": "wan", "host": f"{url}/wan", "password": "key-0123456789abcdef"}
            os.environ["AIRFLOW_CONN_WAN_DEFAULT"] = json.dumps(connection)
            figures = asyncio.run(wait_all(options.waiting, options.seconds, options.ended, url))
            with urllib.request.urlopen(f"{url}/figures") as answer:
                figures["requests_most_a_second"] = json.load(answer)["most_a_second"]
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(figures, indent=1), file=options.out)


if __name__ == "__main__":
    main()
