# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.page`` writes ``docs/benchmarks/README.md`` from the figures, so that they can't differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.bounds import Bound, archive, imports, lag, waiting
from benchmarks.lag import POLL, RATE
from benchmarks.report import FOLDER, read
from benchmarks.service import RUN_SIGMA

Rows = Sequence[Mapping[str, Any]]

HEAD = """# Benchmarks

<!-- Written by `python -m benchmarks.page` from the JSON files beside it: change those, or the program. -->

`make bench` measures all of it and writes this page, its plots and the JSON files that hold every figure with its
command. `make bench ARGS=lag` measures a part of `imports archive lag waiting`.
`make bench ARGS=--quick` tries all of it in a short form that is written nowhere.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,g}" if isinstance(value, float) else str(value)


def bounds_of(bounds: Sequence[Bound]) -> str:
    rows = [(each.wanted, each.figure, "yes" if each.met else "**no**", each.why) for each in bounds]
    return table(("bound", "figure", "met", "what stands in the way"), rows)


def measured(name: str) -> str:
    """With what the figures of a file were found."""
    told = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    machine, versions = told["machine"], told["versions"]
    stamps = {(each["measured"]["command"], each["measured"]["date"]) for each in told["results"]}
    loads = [each["measured"]["load_before"] for each in told["results"]]
    commands = "".join(f"- `{command}` ({date})\n" for command, date in sorted(stamps))
    return (
        f"{commands}\n{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB,"
        f" {machine['system']}, Python {machine['python']}; load of the machine in the"
        f" minutes before: {min(loads)} to {max(loads)}. "
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
                f"{ending['told']} of {ending['ended']}",
            )
        )
    return (
        "Jobs that wait in a real `airflow triggerer`, asked every 10 s. `idle` is a trigger that only sleeps: what"
        " is measured with it is Airflow's own. CPU and memory are those of the process that runs the loop, and of"
        " the one beside it that speaks with the database. Blocks are those that the triggerer's watchdog tells of,"
        " over the whole run, and after all jobs were looked at once; it sleeps for 0.1 s between looks, which is in"
        " its figures, and tells of nothing under 0.13 s. Lag is from the end of a job to Airflow's taking its"
        " event.\n\n"
        + table(
            (
                "trigger",
                "jobs",
                "requests a second",
                "CPU, loop / other",
                "MB, loop / other",
                "longest block, all / later, s",
                "lag p50, s",
                "lag p99, s",
                "told",
            ),
            lines,
        )
    )


def lag_part(rows: Rows) -> str:
    told = (
        f"Simulated, with no sockets: clips of all six kinds, with run times lognormal around the medians that are"
        f" plausible for the service (sigma {RUN_SIGMA:g}), behind a queue that takes 20 s in the middle (sigma 0.8); "
        f"`poll_interval` {POLL:g} s, at most {RATE:g} requests a second; an answer takes 0.2 s, which is in the lags"
        f" of all. *steady*: they come at random. *waves*: all within a minute, every half an hour, of two kinds"
        f" in turn. *queued*: the service runs a tenth of them at a time. {_hours(rows)} The time before, in which"
        " the run times of all kinds are learnt, does not count.\n\n"
        "The *even sweep* is a bound, not a way: each page of 100 holds nothing but clips that wait. The list as it is"
        " has finished ones between them; the sweeps of it are shown as well. The *oracle* knows when each clip ends"
        " and pays one request for it: where more than 5 clips a second end, that is more than the rate allows, and"
        " pages beat it.\n\n"
        "Most of what is saved against the bound is saved by larger pages, if the service gives them; what is known of"
        " ages and run times is the difference to the sweeps of the list as it is, at the same size of page.\n"
    )
    parts = [told]
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
                    "requests a clip",
                    "of the sweep's requests",
                    "p50 of the bound",
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
        "One result from a local server into SeaweedFS, in turns; medians. Ours also checks the MP4, hashes it and"
        " writes its record. rclone is a process of its own: all of its memory counts as added.\n\n"
        + table(
            ("contestant", "MB", "MB a second", "of rclone", "CPU, s", "peak, MB", "added, MB", "each run, s"),
            [
                (
                    each["contestant"],
                    each["megabytes"],
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
        "A fresh process each, in turns: `from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook,"
        " conf`, then the operators. What that adds:\n\n"
        + table(
            ("operators of", "wall, ms (median)", "quartiles", "CPU, ms (median)", "modules", "heavy ones"),
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


SECTIONS = (
    ("waiting", "Waiting", waiting, waiting_part),
    ("lag", "Lag against requests", lag, lag_part),
    ("archive", "Archive", archive, archive_part),
    ("imports", "Imports", imports, imports_part),
)


def page() -> str:
    """The page, from the figures as they are."""
    parts = [HEAD]
    for name, title, bounds, part in SECTIONS:
        rows = read(FOLDER / f"{name}.json")
        if not rows:
            continue
        picture = f"\n![{title}]({name}.png)\n" if (FOLDER / f"{name}.png").exists() else ""
        parts.append(f"## {title}\n\n{bounds_of(bounds(rows))}\n{part(rows)}{picture}\n{measured(name)}")
    return "\n".join(parts)


def main() -> None:
    (FOLDER / "README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
