# SPDX-License-Identifier: Apache-2.0
"""
Two triggerers and four batches that all poll as often as they may: ``python -m benchmarks.shared_rate``.

Each is a process, with the hook and the hub that Airflow's processes have. The sandbox records the time of each call.
Once each process has the rate by itself, once they share it through S3, and
once through S3 with one process killed and another started in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.sandbox import SandboxServer
from benchmarks.report import ROOT, save
from dev.seaweed import SeaweedFS

BUCKET = "limits"
TRIGGERERS, BATCHES = 2, 4
#: Seconds of the start that are left out: the processes do not start together.
START_SECONDS = 5.0
REQUEST_ID = "00000000-0000-4000-8000-000000000000"


def work(kind: str, seconds: float) -> None:
    """Poll for some time, and print the number of calls to the store."""
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger.stores.s3 import S3Store

    calls = {"reads": 0, "writes": 0}
    for name, method in (("reads", "read_document"), ("writes", "write_document")):
        setattr(S3Store, method, _counted(calls, name, getattr(S3Store, method)))
    hook = WanHook()
    with suppress(WanError):
        hook.get_request(REQUEST_ID)
    # All begin together, when the last one has started.
    print("ready", flush=True)
    input()
    until = time.monotonic() + seconds

    async def poll() -> None:
        while time.monotonic() < until:
            with suppress(WanError):
                await hook.aget_request(REQUEST_ID)

    async def poll_together() -> None:
        async with hook.hub():
            await asyncio.gather(*(poll() for _ in range(20)))

    if kind == "triggerer":
        asyncio.run(poll_together())
    else:
        while time.monotonic() < until:
            with suppress(WanError):
                hook.get_request(REQUEST_ID)
    print(json.dumps(calls))


def _counted(calls: dict[str, int], name: str, method: Any) -> Any:
    def call(*arguments: Any) -> Any:
        calls[name] += 1
        return method(*arguments)

    return call


def count_most(times: list[float], seconds: float) -> int:
    """The most calls in any stretch of so many seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure(rate: int, seconds: float, *, shared: bool, kill: bool) -> dict[str, Any]:
    """Run all processes against one sandbox."""
    # Calls above the limit are counted, and answered as others: a 429 would make the clients poll less.
    with SeaweedFS() as s3, SandboxServer(api_key="bench", render="none") as sandbox:
        s3.client().create_bucket(Bucket=BUCKET)
        extra = {"status_requests_per_second": rate, "limits_uri": f"s3://{BUCKET}/ledger" if shared else None}
        connection = {"conn_type": "wan", "host": sandbox.base_url, "password": "bench", "extra": extra}
        env = {
            **os.environ,
            "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
            "AIRFLOW_CONN_WAN_DEFAULT": json.dumps(connection),
        }

        def start(kind: str, for_seconds: float) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "benchmarks.shared_rate", "--work", kind, str(for_seconds)]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)

        def begin_all(waiting: list[subprocess.Popen[str]]) -> None:
            for process in waiting:
                assert process.stdout is not None
                if not any(line.strip() == "ready" for line in process.stdout):
                    raise SystemExit("a process does not poll")
            for process in waiting:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()

        kinds = ["triggerer"] * TRIGGERERS + ["batch"] * BATCHES
        processes = [start(kind, seconds + 2 * START_SECONDS) for kind in kinds]
        killed: list[subprocess.Popen[str]] = []

        def kill_one() -> None:
            killed.append(processes[0])
            processes[0].kill()
            processes[0] = start("triggerer", seconds / 2)
            begin_all(processes[:1])

        timer = threading.Timer(START_SECONDS + seconds / 2, kill_one)
        begin_all(processes)
        if kill:
            timer.start()
        begin = time.time() + START_SECONDS
        time.sleep(START_SECONDS + seconds)
        if kill:
            timer.join()
        calls = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        for process in killed:
            process.communicate()

        def read_times(core: Any) -> list[float]:
            return [call.time for call in core.journal.calls if call.path.endswith(REQUEST_ID)]

        times = sorted(at for at in sandbox.call(read_times) if begin <= at < begin + seconds)
    return {
        "way": "shared, one killed" if kill else "shared" if shared else "each by itself",
        "rate": rate,
        "processes": len(kinds),
        "seconds": seconds,
        "calls": len(times),
        "used": round(len(times) / (rate * seconds), 4),
        "most_in_1_s": count_most(times, 1.0),
        "most_in_10_s": count_most(times, 10.0),
        "store_requests_per_second": round(sum(sum(each.values()) for each in calls) / seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="*", type=int, default=[5, 20])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], float(options.work[1]))
        return
    results = []
    for rate in [5] if options.quick else options.rates:
        for shared, kill in ((False, False), (True, False), (True, True)):
            seconds = 20.0 if options.quick else options.seconds
            results.append(measure(rate, seconds, shared=shared, kill=kill))
            print(results[-1], flush=True)
    save("shared_rate", results, key=("rate", "way"), quick=options.quick)


if __name__ == "__main__":
    main()
