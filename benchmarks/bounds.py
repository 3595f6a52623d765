# SPDX-License-Identifier: Apache-2.0
"""The goals of the figures, and how the figures compare with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lag import LARGE, OURS, OURS_USUAL, USUAL

Row = Mapping[str, Any]

BLOCK, CORE, MEMORY_MB, RATE, MEDIAN_LAG = 0.2, 0.25, 400, 5.0, 15.0
FEWER_REQUESTS, LESS_CPU = 10, 5
P50, SHARE, P99 = 1.1, 0.5, 1.5
OF_RCLONE, ADDED_MB = 0.9, 100
USED = 0.95
BLOCK_RATIO = 1.2
IMPORT_MS = 50


@dataclass(frozen=True)
class Bound:
    """
    :param wanted: the goal.
    :param figure: the result.
    :param why: why the goal is not met, if it is not.
    """

    wanted: str
    figure: str
    met: bool
    why: str = ""


def waiting(rows: Sequence[Row]) -> list[Bound]:
    found: list[Bound] = []
    runs = {(each["contestant"], each["waiting"]): each for each in rows}
    if large := runs.get(("ours", 10000)):
        found += _large(large, runs.get(("idle", 10000)))
    if small := runs.get(("ours", 1000)):
        found += _small(small, rows)
    return found


def _large(ours: Row, idle: Row | None) -> list[Bound]:
    steady, ending = ours["steady"], ours["ending"]
    block, later = ours["longest_block_of_the_loop"], ours["longest_block_later"]
    zero = (
        f"Airflow's own start: with {idle['waiting']:,} triggers that only sleep, the loop is blocked for up to"
        f" {idle['longest_block_of_the_loop']:.2f} s, and {idle['blocks_over_0.2']} times for over {BLOCK} s, while the"
        f" triggers start; with ours {ours['blocks_over_0.2']} times. Later blocks are Python's garbage collector:"
        " it traverses what Airflow keeps for each trigger (a task instance and a context) as others end. While so many"
        " triggers start at once, Airflow may also log that its loop seems dead (no heartbeat for 30 s)."
        if idle and idle["longest_block_of_the_loop"] > BLOCK
        else ""
    )
    cpu, other = steady["cpu_of_runner"], steady["cpu_of_supervisor"]
    return [
        Bound(
            f"10,000 waiting: no block of the loop over {BLOCK} s, start included",
            f"{block:.2f} s; {later:.2f} s after each was polled once",
            block <= BLOCK,
            zero if block > BLOCK else "",
        ),
        Bound(
            f"10,000 waiting: under {CORE:.0%} of a core",
            f"{cpu:.1%}, and {other:.1%} in the process beside it",
            cpu + other < CORE,
            f"The process beside it, which accesses the database, takes {idle['steady']['cpu_of_supervisor']:.1%}"
            " with triggers that only sleep."
            if idle and cpu + other >= CORE
            else "",
        ),
        Bound(
            f"10,000 waiting: under {MEMORY_MB} MB",
            f"{steady['memory_of_runner_mb']:.0f} MB, and {steady['memory_of_supervisor_mb']:.0f} MB in the process"
            " beside it",
            steady["memory_of_runner_mb"] < MEMORY_MB,
        ),
        Bound(
            f"10,000 waiting: never more than {RATE:g} requests per second",
            f"{ours['most_in_ten_seconds'] / 10:g} per second in the busiest ten seconds",
            ours["most_in_ten_seconds"] <= 10 * RATE + 1,
        ),
        Bound(
            f"10,000 waiting: median lag under {MEDIAN_LAG:g} s",
            f"{ending['lag_p50']} s (p99 {ending['lag_p99']} s)",
            (ending["lag_p50"] or 1e9) < MEDIAN_LAG,
            "" if (ending["lag_p50"] or 1e9) < MEDIAN_LAG else "See the lag of the others, and Airflow's own share.",
        ),
    ]


def per_clip(each: Row) -> tuple[float, float]:
    """Requests, and seconds of CPU of both processes, for each clip that ended, while they end."""
    ending = each["ending"]
    resumed = max(1, ending["resumed"])
    return (
        ending["requests"] / resumed,
        (ending["cpu_seconds_of_runner"] + ending["cpu_seconds_of_supervisor"]) / resumed,
    )


def _small(ours: Row, rows: Sequence[Row]) -> list[Bound]:
    lag = ours["ending"]["lag_p50"]
    peers = [
        each
        for each in rows
        if each["contestant"] not in ("ours", "idle")
        and each["waiting"] == ours["waiting"]
        and each["ending"]["resumed"]
    ]
    if not peers or lag is None:
        return []
    as_good = [each for each in peers if each["ending"]["lag_p50"] <= lag] or [
        min(peers, key=lambda each: each["ending"]["lag_p50"])
    ]
    requests, cpu = per_clip(ours)
    least = min(as_good, key=lambda each: per_clip(each)[0])
    cheapest = min(as_good, key=lambda each: per_clip(each)[1])
    thrifty = min(peers, key=lambda each: per_clip(each)[1])
    fewer, less = per_clip(least)[0] / max(requests, 1e-9), per_clip(cheapest)[1] / max(cpu, 1e-9)
    idle = next((each for each in rows if each["contestant"] == "idle" and each["waiting"] == ours["waiting"]), None)
    steady = ours["steady"]
    own = (
        f"Airflow itself processes the events, at the same cost for all: {steady['cpu_of_runner']:.1%} of a"
        f" core in the loop's process while no job ends, compared with {cheapest['steady']['cpu_of_runner']:.1%}"
        f" ({cheapest['contestant']})"
        + (f" and {idle['steady']['cpu_of_runner']:.1%} with triggers that only sleep." if idle else ".")
    )
    return [
        Bound(
            f"1,000 waiting: {FEWER_REQUESTS} times fewer requests per finished clip than the best peer with the same"
            " or a better median lag",
            f"{fewer:.0f} times: {requests:.2f} compared with {per_clip(least)[0]:.1f} ({least['contestant']}; median"
            f" lag {lag} s compared with {least['ending']['lag_p50']} s)",
            fewer >= FEWER_REQUESTS,
        ),
        Bound(
            f"1,000 waiting: {LESS_CPU} times less CPU per finished clip than that peer",
            f"{less:.1f} times: {1000 * cpu:.0f} ms compared with {1000 * per_clip(cheapest)[1]:.0f} ms"
            f" ({cheapest['contestant']}), both processes. The cheapest peer at any lag: {thrifty['contestant']},"
            f" {1000 * per_clip(thrifty)[1]:.0f} ms at {thrifty['ending']['lag_p50']} s",
            less >= LESS_CPU,
            own if less < LESS_CPU else "",
        ),
    ]


def lag(rows: Sequence[Row]) -> list[Bound]:
    return [_lag(each) for each in sorted(rows, key=lambda row: (row["in_flight"], row["load"]))]


def _lag(each: Row) -> Bound:
    ways = {way["way"]: way for way in each["ways"]}
    ours, usual, oracle = ways[OURS], ways[OURS_USUAL], ways["oracle"]
    p50, share, p99 = ours["p50_in_bounds"], ours["of_even_sweep_s_requests"], ours["p99_in_sweeps"]
    met = p50 <= P50 and share <= SHARE and p99 <= P99
    real = ways[next(name for name in ways if name.startswith("even sweep of the list"))]
    figure = (
        f"{p50:g}, {share:g}, {p99:g} with pages of up to {LARGE}; {usual['p50_in_bounds']:g},"
        f" {usual['of_even_sweep_s_requests']:g}, {usual['p99_in_sweeps']:g} if the service returns {USUAL}."
        f" A sweep of the list as it is: {real['p50_in_bounds']:g}, {real['of_even_sweep_s_requests']:g}."
        f" Oracle: {oracle['lag_p50']:g} s for {oracle['of_even_sweep_s_requests']:g}"
    )
    why = []
    least = each["least_of_even_sweep_s_requests"]
    if share > SHARE and least is not None:
        why.append(
            "One page contains all clips, so each poll costs one request whatever is known about ages. Polls that are"
            " scheduled with the true distribution of the run times, and with the start of each clip, need at least"
            f" {least:g} of the sweep's requests for these lags (without using which clips earlier polls showed"
            " running)."
        )
    elif share > SHARE:
        why.append(
            "The bound's pages contain only clips that wait. The pages of the list also contain finished clips, so that"
            " one scan of all clips costs more than the bound."
        )
    if p50 > P50 or p99 > P99:
        why.append("Fewer polls while few clips end increase the lag.")
    return Bound(
        f"{each['in_flight']:,} in flight, {each['load']}: p50 ≤ {P50:g} of the even sweep, ≤ {SHARE:g} of its"
        f" requests, p99 < {P99:g} sweeps",
        figure,
        met,
        " ".join(why),
    )


def archive(rows: Sequence[Row]) -> list[Bound]:
    found = {(each["megabytes"], each["at_a_time"], each["contestant"]): each for each in rows}
    bounds = []
    for size, at_a_time in sorted({(each["megabytes"], each["at_a_time"]) for each in rows}):
        ours, theirs = (found[size, at_a_time, name] for name in ("ours", "HttpToS3Operator"))
        rclone = found[size, at_a_time, "rclone copyurl"]
        least = found.get((size, at_a_time, "requests, put_object"))
        bare = f" Bare `requests` and `put_object`, which do none of that: {least['of_rclone']:g}." if least else ""
        bounds.append(
            Bound(
                f"{at_a_time} of {size:,} MB: at least {OF_RCLONE:g} of rclone's throughput",
                f"{ours['of_rclone']:g} (HttpToS3Operator {theirs['of_rclone']:g})",
                ours["of_rclone"] >= OF_RCLONE,
                f"The SHA-256, the checks and the record: {ours['cpu_seconds']:g} s of CPU, rclone's"
                f" {rclone['cpu_seconds']:g} s, on a machine whose cores SeaweedFS and the server share.{bare}"
                if ours["of_rclone"] < OF_RCLONE
                else "",
            )
        )
        if size == 1000:
            bounds.append(
                Bound(
                    f"1 GB: under {ADDED_MB} MB of added memory",
                    f"{ours['added_mb']:g} MB (HttpToS3Operator {theirs['added_mb']:g} MB)",
                    ours["added_mb"] < ADDED_MB,
                )
            )
    return bounds


def shared_rate(rows: Sequence[Row]) -> list[Bound]:
    bounds = []
    for each in rows:
        if not each["way"].startswith("shared"):
            continue
        most = each["most_in_10_s"] / (10.0 * each["rate"])
        bounds.append(
            Bound(
                f"{each['rate']} a second, {each['way']}: never passed in 10 s",
                f"{each['most_in_10_s']} calls, {most:.1%}",
                most <= 1.0,
                "" if most <= 1.0 else "Calls are delayed on their way on a busy machine, and arrive together.",
            )
        )
        if each["way"] == "shared":
            is_met = each["used"] >= USED
            reason = "" if is_met else "Slots that a busy machine reaches more than 0.05 s late are lost."
            bounds.append(
                Bound(
                    f"{each['rate']} a second: at least {USED:.0%} of it used",
                    f"{each['used']:.1%}",
                    is_met,
                    reason,
                )
            )
    return bounds


def loop(rows: Sequence[Row]) -> list[Bound]:
    found = {(each["waiting"], each["contestant"]): each for each in rows}
    bounds = []
    for waiting in sorted({each["waiting"] for each in rows}):
        ours, theirs = found[waiting, "ours"], found[waiting, "sleeping"]
        for name, when in (("longest_block_at_start_ms", "at the start"), ("longest_block_later_ms", "later")):
            ratio = ours[name] / max(theirs[name], 0.1)
            is_met = ratio <= BLOCK_RATIO
            collections = f"{ours['longest_collection_ms']:g} and {theirs['longest_collection_ms']:g} ms"
            bounds.append(
                Bound(
                    f"{waiting:,} waiting, {when}: longest block ≤ {BLOCK_RATIO:g} of theirs",
                    f"{ours[name]:g} ms, {ratio:.2f} of {theirs[name]:g} ms",
                    is_met,
                    "" if is_met else f"The longest collections of garbage took {collections}.",
                )
            )
    return bounds


def job(rows: Sequence[Row]) -> list[Bound]:
    bounds = []
    for images in sorted({each["images"] for each in rows}):
        ours = [each for each in rows if each["images"] == images and each["way"].startswith("ours")]
        wrong = [each["way"] for each in ours if {*each["charges"], *each["clips"]} != {images}]
        bounds.append(
            Bound(
                f"{images} images: ours pays once for each clip and loses none, killed or not",
                "in all ways" if not wrong else f"not in {', '.join(sorted(set(wrong)))}",
                not wrong,
            )
        )
        by_way = {each["way"]: each for each in ours if not each["killed"]}
        loop_way, deferred = by_way.get("ours, batch in its worker"), by_way.get("ours, batch that defers")
        if loop_way and deferred:
            # As if the slowest clip of both had taken the same time at the service.
            own = deferred["beyond_service"] - loop_way["beyond_service"]
            slower = own / loop_way["seconds_to_last_clip"]
            share = deferred["worker_seconds"] / max(loop_way["worker_seconds"], 0.1)
            is_met = slower <= 0.02 and share <= 0.25
            reason = (
                "A deferral cycle starts a worker, which takes seconds; the sped-up service leaves little to wait for."
            )
            bounds.append(
                Bound(
                    f"{images} images: a batch that defers within 2% of one in its worker, at a quarter of its"
                    " worker-seconds",
                    f"{slower:+.1%}, {share:.0%} of its worker-seconds",
                    is_met,
                    "" if is_met else reason,
                )
            )
        bounds += _compare_with_others(rows, images)
    return bounds


def _compare_with_others(rows: Sequence[Row], images: int) -> list[Bound]:
    """Ours beside what it replaces, without the time of the slowest clip at the service."""
    by_way = {each["way"]: each for each in rows if each["images"] == images and not each["killed"]}
    of_script = (
        "The script neither checks an image or a clip nor records a payment, and submits all at once. The batch submits"
        " 10 a second, and takes CPU and requests to S3 for each clip: see *Batches of more clips*."
    )
    bounds = []
    for name, other_name, reason in (
        ("ours, three tasks", "HttpOperator, HttpSensor, HttpToS3Operator", ""),
        ("ours, one task", "a task with requests", ""),
        ("ours, batch in its worker", "a script with asyncio", of_script),
    ):
        if name in by_way and other_name in by_way:
            own, other = (by_way[each]["beyond_service"] for each in (name, other_name))
            is_met = own <= other
            title = f"{images} images: {name.removeprefix('ours, ')}, no slower than {other_name}"
            result = f"{own:g} s beyond the service's, {other:g} s"
            bounds.append(Bound(title, result, is_met, "" if is_met else reason))
    return bounds


def growth(rows: Sequence[Row]) -> list[Bound]:
    read = max(each["reads"] - each["recent"] for each in rows)
    return [
        Bound(
            "only entries of the last day are read",
            f"{read} more at most",
            read <= 0,
        ),
        Bound(
            "no full listing of the names",
            f"{max(each['lists'] for each in rows)} requests at {max(each['entries'] for each in rows):,} entries",
            False,
            "S3 lists names only in their order. 1,000,000 names are 1,000 requests, made side by side. An index by day"
            " would cost a further write for each clip, before the payment: as many requests as a thousand such"
            " listings.",
        ),
    ]


def scale(rows: Sequence[Row]) -> list[Bound]:
    fewest, most = min(rows, key=lambda row: row["clips"]), max(rows, key=lambda row: row["clips"])
    bounds = []
    for name, what in (("cpu_ms", "CPU"), ("s3_requests", "requests to S3"), ("api_requests", "requests to the API")):
        before, after = fewest[f"{name}_per_clip"], most[f"{name}_per_clip"]
        bounds.append(
            Bound(
                f"{what} for a clip: no more in {most['clips']:,} than in {fewest['clips']:,}",
                f"{after:g}, {before:g}",
                after <= before,
            )
        )
    wrong = [each["clips"] for each in rows if {each["charges"], each["archived"]} != {each["clips"]}]
    bounds.append(Bound("one charge and one archived clip for each row", "yes" if not wrong else str(wrong), not wrong))
    return bounds


def imports(rows: Sequence[Row]) -> list[Bound]:
    ours = next(each for each in rows if each["contestant"] == "ours")
    return [
        Bound(
            f"importing the operators adds under {IMPORT_MS} ms",
            f"{ours['wall_ms_median']:g} ms",
            ours["wall_ms_median"] < IMPORT_MS,
        ),
        Bound(
            "the operators import none of requests, aiohttp, boto3, PIL and av",
            ", ".join(ours["heavy"]) or "none of them",
            not ours["heavy"],
        ),
    ]
