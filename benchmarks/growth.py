# SPDX-License-Identifier: Apache-2.0
"""
A ledger that grows: what ``wan-provider spend --since`` and ``ledger --since`` ask of S3 and take, with 200 entries of
the last day among many older ones. ``python -m benchmarks.growth --entries 10000 100000``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from airflow_provider_wan.cli import ledger as ledger_command
from airflow_provider_wan.cli.main import main as run_command
from airflow_provider_wan.ledger.entry import record_intent, submitted, succeeded
from benchmarks.report import save
from dev.seaweed import SeaweedFS
from dev.testkit.ledger import a_claim

BUCKET = "ledger"
RECENT = 200
WRITERS = 4


def build_entries(first: int, count: int, at: float) -> Iterator[tuple[str, bytes]]:
    """Fingerprint and JSON of clips that were made at a time."""
    fingerprints = [sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]
    claim = a_claim(now=at, fingerprint=fingerprints[0])
    entry = succeeded(submitted(record_intent(claim, at), f"request-{fingerprints[0]}", at), at)
    text = replace(entry, dag_id="nightly", run_id="scheduled").to_json()
    for fingerprint in fingerprints:
        yield fingerprint, text.replace(fingerprints[0], fingerprint).encode()


def write(s3: SeaweedFS, first: int, count: int, at: float) -> None:
    """
    Write entries as they are, where the ledger itself writes each of them several times.

    They go to SeaweedFS's filer, which is faster than the S3 above it.
    """
    share = -(-count // WRITERS)
    parts = [(s3.filer_port, each, min(share, first + count - each), at) for each in range(first, first + count, share)]
    with ProcessPoolExecutor(WRITERS) as pool:
        for _ in pool.map(_write_part, parts):
            pass


def _write_part(part: tuple[int, int, int, float]) -> None:
    port, first, count, at = part
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for fingerprint, content in build_entries(first, count, at):
        path = f"/buckets/{BUCKET}/entries/{fingerprint}.json?saveInside=true"
        connection.request("PUT", path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 201:
            raise RuntimeError(f"{response.status} {answer[:200]!r}")


@contextlib.contextmanager
def count_requests() -> Iterator[Counter[str]]:
    """Count the requests to S3 by operation."""
    import boto3.session

    counted: Counter[str] = Counter()
    create = boto3.session.Session.client

    def create_counted(self: Any, *arguments: Any, **options: Any) -> Any:
        client = create(self, *arguments, **options)
        client.meta.events.register("before-call.s3", lambda model, **_: counted.update([model.name]))
        return client

    boto3.session.Session.client = create_counted
    try:
        yield counted
    finally:
        boto3.session.Session.client = create


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run a command in this process."""
    output = io.StringIO()
    began, cpu = time.perf_counter(), time.process_time()
    with count_requests() as counted, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = run_command(arguments)
    if status:
        raise SystemExit(output.getvalue())
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "lists": counted["ListObjectsV2"],
        "reads": counted["GetObject"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with SeaweedFS() as s3:
        s3.client().create_bucket(Bucket=BUCKET)
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = s3.airflow_connection()
        # The first command imports what all need.
        measure(["ledger", "--ledger", f"s3://{BUCKET}/entries"])
        written = 0
        for count in [3_000] if options.quick else sorted(options.entries):
            write(s3, written, count - written, time.time())
            written = count
            time.sleep(2.0)
            # S3 sets the time of an object. So the last day begins where the older entries have been written, and the
            # margin for clocks, by which the commands read more, lies before it.
            day = time.time() + ledger_command.CLOCK_MARGIN
            time.sleep(1.0)  # SeaweedFS keeps whole seconds
            write(s3, 10_000_000 + count, RECENT, day + 60.0)
            since = datetime.fromtimestamp(day, UTC).isoformat()
            for name, command in (
                ("spend --since", ["spend", "--since", since]),
                ("ledger --since --state", ["ledger", "--since", since, "--state", "submitted"]),
            ):
                figures = measure([*command, "--ledger", f"s3://{BUCKET}/entries"])
                results.append({"entries": count, "recent": RECENT, "command": name, **figures})
                print(results[-1], flush=True)
    save("growth", results, key=("entries", "command"), quick=options.quick)


if __name__ == "__main__":
    main()
