# SPDX-License-Identifier: Apache-2.0
"""
A ledger that grows: what ``wan-provider spend --since`` and ``ledger --since`` ask of S3 and take, with 200 entries of
the last day among many older ones. ``python -m benchmarks.growth --entries 10000 100000``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from airflow_provider_wan.cli import ledger as ledger_command
from airflow_provider_wan.cli.main import main as run_command
from airflow_provider_wan.ledger import LedgerEntry
from airflow_provider_wan.ledger.entry import record_intent, submitted, succeeded
from benchmarks.report import save
from dev.seaweed import SeaweedFS
from dev.testkit.ledger import a_claim

BUCKET = "ledger"
RECENT = 200
WRITERS = 16


def build_entries(first: int, count: int, at: float) -> Iterator[LedgerEntry]:
    """Entries of clips that were made at a time."""
    for number in range(first, first + count):
        claim = a_claim(now=at, fingerprint=sha256(str(number).encode()).hexdigest())
        entry = submitted(record_intent(claim, at), f"request-{number}", at)
        yield replace(succeeded(entry, at), dag_id="nightly", run_id="scheduled")


def write(s3: SeaweedFS, entries: Iterator[LedgerEntry]) -> None:
    """Write entries, as they are: the ledger itself writes each of them several times."""
    clients = [s3.client() for _ in range(WRITERS)]

    def put(numbered: tuple[int, LedgerEntry]) -> None:
        number, entry = numbered
        key = f"entries/{entry.fingerprint}.json"
        clients[number % WRITERS].put_object(Bucket=BUCKET, Key=key, Body=entry.to_json().encode())

    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(put, enumerate(entries)):
            pass


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
        written = 0
        for count in [3_000] if options.quick else sorted(options.entries):
            write(s3, build_entries(written, count - written, time.time()))
            written = count
            time.sleep(2.0)
            # S3 sets the time of an object. So the last day begins where the older entries have been written, and the
            # margin for clocks, by which the commands read more, lies before it.
            day = time.time() + ledger_command.CLOCK_MARGIN
            write(s3, build_entries(10_000_000, RECENT, day + 60.0))
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
