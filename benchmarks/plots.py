# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.plots`` draws the figures of ``docs/benchmarks`` from their JSON, and the policy's plot."""

from __future__ import annotations

import math
import random
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import NullFormatter

from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.polling.decision import PollTarget
from airflow_provider_wan.polling.runtime_stats import RuntimeStats
from airflow_provider_wan.polling.scheduler import PollScheduler
from benchmarks.report import FOLDER, read

KIND = ("720P", 5)


def lag() -> None:
    """Lag against requests, one panel a load and number in flight."""
    found = read(FOLDER / "lag.json")
    if not found:
        return
    flights = sorted({each["in_flight"] for each in found})
    loads = sorted({each["load"] for each in found})
    figure, panels = pyplot.subplots(
        len(flights),
        len(loads),
        figsize=(4.4 * len(loads), 3.2 * len(flights) + 1.0),
        squeeze=False,
        layout="constrained",
    )
    names = [way["way"] for way in found[0]["ways"]]
    for each in found:
        panel = panels[flights.index(each["in_flight"])][loads.index(each["load"])]
        for way in each["ways"]:
            place = names.index(way["way"])
            ours = way["way"].startswith("ours")
            at, low, high = way["requests_per_clip"], max(0.1, way["lag_p50"]), max(0.1, way["lag_p99"])
            panel.plot([at, at], [low, high], "-", color=f"C{place}", alpha=0.5)
            panel.plot(
                at,
                low,
                "osDv^<>PXd"[place],
                color=f"C{place}",
                label=way["way"],
                markersize=10 if ours else 7,
                markeredgecolor="k" if ours else "none",
            )
        panel.set(xscale="log", yscale="log", title=f"{each['in_flight']:,} in flight, {each['load']}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("requests a clip")
    for row in panels:
        row[0].set_ylabel("lag, s: median, line up to p99")
    for panel in panels.flat:
        # This load was not measured.
        panel.set_visible(panel.has_data())
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(FOLDER / "lag.png", dpi=100)
    pyplot.close(figure)


def bars(name: str, rows: list[dict[str, Any]], labels: list[str], values_by_panel: dict[str, list[float]]) -> None:
    """Horizontal bars, ours in colour, a panel for each measure."""
    figure, panels = pyplot.subplots(
        1,
        len(values_by_panel),
        figsize=(3.6 * len(values_by_panel) + 1.5, 0.36 * len(rows) + 1.6),
        sharey=True,
        layout="constrained",
    )
    colours = ["C0" if row.get("contestant", row.get("way", "")).startswith("ours") else "0.65" for row in rows]
    for panel, (title, values) in zip(panels, values_by_panel.items(), strict=True):
        drawn = panel.barh(labels, values, color=colours)
        panel.bar_label(
            drawn, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values], fontsize=8, padding=2
        )
        panel.set_title(title, fontsize=10)
        panel.margins(x=0.2)
    panels[0].invert_yaxis()
    figure.savefig(FOLDER / f"{name}.png", dpi=100)
    pyplot.close(figure)


def waiting() -> None:
    """Plot the costs of waiting."""
    rows = sorted(
        read(FOLDER / "waiting.json"),
        key=lambda each: (each["waiting"], each["contestant"] != "ours", each["contestant"] != "idle"),
    )
    if rows:
        bars(
            "waiting",
            rows,
            [f"{each['contestant']}, {each['waiting']:,}" for each in rows],
            {
                "requests a second": [each["steady"]["requests_per_second"] for each in rows],
                "% of a core, both processes": [
                    100 * (each["steady"]["cpu_of_runner"] + each["steady"]["cpu_of_supervisor"]) for each in rows
                ],
                "MB of the loop's process": [each["steady"]["memory_of_runner_mb"] for each in rows],
                "longest block of the loop, s": [each["longest_block_of_the_loop"] for each in rows],
                "median lag, s": [each["ending"]["lag_p50"] or 0 for each in rows],
            },
        )


def archive() -> None:
    """Throughput and added memory."""
    rows = read(FOLDER / "archive.json")
    if rows:
        bars(
            "archive",
            rows,
            [f"{each['contestant']}, {each['at_a_time']} of {each['megabytes']:,} MB" for each in rows],
            {
                "MB a second": [each["megabytes_per_second"] for each in rows],
                "added memory, MB": [each["added_mb"] for each in rows],
            },
        )


def job() -> None:
    """Time to the last clip, with the slowest clip's time at the service, and worker-seconds, without a kill."""
    rows = [each for each in read(FOLDER / "job.json") if not each["killed"]]
    if not rows:
        return
    rows.sort(key=lambda each: (each["images"], each["beyond_service"]))
    labels = [f"{each['images']} images: {each['way']}" for each in rows]
    colours = ["C0" if each["way"].startswith("ours") else "0.5" for each in rows]
    figure, (times, workers) = pyplot.subplots(
        1, 2, figsize=(10.5, 0.36 * len(rows) + 1.6), sharey=True, layout="constrained"
    )
    beyond = [each["beyond_service"] for each in rows]
    service = [each["seconds_to_last_clip"] - each["beyond_service"] for each in rows]
    times.barh(labels, beyond, color=colours)
    drawn = times.barh(labels, service, left=beyond, color=colours, alpha=0.3)
    times.bar_label(
        drawn,
        [f"{own:,.0f} + {clip:,.0f}" for own, clip in zip(beyond, service, strict=True)],
        fontsize=8,
        padding=2,
    )
    times.set_title("seconds: its own + the service's (pale)", fontsize=10)
    drawn = workers.barh(labels, [each["worker_seconds"] for each in rows], color=colours)
    workers.bar_label(drawn, [f"{each['worker_seconds']:,.0f}" for each in rows], fontsize=8, padding=2)
    workers.set_title("worker-seconds", fontsize=10)
    for panel in (times, workers):
        panel.margins(x=0.2)
    times.invert_yaxis()
    figure.savefig(FOLDER / "job.png", dpi=100)
    pyplot.close(figure)


def scale() -> None:
    """What a clip takes, by the number of clips."""
    rows = sorted(read(FOLDER / "scale.json"), key=lambda each: int(each["clips"]))
    if rows:
        bars(
            "scale",
            rows,
            [f"{each['clips']:,} clips" for each in rows],
            {
                "CPU for a clip, ms": [each["cpu_ms_per_clip"] for each in rows],
                "requests to S3 for a clip": [each["s3_requests_per_clip"] for each in rows],
                "memory, MB": [each["peak_mb"] for each in rows],
            },
        )


def imports() -> None:
    """Milliseconds and modules."""
    rows = sorted(read(FOLDER / "imports.json"), key=lambda each: float(each["wall_ms_median"]))
    if rows:
        bars(
            "imports",
            rows,
            [each["contestant"] for each in rows],
            {
                "ms that importing adds": [each["wall_ms_median"] for each in rows],
                "modules that it loads": [each["modules"] for each in rows],
            },
        )


def policy() -> None:
    """Plot when a request is polled: nothing known of its kind, or 100 run times known, for three queue times."""
    roll = random.Random(1)
    stats = RuntimeStats()
    for _ in range(100):
        stats.add(KIND, 60.0 * math.exp(0.2 * roll.gauss(0, 1)))
    distribution = stats.distribution(KIND)
    assert distribution is not None
    figure, panel = pyplot.subplots(figsize=(9, 3.4))
    rows = (
        ("kind unknown, no queue", None, 0.0),
        ("kind known, no queue", stats, 0.0),
        ("kind known, 40 s in the queue", stats, 40.0),
        ("kind known, 120 s in the queue", stats, 120.0),
    )
    for row, (_, known, queue) in enumerate(rows):
        polls = poll_times(known or RuntimeStats(), queue)
        panel.plot(polls, [row] * len(polls), "|", markersize=16, markeredgewidth=2, color="C0")
        times = [queue + second for second in range(120)]
        height = [distribution.probability(t - queue + 1) - distribution.probability(t - queue) for t in times]
        panel.fill_between(times, row, [row + 12 * h for h in height], alpha=0.25, color="C1")
    panel.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    panel.set(xlabel="seconds since the submission", xlim=(0, 260), ylim=(-0.5, len(rows)))
    panel.set_title("Polls of a request that has not ended (bars), and when its kind usually ends (shade)", fontsize=9)
    figure.tight_layout()
    figure.savefig(FOLDER / "policy.png", dpi=110)


def poll_times(stats: RuntimeStats, queue: float) -> list[float]:
    """Return when a request that never ends is polled."""
    scheduler, start, times = PollScheduler(stats), 1e6, []
    scheduler.add(PollTarget("r", start + 9999, start + 8, 10.0, None, *KIND, start), start, 0.0)
    now = start
    while now < start + 260:
        polls, again = scheduler.select_polls(now, 5, 5.0)
        for poll in polls:
            times.append(now - start)
            running = now >= start + queue
            status = RequestStatus.PROCESSING if running else RequestStatus.QUEUED
            updated = start + queue if running else start
            payload = {"resolution": KIND[0], "duration": KIND[1]}
            record = RequestRecord("r", status, status.value, None, start, updated, payload=payload)
            scheduler.on_record(poll, record, now, now)
        now = max(now + 0.25, min(again, now + 1.0))
    return times


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (job, lag, waiting, archive, scale, imports, policy):
        draw()


if __name__ == "__main__":
    main()
