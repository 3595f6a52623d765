# SPDX-License-Identifier: Apache-2.0
"""``python -m dev.chaos --seed 1 2 3``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import libfaketime

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.stores import open_store
from dev.chaos.account import account
from dev.chaos.network import Network
from dev.chaos.plan import CLOCKS, PARTITIONS, draw
from dev.chaos.play import Player, clips, count_states
from dev.chaos.report import SeedResult, page, picture
from dev.cluster import FOLDER, Cluster
from dev.component import wait_for
from dev.stack import ROOT
from dev.testkit.batch_runs import crops

MAPPED, BATCH = "chaos_mapped", "chaos_batch"
OUTPUT = ROOT / ".run" / "chaos"
# A clip takes some half a minute.
VARIABLES = {"SANDBOX_SPEED": "3", "WORKER_CONCURRENCY": "6", "TRANSFER_CONCURRENCY": "2"}


def one(seed: int, count: int, trouble_seconds: float, seconds: float) -> SeedResult:
    """Make clips while services die and the API fails."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    say(f"seed {seed}: starting the cluster …")
    installed = Cluster(FOLDER.with_name("chaos-cluster"), variables=VARIABLES, relayed=tuple(PARTITIONS))
    places, components = installed.engine.places, installed.engine.components
    for name, seconds_ahead in CLOCKS.items():
        components[name].env.update(set_clock(seconds_ahead))
    with Network(places.routes, places.ports) as network, installed as cluster:
        cluster.wait_for_dags(MAPPED, BATCH)
        (body,) = crops(1, seed=seed)
        cluster.s3_client().put_object(Bucket=cluster.bucket, Key="chaos-images/one.jpg", Body=body)
        mapped = count * 3 // 10
        asked = {MAPPED: ("mapped", mapped), BATCH: ("batch", count - mapped)}
        wanted: dict[str, str] = {}
        runs: dict[str, str] = {}
        Player(cluster, network, (), say).configure_api()
        for dag_id, (word, number) in asked.items():
            prefix = f"chaos/{word}"
            wanted |= {f"{word} {each}": f"{prefix}/{each}.mp4" for each in range(number)}
            image = f"s3://{cluster.bucket}/chaos-images/one.jpg"
            conf = {"image": image, "count": number, "prefix": f"s3://{cluster.bucket}/{prefix}"}
            runs[dag_id] = cluster.airflow.trigger(dag_id, conf=conf)
        # Faults begin when many clips are in flight.
        early = count // 10
        enough = f"the first {early} requests"
        wait_for(enough, lambda: len(cluster.sandbox_admin("accepted")["accepted"]) >= early, seconds=240, every=1)
        say(f"{early} clips are submitted")
        course = Player(cluster, network, draw(seed, trouble_seconds), say).play(runs, seconds=seconds)
        cluster.engine.wait_healthy("api-server", "sandbox", "s3")
        states, retries, bad = count_states(cluster, runs)
        counts = account(
            wanted,
            cluster.sandbox_admin("accepted")["accepted"],
            cluster.sandbox_admin("charges")["charges"],
            clips(cluster),
            _read_ledger(cluster),
        )
        manual_repairs = [f"{dag_id} ended as {state}" for dag_id, state in course.states.items() if state != "success"]
        manual_repairs += [
            f"{each['dag_id']}.{each['task_id']} [{each['map_index']}] is {each['state']}" for each in bad
        ]
        result = SeedResult(seed, counts, course, retries, len(cluster.engine.restarts), tuple(manual_repairs[:20]))
        say(f"task instances: {dict(states)}")
        if manual_repairs or not counts.good:
            shutil.copytree(cluster.folder / "logs", OUTPUT / f"logs-{seed}", dirs_exist_ok=True)
            shutil.copytree(cluster.folder / "volumes" / "airflow-logs", OUTPUT / f"tasks-{seed}", dirs_exist_ok=True)
    say(result.row())
    for text in (*counts.twice, *counts.lost, *counts.violations):
        say(f"NOT GOOD: {text}")
    return result


def set_clock(seconds_ahead: float) -> dict[str, str]:
    """Return the environment in which a process finds the time of day changed, but not the time that it measures."""
    library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds_ahead:+.0f}s", "DONT_FAKE_MONOTONIC": "1"}


def _read_ledger(cluster: Cluster) -> list[LedgerEntry]:
    """Return all entries: of the mapped tasks, and of the batch, which may have a ledger of its own."""
    uris = (f"s3://{cluster.bucket}/ledger", f"s3://{cluster.bucket}/chaos/batch/_ledger")
    return [stored.entry for uri in uris for stored in open_store(uri, s3_client=cluster.s3_client).entries()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--trouble", type=float, default=240.0, help="seconds within which things die")
    parser.add_argument("--seconds", type=float, default=900.0, help="when to give up")
    parser.add_argument("--write", type=Path, help="write chaos.md and its pictures into this folder")
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in options.seed:
        results.append(one(seed, options.clips, options.trouble, options.seconds))
        folder = options.write or OUTPUT
        (folder / "images").mkdir(exist_ok=True)
        picture(results[-1], folder / "images" / f"chaos-{seed}.png")
        result_file = OUTPUT / f"seed-{seed}.json"
        result_file.write_text(json.dumps(results[-1].to_dict()), encoding="utf-8")
        every = [json.loads(each.read_text(encoding="utf-8")) for each in sorted(OUTPUT.glob("seed-*.json"))]
        (folder / "chaos.md").write_text(page(every), encoding="utf-8")
    return 0 if all(each.account.good and not each.manual_repairs for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
