# SPDX-License-Identifier: Apache-2.0
"""What importing the operators costs a Dag file that has imported ``airflow.sdk``: ``python -m benchmarks.imports``."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.report import save

ROUNDS, QUICK_ROUNDS = 31, 3
OURS = (
    "airflow_provider_wan.operators.wan",
    "airflow_provider_wan.operators.wan_batch",
    "airflow_provider_wan.sensors.wan",
    "airflow_provider_wan.transfers.s3_to_wan",
    "airflow_provider_wan.transfers.wan_to_s3",
)
PEERS = {
    "ours": OURS,
    "dbt-cloud": ("airflow.providers.dbt.cloud.operators.dbt", "airflow.providers.dbt.cloud.sensors.dbt"),
    "openai": ("airflow.providers.openai.operators.openai",),
    "anthropic": ("airflow.providers.anthropic.operators.batch",),
    "http": ("airflow.providers.http.operators.http", "airflow.providers.http.sensors.http"),
    "HttpToS3Operator": ("airflow.providers.amazon.aws.transfers.http_to_s3",),
}
HEAVY = ("requests", "aiohttp", "boto3", "PIL", "av")
# Airflow's own lazy parts that every Dag file uses come first.
_PROBE = """
import json, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook, conf
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
for name in {names!r}:
    __import__(name)
print(json.dumps({{
    "wall": time.perf_counter() - wall,
    "cpu": time.process_time() - cpu,
    "heavy": [name for name in {heavy!r} if name in sys.modules and name not in before],
    "modules": len(set(sys.modules) - before),
}}))
"""


def probe(names: tuple[str, ...]) -> dict[str, object]:
    code = _PROBE.format(names=names, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    options = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {name: [] for name in PEERS}
    # In turns: what else the machine does hits all alike. The first round fills the caches.
    for turn in range((QUICK_ROUNDS if options.quick else ROUNDS) + 1):
        for name, modules in PEERS.items():
            each = probe(modules)
            if turn:
                found[name].append(each)
    results = []
    for name, runs in found.items():
        wall, cpu = ([1000 * float(str(each[field])) for each in runs] for field in ("wall", "cpu"))
        results.append(
            {
                "contestant": name,
                "imports": list(PEERS[name]),
                "rounds": len(runs),
                "wall_ms_median": round(statistics.median(wall), 1),
                "wall_ms_quartiles": [round(each, 1) for each in statistics.quantiles(wall, n=4)[::2]],
                "wall_ms_least": round(min(wall), 1),
                "cpu_ms_median": round(statistics.median(cpu), 1),
                "modules": runs[0]["modules"],
                "heavy": runs[0]["heavy"],
            }
        )
        print(results[-1], flush=True)
    save("imports", results, key=("contestant",), quick=options.quick)


if __name__ == "__main__":
    main()
