# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.page`` writes ``docs/benchmarks/README.md`` from the figures, so that they can't differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.bounds import Bound, archive, growth, imports, job, lag, loop, scale, shared_rate, waiting
from benchmarks.lag import POLL, RATE
from benchmarks.report import FOLDER, read
from benchmarks.service import RUN_SIGMA

Rows = Sequence[Mapping[str, Any]]

HEAD = """# Benchmarks

<!-- Written by `python -m benchmarks.page` from the JSON files beside it: change those, or the program. -->

`make bench` runs all benchmarks and writes this page, its plots, and the JSON files with every figure and its command.
`make bench ARGS=lag` runs one part of `imports archive lag waiting loop shared_rate growth scale job`. `make bench
ARGS=--quick` runs a short form of all parts and writes nothing.

Each part begins with a table of goals. A goal that is not met says why.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,g}" if isinstance(value, float) else str(value)


def format_bounds(bounds: Sequence[Bound]) -> str:
    rows = [(each.wanted, each.figure, "yes" if each.met else "**no**", each.why) for each in bounds]
    return table(("goal", "result", "met", "reason if not met"), rows)


def measured(name: str) -> str:
    """Return the commands, machine and versions with which the figures of a file were measured."""
    report = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    machine, versions = report["machine"], report["versions"]
    stamps = {(each["measured"]["command"], each["measured"]["date"]) for each in report["results"]}
    loads = [each["measured"]["load_before"] for each in report["results"]]
    commands = "".join(f"- `{command}` ({date})\n" for command, date in sorted(stamps))
    return (
        f"{commands}\n{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB,"
        f" {machine['system']}, Python {machine['python']}; load average before the"
        f" runs: {min(loads)} to {max(loads)}. "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + f". All figures: [{name}.json]({name}.json).\n"
    )


def waiting_part(rows: Rows) -> str:
    lines = []
    for each in sorted(rows, key=lambda row: (row["waiting"], row["contestant"] not in ("ours", "idle"))):
        steady, ending = each["steady"], each["ending"]
        lines.append(
            (
                each["contestant"],
                f"{each['waiting']:,}",
                steady["requests_per_second"],
                f"{steady['cpu_of_runner']:.1%} / {steady['cpu_of_supervisor']:.1%}",
                f"{steady['memory_of_runner_mb']:.0f} / {steady['memory_of_supervisor_mb']:.0f}",
                f"{each['longest_block_of_the_loop']:.2f} / {each['longest_block_later']:.2f}",
                ending["lag_p50"],
                ending["lag_p99"],
                f"{ending['resumed']} of {ending['ended']}",
            )
        )
    return (
        "Jobs wait in a real `airflow triggerer` and are polled every 10 s. `idle` is a trigger that only sleeps; it"
        " shows what Airflow itself needs. CPU and memory are given for the process that runs the event loop, and"
        " for the process beside it that accesses the database. A block is a time in which the event loop was"
        " blocked, as the triggerer's watchdog reports it: over the whole run, and after every job was polled once."
        " The watchdog sleeps for 0.1 s between checks, which is included, and reports no block under 0.13 s. Lag is"
        " the time from the end of a job until Airflow receives its event.\n\n"
        + table(
            (
                "trigger",
                "jobs",
                "requests per second",
                "CPU, loop / other",
                "MB, loop / other",
                "longest block, all / later, s",
                "lag p50, s",
                "lag p99, s",
                "events received",
            ),
            lines,
        )
    )


def lag_part(rows: Rows) -> str:
    introduction = (
        "A simulation without sockets. Clips are of all six kinds (resolution and duration). Run times are lognormal"
        f" around medians that are plausible for the service (sigma {RUN_SIGMA:g}); queue times have a median of 20 s"
        f" (sigma 0.8). `poll_interval` is {POLL:g} s, with at most {RATE:g} requests per second. A response takes"
        " 0.2 s, which is included in every lag.\n\n"
        "- *steady*: clips arrive at random times.\n"
        "- *bursts*: every half an hour, clips of two kinds in turn arrive within a minute.\n"
        "- *queued*: the service runs a tenth of the clips at a time.\n\n"
        f"Simulated times: {_hours(rows)} The warm-up, in which the run times of all kinds are learnt, is not"
        " counted.\n\n"
        "The *even sweep* reads the whole list at even intervals. As a bound it is idealized: each page of 100 contains"
        " only clips that still wait. In the real list there are finished clips between them; sweeps of the list as it"
        " is are shown too. The *oracle* knows when each clip ends and uses one request for it. If more than 5 clips"
        " per second end, that exceeds the rate limit, and pages are better.\n\n"
        "Larger pages account for most of the savings against the bound, if the service returns them. The knowledge of"
        " ages and run times accounts for the difference to the sweeps of the list as it is, at the same page size.\n"
    )
    parts = [introduction]
    for each in sorted(rows, key=lambda row: (row["in_flight"], row["load"])):
        lines = [
            (
                way["way"],
                way["lag_p50"],
                way["lag_p99"],
                way["requests_per_clip"],
                way["of_even_sweep_s_requests"],
                way["p50_in_bounds"],
                way["p99_in_sweeps"],
            )
            for way in each["ways"]
        ]
        parts.append(
            f"**{each['in_flight']:,} in flight, {each['load']}** ({each['clips']:,} clips; a sweep takes at most"
            f" {each['longest_sweep']:g} s)\n\n"
            + table(
                (
                    "way",
                    "lag p50, s",
                    "lag p99, s",
                    "requests per clip",
                    "share of the bound's requests",
                    "p50 relative to the bound",
                    "p99 in sweeps",
                ),
                lines,
            )
        )
    return "\n".join(parts)


def _hours(rows: Rows) -> str:
    hours = sorted({(each["in_flight"], each["hours"]) for each in rows})
    return "; ".join(f"{flight:,} in flight: {long:g} hours" for flight, long in hours) + "."


def archive_part(rows: Rows) -> str:
    return (
        "Results are copied from a local server into SeaweedFS, one or eight at a time. The contestants take turns;"
        " figures are medians. Ours also checks the MP4, hashes it and writes its record. The start of a process is"
        " left out: each has archived a small clip before its time begins, and rclone is a server, `rclone rcd`.\n\n"
        + (
            "**The figures below are of an earlier form of this benchmark**, whose time includes the S3 client that"
            " ours creates, and the start of rclone.\n\n"
            if any(each.get("start_included") for each in rows)
            else ""
        )
        + table(
            (
                "contestant",
                "MB",
                "at a time",
                "MB per second",
                "relative to rclone",
                "CPU, s",
                "peak, MB",
                "added, MB",
                "each run, s",
            ),
            [
                (
                    each["contestant"],
                    each["megabytes"],
                    each["at_a_time"],
                    each["megabytes_per_second"],
                    each["of_rclone"],
                    each["cpu_seconds"],
                    each["peak_mb"],
                    each["added_mb"],
                    ", ".join(f"{seconds:g}" for seconds in each["all_seconds"]),
                )
                for each in rows
            ],
        )
    )


def imports_part(rows: Rows) -> str:
    return (
        "Each measurement uses a fresh process, and the contestants take turns. The process first runs `from"
        " airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook, conf`, then imports the operators."
        " The table shows what the second import adds:\n\n"
        + table(
            ("operators of", "wall, ms (median)", "quartiles", "CPU, ms (median)", "modules", "heavy modules"),
            [
                (
                    each["contestant"],
                    each["wall_ms_median"],
                    "–".join(f"{ms:g}" for ms in each["wall_ms_quartiles"]),
                    each["cpu_ms_median"],
                    each["modules"],
                    ", ".join(each["heavy"]) or "none",
                )
                for each in sorted(rows, key=lambda row: row["wall_ms_median"])
            ],
        )
    )


def shared_rate_part(rows: Rows) -> str:
    return (
        "Two triggerers and four batches, each a process, poll one sandbox as often as they may. `used` is the share of"
        " the rate that they use together. A slot has a margin of 5%, so that 95.2% is the most. Requests to the store"
        " are reads and writes of the object by which they share the rate.\n\n"
        + table(
            ("rate", "way", "calls", "used", "most in 1 s", "most in 10 s", "requests to S3 per second"),
            [
                (
                    each["rate"],
                    each["way"],
                    each["calls"],
                    f"{each['used']:.1%}",
                    each["most_in_1_s"],
                    each["most_in_10_s"],
                    each["store_requests_per_second"],
                )
                for each in rows
            ],
        )
    )


def growth_part(rows: Rows) -> str:
    return (
        "A ledger in SeaweedFS with many older entries and some of the last day. A request lists 1,000 names; only"
        " entries of the last day are read.\n\n"
        + table(
            ("entries", "of the last day", "command", "s", "CPU, s", "lists", "reads"),
            [
                (
                    f"{each['entries']:,}",
                    each["recent"],
                    f"`{each['command']}`",
                    each["seconds"],
                    each["cpu_seconds"],
                    each["lists"],
                    each["reads"],
                )
                for each in sorted(rows, key=lambda row: (row["entries"], row["command"]))
            ],
        )
    )


def scale_part(rows: Rows) -> str:
    return (
        "A batch in its own process, with at most 200 requests in flight; the sandbox makes a clip within some seconds."
        " CPU and memory are those of the batch's process.\n\n"
        + table(
            ("clips", "s", "CPU for a clip, ms", "requests to S3 for a clip", "to the API", "memory, MB"),
            [
                (
                    f"{each['clips']:,}",
                    each["seconds"],
                    each["cpu_ms_per_clip"],
                    each["s3_requests_per_clip"],
                    each["api_requests_per_clip"],
                    each["peak_mb"],
                )
                for each in sorted(rows, key=lambda row: row["clips"])
            ],
        )
    )


def loop_part(rows: Rows) -> str:
    return (
        "Triggers in a plain event loop, without Airflow's triggerer: ours, and triggers that only sleep and fire their"
        " events at the times at which ours fired theirs. The start ends 15 s after the last trigger has begun. Medians"
        " of the longest block of each round.\n\n"
        + table(
            ("triggers", "waiting", "events", "start, ms", "later, ms", "longest collection, ms", "CPU", "memory, MB"),
            [
                (
                    each["contestant"],
                    f"{each['waiting']:,}",
                    each["events"],
                    each["longest_block_at_start_ms"],
                    each["longest_block_later_ms"],
                    each["longest_collection_ms"],
                    f"{each['cpu_share']:.1%}",
                    each["rss_mb"],
                )
                for each in rows
            ],
        )
    )


def job_part(rows: Rows) -> str:
    return (
        "The same images, from S3 to clips in S3, on one Airflow, one way after the other. The sandbox runs faster than"
        " the service, and all clips at once. *Beyond* is the time to the last clip without the time of the slowest"
        " clip at the service. Worker-seconds are those in which workers ran tasks. CPU and memory are Airflow's, or"
        " the script's. HttpSensor can't defer here: its trigger ends at any 200. Where a worker was killed, the script"
        " was started again at once.\n\n"
        + table(
            (
                "images",
                "way",
                "worker killed",
                "to the last clip, s",
                "beyond, s",
                "worker-seconds",
                "CPU, s",
                "memory, MB",
                "requests to the API",
                "to S3",
                "charges",
                "clips",
            ),
            [
                (
                    each["images"],
                    each["way"],
                    "yes" if each["killed"] else "no",
                    each["seconds_to_last_clip"],
                    each["beyond_service"],
                    each["worker_seconds"],
                    each["cpu_seconds"],
                    each["peak_mb"],
                    each["api_requests"],
                    each["s3_requests"],
                    ", ".join(str(count) for count in each["charges"]),
                    ", ".join(str(count) for count in each["clips"]),
                )
                for each in sorted(rows, key=lambda row: (row["images"], row["killed"], row["seconds_to_last_clip"]))
            ],
        )
    )


SECTIONS = (
    ("job", "The whole job", job, job_part),
    ("waiting", "Waiting", waiting, waiting_part),
    ("lag", "Lag against requests", lag, lag_part),
    ("loop", "The event loop", loop, loop_part),
    ("archive", "Archive", archive, archive_part),
    ("imports", "Imports", imports, imports_part),
    ("shared_rate", "One rate for all processes", shared_rate, shared_rate_part),
    ("growth", "A growing ledger", growth, growth_part),
    ("scale", "Batches of more clips", scale, scale_part),
)


def page() -> str:
    """Build the page from the figures."""
    parts = [HEAD]
    for name, title, bounds, part in SECTIONS:
        rows = read(FOLDER / f"{name}.json")
        if not rows:
            continue
        picture = f"\n![{title}]({name}.png)\n" if (FOLDER / f"{name}.png").exists() else ""
        parts.append(f"## {title}\n\n{format_bounds(bounds(rows))}\n{part(rows)}{picture}\n{measured(name)}")
    return "\n".join(parts)


def main() -> None:
    (FOLDER / "README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
