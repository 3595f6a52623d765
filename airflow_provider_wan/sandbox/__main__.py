# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_wan.sandbox``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_wan.sandbox.app import SandboxApp
from airflow_provider_wan.sandbox.config import DEFAULT_KEY, CancelMode, RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.render import MissingDependencyError

KEY_VARIABLE = "WAN_SANDBOX_API_KEY"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    usual = SandboxConfig()
    found = argparse.ArgumentParser(
        prog="python -m airflow_provider_wan.sandbox",
        description="A stand-in for the wan2.6-i2v request-queue API. It is a sandbox: nothing costs money.",
    )
    add = found.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port of the API; 0 finds a free one")
    add("--result-port", type=int, default=0, help="port of the host of results; 0 finds a free one")
    add("--public-host", help="host name in the URLs that are given out (default: the address)")
    add("--port-file", type=Path, help="write the API's base URL here when it listens")
    add("--data-dir", type=Path, help="where clips lie (default: a folder that goes with the sandbox)")
    add("--state", type=Path, help="file that keeps requests, journal and charges over restarts")
    add("--api-key", help=f"the key that is let in (default: ${KEY_VARIABLE}, or {DEFAULT_KEY})")
    add("--organization", action="append", default=[], help="an organisation of the account; repeatable")
    add("--model", action="append", default=[], help="a model that exists; repeatable (default: wan2.6-i2v)")
    add("--speed", type=float, default=usual.speed, help="divides all waiting and running times")
    add("--seed", type=int, default=usual.seed, help="makes latencies, ids and faults repeatable")
    add("--run-seconds", type=float, help="every clip runs that long (before --speed)")
    add("--queue-seconds", type=float, help="every clip waits exactly that long (before --speed)")
    add("--concurrency", type=int, help="requests that run at once")
    add("--submits-per-second", type=int, help="above it, 429")
    add("--submits-per-hour", type=int, help="above it, 429")
    add("--reads-per-second", type=int, help="above it, GET answers 429")
    add("--no-retry-after", action="store_true", help="429 and 503 without Retry-After")
    add("--credits", type=float, help="dollars on the account; then 402")
    add("--price", action="append", default=[], metavar="RESOLUTION=USD", help="dollars a second")
    add("--cancel", type=CancelMode, choices=list(CancelMode), default=usual.cancel, help="what DELETE does")
    add("--empty-echo", action="store_true", help="answers don't echo the payload")
    add("--no-totals", action="store_true", help="the list tells neither total nor has_more")
    add("--clock-skew", type=float, default=usual.clock_skew, help="how far its times are ahead")
    add("--list-lag", type=float, default=usual.list_lag, help="seconds until a new request is in the list")
    add("--render", type=RenderMode, choices=list(RenderMode), default=usual.render, help="kind of clips")
    add("--render-workers", type=int, default=usual.render_workers, help="threads that make clips")
    add("--hang-seconds", type=float, default=usual.hang_seconds, help="how long a hanging answer hangs")
    add("--slow-seconds", type=float, default=usual.slow_seconds, help="how late a slow answer is")
    add("--huge-bytes", type=int, default=usual.huge_bytes, help="size of a huge result")
    add("--journal-limit", type=int, default=usual.journal_limit, help="calls that the journal keeps in full")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help=f"probability of a fault; repeatable: {', '.join(fault.value for fault in Fault)}",
    )
    return found


def config_of(options: argparse.Namespace) -> SandboxConfig:
    """The settings that a command line asks for.

    :raises ValueError: when one of its values can't be.
    """
    usual = SandboxConfig()
    run, queue = options.run_seconds, options.queue_seconds
    return SandboxConfig(
        api_key=options.api_key or os.environ.get(KEY_VARIABLE) or DEFAULT_KEY,
        organizations=tuple(options.organization),
        models=tuple(options.model) or usual.models,
        seed=options.seed,
        speed=options.speed,
        run_seconds=usual.run_seconds if run is None else dict.fromkeys(usual.run_seconds, run),
        full_hd_factor=usual.full_hd_factor if run is None else 1.0,
        run_sigma=usual.run_sigma if run is None else 0.0,
        queue_seconds=usual.queue_seconds if queue is None else queue,
        queue_sigma=usual.queue_sigma if queue is None else 0.0,
        concurrency=options.concurrency,
        submits_per_second=options.submits_per_second,
        submits_per_hour=options.submits_per_hour,
        reads_per_second=options.reads_per_second,
        retry_after=not options.no_retry_after,
        credits=options.credits,
        prices={**usual.prices, **_pairs(options.price, "--price")},
        cancel=options.cancel,
        echo_payload=not options.empty_echo,
        list_totals=not options.no_totals,
        clock_skew=options.clock_skew,
        list_lag=options.list_lag,
        rates={Fault(name): rate for name, rate in _pairs(options.fault, "--fault").items()},
        render=options.render,
        render_workers=options.render_workers,
        hang_seconds=options.hang_seconds,
        slow_seconds=options.slow_seconds,
        huge_bytes=options.huge_bytes,
        journal_limit=options.journal_limit,
    )


def _pairs(given: Sequence[str], flag: str) -> dict[str, float]:
    pairs = {}
    for text in given:
        name, sign, number = text.partition("=")
        if not sign:
            raise ValueError(f"{flag} {text}: NAME=NUMBER is expected")
        pairs[name] = float(number)
    return pairs


async def serve(app: SandboxApp, port_file: Path | None) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await app.start()
        if port_file is not None:
            write_whole(port_file, app.base_url + "\n")
        print(f"wan sandbox listening on {app.base_url}", flush=True)
        await stop.wait()
    finally:
        await app.stop()


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox; the exit code."""
    found = parser()
    options = found.parse_args(arguments)
    try:
        config = config_of(options)
    except ValueError as problem:
        found.error(str(problem))
    app = SandboxApp(
        config,
        host=options.host,
        port=options.port,
        result_port=options.result_port,
        public_host=options.public_host,
        data_dir=options.data_dir,
        state=options.state,
    )
    try:
        asyncio.run(serve(app, options.port_file))
    except (MissingDependencyError, OSError) as problem:
        print(f"wan sandbox: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
