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

from airflow_provider_wan.sandbox.config import DEFAULT_KEY, CancelMode, RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.rendering.renderer import MissingDependencyError
from airflow_provider_wan.sandbox.server.app import SandboxApp

MODELS = ", ".join(SandboxConfig().models)
KEY_VARIABLE = "WAN_SANDBOX_API_KEY"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    defaults = SandboxConfig()
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_wan.sandbox",
        description="A stand-in for the wan2.6-i2v request-queue API. It is a sandbox: nothing costs money.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port of the API; 0 picks a free port")
    add("--result-port", type=int, default=0, help="port of the result host; 0 picks a free port")
    add("--public-host", help="host name in generated URLs (default: the address)")
    add("--port-file", type=Path, help="write the API's base URL to this file once it is listening")
    add("--data-dir", type=Path, help="folder for clips (default: a temporary folder)")
    add("--state", type=Path, help="file that persists requests, journal and charges across restarts")
    add("--api-key", help=f"the accepted API key (default: ${KEY_VARIABLE}, or {DEFAULT_KEY})")
    add("--organization", action="append", default=[], help="an organization of the account; repeatable")
    add("--model", action="append", default=[], help=f"a model that exists; repeatable (default: {MODELS})")
    add("--drop-unknown", action="store_true", help="drop unknown parameters without a word instead of refusing them")
    add("--speed", type=float, default=defaults.speed, help="divides all queue and run times")
    add("--seed", type=int, default=defaults.seed, help="seed of latencies, ids and faults")
    add("--run-seconds", type=float, help="exact run time of every clip in seconds (before --speed)")
    add("--queue-seconds", type=float, help="exact queue time of every clip in seconds (before --speed)")
    add("--concurrency", type=int, help="number of requests that run concurrently")
    add("--submits-per-second", type=int, help="rate limit, answered with 429")
    add("--submits-per-hour", type=int, help="rate limit, answered with 429")
    add("--reads-per-second", type=int, help="rate limit of GET calls, answered with 429")
    add("--no-retry-after", action="store_true", help="429 and 503 without Retry-After")
    add("--credits", type=float, help="US dollars on the account; a submission beyond them is answered with 402")
    add("--price", action="append", default=[], metavar="RESOLUTION=USD", help="US dollars per second of video")
    add("--cancel", type=CancelMode, choices=list(CancelMode), default=defaults.cancel, help="what DELETE does")
    add("--empty-echo", action="store_true", help="do not echo the payload in responses")
    add("--no-totals", action="store_true", help="omit total and has_more from the list")
    add("--clock-skew", type=float, default=defaults.clock_skew, help="seconds by which reported times run ahead")
    add("--list-lag", type=float, default=defaults.list_lag, help="seconds until a new request appears in the list")
    add("--render", type=RenderMode, choices=list(RenderMode), default=defaults.render, help="kind of result files")
    add("--render-workers", type=int, default=defaults.render_workers, help="threads that render clips")
    add(
        "--hang-seconds",
        type=float,
        default=defaults.hang_seconds,
        help="seconds until a hanging call ends",
    )
    add("--slow-seconds", type=float, default=defaults.slow_seconds, help="delay of a slow response in seconds")
    add("--huge-bytes", type=int, default=defaults.huge_bytes, help="size of a huge result in bytes")
    add("--journal-limit", type=int, default=defaults.journal_limit, help="calls that the journal keeps in full")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help=f"probability of a fault; repeatable: {', '.join(fault.value for fault in Fault)}",
    )
    return parser


def build_config(options: argparse.Namespace) -> SandboxConfig:
    """Build the configuration from parsed command-line options.

    :raises ValueError: if a value is invalid.
    """
    defaults = SandboxConfig()
    run, queue = options.run_seconds, options.queue_seconds
    return SandboxConfig(
        api_key=options.api_key or os.environ.get(KEY_VARIABLE) or DEFAULT_KEY,
        organizations=tuple(options.organization),
        models=tuple(options.model) or defaults.models,
        drop_unknown=options.drop_unknown,
        seed=options.seed,
        speed=options.speed,
        run_seconds=defaults.run_seconds if run is None else dict.fromkeys(defaults.run_seconds, run),
        full_hd_factor=defaults.full_hd_factor if run is None else 1.0,
        run_sigma=defaults.run_sigma if run is None else 0.0,
        queue_seconds=defaults.queue_seconds if queue is None else queue,
        queue_sigma=defaults.queue_sigma if queue is None else 0.0,
        concurrency=options.concurrency,
        submits_per_second=options.submits_per_second,
        submits_per_hour=options.submits_per_hour,
        reads_per_second=options.reads_per_second,
        retry_after=not options.no_retry_after,
        credits=options.credits,
        prices={**defaults.prices, **_parse_pairs(options.price, "--price")},
        cancel=options.cancel,
        echo_payload=not options.empty_echo,
        list_totals=not options.no_totals,
        clock_skew=options.clock_skew,
        list_lag=options.list_lag,
        rates={Fault(name): rate for name, rate in _parse_pairs(options.fault, "--fault").items()},
        render=options.render,
        render_workers=options.render_workers,
        hang_seconds=options.hang_seconds,
        slow_seconds=options.slow_seconds,
        huge_bytes=options.huge_bytes,
        journal_limit=options.journal_limit,
    )


def _parse_pairs(values: Sequence[str], flag: str) -> dict[str, float]:
    pairs = {}
    for text in values:
        name, sign, number = text.partition("=")
        if not sign:
            raise ValueError(f"{flag} {text}: NAME=NUMBER is expected")
        pairs[name] = float(number)
    return pairs


async def serve(app: SandboxApp, port_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await app.start()
        if port_file is not None:
            write_atomically(port_file, app.base_url + "\n")
        print(f"wan sandbox listening on {app.base_url}", flush=True)
        await stop.wait()
    finally:
        await app.stop()


def write_atomically(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox.

    :returns: the exit code.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        config = build_config(options)
    except ValueError as error:
        parser.error(str(error))
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
    except (MissingDependencyError, OSError) as error:
        print(f"wan sandbox: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
