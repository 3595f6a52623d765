# SPDX-License-Identifier: Apache-2.0
"""Hold thousands of clips in flight at once on the cluster, and measure what each service takes:
``python -m dev.load --mapped 200 --batches 6 --rows 300``.

The sandbox lets no clip end until all are accepted and their tasks are deferred; then it lets them all end.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from airflow_provider_wan.ledger.stores import open_store
from dev.chaos.account import account
from dev.chaos.play import clips
from dev.cluster import FOLDER, Cluster
from dev.component import wait_for
from dev.stack import ROOT
from dev.testkit.batch_runs import crops

MAPPED, BATCHES = "load_mapped", "load_batches"
OUTPUT = ROOT / ".run" / "load"
SLOTS = 4
VARIABLES = {"SANDBOX_SPEED": "0.001", "WORKER_CONCURRENCY": str(SLOTS)}
SAMPLE_SECONDS = 2.0
# Number of samples from one look at the memory to the next: it costs CPU.
MEMORY_EVERY = 5
HOLD_SECONDS = 60.0
LIMIT_SECONDS = 3600.0
PHASES = ("submitted", "waiting", "finished")

PAGE = """\
# Load

`make load` runs {total:,} clips on the [cluster](how-to/cluster.md): {mapped:,} as mapped tasks, and {batched:,} in
{batches} batches of {rows}. The sandbox lets no clip end until all are accepted and all tasks are deferred. They then
wait for {hold:.0f} s, and then end within about two minutes, as the sandbox makes their files.

```bash
make load ARGS="--mapped {mapped} --batches {batches} --rows {rows} --write docs"
```

generates this page. Without `--write` it is written to `.run/load`. The command succeeds only if each clip was charged
once and is in the bucket, and the history checker finds no contradiction between the service, the bucket and the
ledger.

{machine}

## Result

| clips | accepted | charges | in the bucket | paid twice | paid and lost | task retries |
| --- | --- | --- | --- | --- | --- | --- |
{result}

![Clips, CPU and memory over time](images/load.png)

## Phases

*submitted*: until all clips are accepted and all tasks deferred. *waiting*: {hold:.0f} s in which nothing ends.
*finished*: until the last run has ended. Requests are for each clip; the ledger is in the same S3 as the
images and the clips.

{phases}

The mapped tasks were all accepted after {mapped_seconds:.0f} s, and the batches after {batches_seconds:.0f} s.

Waiting takes a fraction of a core, nearly all of it Airflow's own. Submitting and archiving are limited by the workers:
batches that read images and archive clips occupy the slots of `WORKER_CONCURRENCY`, so mapped tasks queue behind them.
{settings}

## CPU seconds

{cpu}

## Memory

The most that was seen, in MB, with shared pages divided among those that share them.

{memory}
"""


@dataclass
class Sample:
    """The cluster at one moment.

    :param at: seconds since the runs were started.
    :param states: number of the API's requests by status.
    :param cpu: CPU seconds so far by service.
    :param memory: MB by service; empty if it was not measured.
    """

    at: float
    states: dict[str, int]
    cpu: dict[str, float]
    memory: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Counts at the boundary of two phases."""

    at: float
    s3_requests: int
    api_requests: int
    transactions: int
    cpu: dict[str, float]


class Observer:
    """Takes samples of a cluster in a thread while its context is entered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._began = time.monotonic()
        self._over = threading.Event()
        self._cpu: dict[int, tuple[str, float]] = {}
        self.samples: list[Sample] = []

    @property
    def now(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Take samples until the end of the context."""
        thread = threading.Thread(target=self._observe, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def count(self) -> Counts:
        """Return the counts of this moment."""
        return Counts(
            self.now,
            self._count_s3_requests(),
            self._cluster.sandbox_admin("counters")["calls"],
            int(self._cluster.rows("SELECT xact_commit FROM pg_stat_database WHERE datname = 'airflow'")[0][0]),
            self.measure_cpu(),
        )

    def measure_cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each service so far; those of an ended process are what was last seen of it."""
        for name, process in self._processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu[process.pid] = (name, times.user + times.system)
        totals: defaultdict[str, float] = defaultdict(float)
        for name, seconds in self._cpu.values():
            totals[name] += seconds
        return {name: round(seconds, 1) for name, seconds in sorted(totals.items())}

    def _observe(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            with suppress(requests.RequestException):
                states = self._cluster.sandbox_admin("")["requests"]
                is_due = len(self.samples) % MEMORY_EVERY == 0
                memory = self._measure_memory() if is_due else {}
                self.samples.append(Sample(round(self.now, 1), states, self.measure_cpu(), memory))

    def _measure_memory(self) -> dict[str, float]:
        totals: defaultdict[str, float] = defaultdict(float)
        for name, process in self._processes():
            with suppress(psutil.Error):
                totals[name] += process.memory_full_info().pss / 1e6
        return {name: round(megabytes) for name, megabytes in sorted(totals.items())}

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for name, component in self._cluster.engine.components.items():
            if component.running:
                with suppress(psutil.Error):
                    root = psutil.Process(component.pid)
                    yield from ((name, each) for each in (root, *root.children(recursive=True)))

    def _count_s3_requests(self) -> int:
        url = f"http://{self._cluster.engine.address('s3', 9325)}/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            lines = response.read().decode().splitlines()
        return round(
            sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("SeaweedFS_s3_request_total{"))
        )


def run(
    mapped: int, batches: int, rows: int, say: Callable[[str], None], *, slots: int = SLOTS, hold: float = HOLD_SECONDS
) -> dict[str, Any]:
    """Run the load once, and return what was measured."""
    total = mapped + batches * rows
    variables = {**VARIABLES, "WORKER_CONCURRENCY": str(slots)}
    with Cluster(FOLDER.with_name("load-cluster"), variables=variables) as cluster:
        cluster.wait_for_dags(MAPPED, BATCHES)
        (body,) = crops(1, seed=5)
        cluster.s3_client().put_object(Bucket=cluster.bucket, Key="load-images/one.jpg", Body=body)
        image, prefix = f"s3://{cluster.bucket}/load-images/one.jpg", f"s3://{cluster.bucket}/load"
        observer = Observer(cluster)
        counts = [observer.count()]
        with observer.observing():
            runs = {
                MAPPED: cluster.airflow.trigger(MAPPED, conf={"image": image, "count": mapped, "prefix": prefix}),
                BATCHES: cluster.airflow.trigger(
                    BATCHES, conf={"image": image, "count": rows, "batches": batches, "prefix": prefix}
                ),
            }
            wait_for("all requests", lambda: _count_live(cluster) >= total, seconds=LIMIT_SECONDS, every=SAMPLE_SECONDS)
            wait_for(
                "all tasks to be deferred",
                lambda: _count_deferred(cluster, runs) == mapped + batches,
                seconds=300,
                every=SAMPLE_SECONDS,
            )
            counts.append(observer.count())
            say(f"{total:,} clips are in flight after {counts[-1].at:.0f} s")
            time.sleep(hold)
            counts.append(observer.count())
            for each in cluster.sandbox_admin("accepted")["accepted"]:
                cluster.sandbox_admin(f"requests/{each['request_id']}", "POST", status="success")
            states = {
                dag_id: cluster.airflow.wait_for_run(dag_id, run_id, seconds=LIMIT_SECONDS, every=SAMPLE_SECONDS)
                for dag_id, run_id in runs.items()
            }
            counts.append(observer.count())
            say(f"the runs ended as {states} after {counts[-1].at:.0f} s")
        accepted = cluster.sandbox_admin("accepted")["accepted"]
        wanted = {f"mapped {number}": f"load/{number}.mp4" for number in range(mapped)}
        wanted |= {f"batch {batch} {row}": f"load/{batch}/{row}.mp4" for batch in range(batches) for row in range(rows)}
        uris = [
            f"s3://{cluster.bucket}/ledger",
            *(f"s3://{cluster.bucket}/load/{batch}/_ledger" for batch in range(batches)),
        ]
        ledger = [stored.entry for uri in uris for stored in open_store(uri, s3_client=cluster.s3_client).entries()]
        charges = cluster.sandbox_admin("charges")["charges"]
        found = account(wanted, accepted, charges, clips(cluster, "load/"), ledger)
        retries = sum(
            max(0, each["try_number"] - 1)
            for dag_id, run_id in runs.items()
            for each in cluster.airflow.task_instances(dag_id, run_id)
        )
        times = sorted((each["time"], each["payload"]["prompt"].split()[0]) for each in accepted)
        began = times[0][0]
        return {
            "mapped": mapped,
            "batches": batches,
            "rows": rows,
            "slots": slots,
            "states": states,
            "account": asdict(found),
            "good": found.good and set(states.values()) == {"success"},
            "retries": retries,
            "mapped_seconds": max(at - began for at, word in times if word == "mapped"),
            "batches_seconds": max(at - began for at, word in times if word == "batch"),
            "counts": [asdict(each) for each in counts],
            "samples": [asdict(each) for each in observer.samples],
            "machine": _describe_machine(),
        }


def _count_live(cluster: Cluster) -> int:
    return sum(cluster.sandbox_admin("")["requests"].values())


def _count_deferred(cluster: Cluster, runs: dict[str, str]) -> int:
    query = "SELECT count(*) FROM task_instance WHERE state = 'deferred' AND run_id IN %s"
    return int(cluster.rows(query, tuple(runs.values()))[0][0])


def _describe_machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    text = f"One run on {psutil.cpu_count()} cores and {memory:.0f} GB, which everything shares: Airflow with Celery"
    settings = ", ".join(f"`{name}={value}`" for name, value in VARIABLES.items() if name != "SANDBOX_SPEED")
    return f"{text}, PostgreSQL, Redis, SeaweedFS and the sandbox ({settings})."


def vary(mapped: int, batches: int, rows: int, all_slots: list[int], say: Callable[[str], None]) -> dict[str, Any]:
    """Run the load once for each number of slots of the worker, and return what changes."""
    lines = []
    for slots in all_slots:
        found = run(mapped, batches, rows, say, slots=slots, hold=0.0)
        begin, submitted, ending, end = found["counts"]
        peak = max(sample["memory"].get("worker", 0) for sample in found["samples"])
        lines.append(
            {
                "slots": slots,
                "submitted": submitted["at"] - begin["at"],
                "finished": end["at"] - ending["at"],
                "cores_submitted": _count_cores(begin, submitted),
                "cores_finished": _count_cores(ending, end),
                "worker_mb": peak,
                "good": found["good"],
            }
        )
        say(f"{lines[-1]}")
    return {"mapped": mapped, "batches": batches, "rows": rows, "lines": lines}


def _count_cores(before: dict[str, Any], after: dict[str, Any]) -> float:
    return float((sum(after["cpu"].values()) - sum(before["cpu"].values())) / (after["at"] - before["at"]))


def describe_settings(found: dict[str, Any] | None) -> str:
    """Return what the page says about the number of slots."""
    if found is None:
        return "The settings that move this limit are `WORKER_CONCURRENCY` and the number of workers; not varied here."
    total = found["mapped"] + found["batches"] * found["rows"]
    command = (
        f"--mapped {found['mapped']} --batches {found['batches']} --rows {found['rows']}"
        f" --vary {' '.join(str(each['slots']) for each in found['lines'])}"
    )
    rows = "\n".join(
        f"| {each['slots']} | {each['submitted']:.0f} | {each['cores_submitted']:.2f} | {each['finished']:.0f} "
        f"| {each['cores_finished']:.2f} | {each['worker_mb']:.0f} |"
        for each in found["lines"]
    )
    return f"""\
The settings that move this limit are `WORKER_CONCURRENCY` and the number of workers, until the cores are busy.

## Settings

{total:,} clips with other numbers of slots in the worker, one run each on the same machine, by
`make load ARGS="{command}"`,
which `make load ARGS="--draw --write docs"` adds to this page. Each clip was charged once and is in the bucket.
*submitted* and *archived*: seconds until that is true of all clips, and the cores in use meanwhile.

| `WORKER_CONCURRENCY` | submitted | cores | archived | cores | MB of the worker |
| --- | --- | --- | --- | --- | --- |
{rows}"""


def write(found: dict[str, Any], settings: dict[str, Any] | None, folder: Path) -> None:
    """Write the page and its plot."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    total = found["mapped"] + found["batches"] * found["rows"]
    counts, account_ = found["counts"], found["account"]
    pairs = list(zip(PHASES, counts, counts[1:], strict=False))

    def table(head: list[str], rows: list[list[str]]) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))

    phases = [
        [
            name,
            f"{after['at'] - before['at']:.0f}",
            *(
                f"{(after[kind] - before[kind]) / total:.1f}"
                for kind in ("s3_requests", "api_requests", "transactions")
            ),
            f"{_count_cores(before, after):.2f}",
        ]
        for name, before, after in pairs
    ]
    services = sorted(counts[-1]["cpu"])
    cpu = [
        [f"`{name}`", *(f"{after['cpu'].get(name, 0) - before['cpu'].get(name, 0):.0f}" for _, before, after in pairs)]
        for name in services
    ]
    peaks = {name: max((sample["memory"].get(name, 0) for sample in found["samples"]), default=0) for name in services}
    result = [total, *(account_[name] for name in ("accepted", "charged", "archived"))]
    result += [len(account_["twice"]), len(account_["lost"]), found["retries"]]
    text = PAGE.format(
        total=total,
        mapped=found["mapped"],
        batched=found["batches"] * found["rows"],
        batches=found["batches"],
        rows=found["rows"],
        hold=HOLD_SECONDS,
        machine=found["machine"],
        result="| " + " | ".join(f"{each:,}" for each in result) + " |",
        phases=table(
            ["phase", "seconds", "S3 requests", "API requests", "database transactions", "cores in use"], phases
        ),
        mapped_seconds=found["mapped_seconds"],
        batches_seconds=found["batches_seconds"],
        settings=describe_settings(settings),
        cpu=table(["service", *PHASES], cpu),
        memory=table(["service", "MB"], [[f"`{name}`", f"{peaks[name]:.0f}"] for name in services]),
    )
    (folder / "load.md").write_text(text, encoding="utf-8")
    draw(found, folder / "images" / "load.png")


def draw(found: dict[str, Any], path: Path) -> None:
    """Plot the clips by state, and CPU and memory by service."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples = found["samples"]
    times = [each["at"] for each in samples]
    services = sorted(found["counts"][-1]["cpu"])
    figure, panels = pyplot.subplots(3, 1, sharex=True, figsize=(10, 11), layout="constrained")
    states = sorted({state for each in samples for state in each["states"]})
    for state in states:
        panels[0].step(times, [each["states"].get(state, 0) for each in samples], where="post", label=state)
    panels[0].set_ylabel("requests by status")
    panels[0].legend(loc="center left")
    width = 5
    cores = {
        name: [
            (samples[at]["cpu"].get(name, 0) - samples[at - width]["cpu"].get(name, 0))
            / (times[at] - times[at - width])
            for at in range(width, len(samples))
        ]
        for name in services
    }
    colours = [pyplot.colormaps["tab20"](number) for number in range(len(services))]
    panels[1].stackplot(times[width:], *cores.values(), labels=services, colors=colours)
    panels[1].set_ylabel("cores in use, over 10 s")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, reverse=True)
    seen = [each for each in samples if each["memory"]]
    memory = [[each["memory"].get(name, 0) for each in seen] for name in services]
    panels[2].stackplot([each["at"] for each in seen], *memory, labels=services, colors=colours)
    panels[2].set_ylabel("memory, MB")
    panels[2].set_xlabel("seconds since the runs were started")
    for panel in panels:
        for boundary in found["counts"][1:3]:
            panel.axvline(boundary["at"], linewidth=0.8, linestyle=":", color="black")
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="load", description=__doc__)
    parser.add_argument("--mapped", type=int, default=200, help="clips with a task each")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rows", type=int, default=300, help="clips of each batch")
    parser.add_argument("--write", type=Path, help="write load.md and its plot into this folder")
    parser.add_argument("--vary", nargs="+", type=int, metavar="SLOTS", help="other numbers of slots, one run each")
    parser.add_argument("--draw", action="store_true", help="only the page and its plot, from the last run")
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file, settings_file = OUTPUT / "load.json", OUTPUT / "settings.json"

    def say(text: str) -> None:
        print(text, flush=True)

    if options.vary:
        settings = vary(options.mapped, options.batches, options.rows, options.vary, say)
        if not all(each["good"] for each in settings["lines"]):
            return 1
        settings_file.write_text(json.dumps(settings), encoding="utf-8")
        return 0
    if not options.draw:
        found = run(options.mapped, options.batches, options.rows, say)
        file.write_text(json.dumps(found), encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    varied = json.loads(settings_file.read_text(encoding="utf-8")) if settings_file.exists() else None
    write(found, varied, options.write or OUTPUT)
    for text in (*found["account"]["twice"], *found["account"]["lost"], *found["account"]["violations"]):
        print(f"NOT GOOD: {text}")
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
