# SPDX-License-Identifier: Apache-2.0
"""``python -m dev.mutants``: change the code that decides about money in one place after the other, and count which
changes the unit tests notice.

mutmut makes the changes and runs the tests that reach each of them, as ``[tool.mutmut]`` in ``pyproject.toml`` says. It
works in a copy of the project in ``.run/mutation`` and continues where it was interrupted.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".run" / "mutation"
COPIED = ("airflow_provider_wan", "dev", "tests")
LEAST_SCORE = 90.0
# What mutmut records for a mutant that no test noticed, and for one that no test reaches.
SURVIVED = (0, 33)


@dataclass(frozen=True)
class ModuleScore:
    """
    The mutants of one module.

    :param name: path of the module.
    :param noticed: number of mutants with which a test fails or does not end.
    :param survivors: names of the others.
    :param waiting: number of mutants that were not tried yet.
    """

    name: str
    noticed: int
    survivors: tuple[str, ...]
    waiting: int

    @property
    def total(self) -> int:
        """Number of mutants that were tried."""
        return self.noticed + len(self.survivors)


def copy_project() -> None:
    """Copy what mutmut needs; times of files are kept, so that it knows what has changed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        shutil.copytree(ROOT / name, FOLDER / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, FOLDER / name)


def run_mutmut(names: list[str], processes: int) -> None:
    """Try the mutants that have no result yet, or those of these names."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(processes), *names]
    subprocess.run(command, cwd=FOLDER, check=True)


def read_scores() -> list[ModuleScore]:
    """Return the results of all modules."""
    scores = []
    for path in sorted((FOLDER / "mutants").rglob("*.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        survivors = tuple(name for name, code in codes.items() if code in SURVIVED)
        waiting = sum(code is None for code in codes.values())
        name = str(path.with_suffix("").relative_to(FOLDER / "mutants" / "airflow_provider_wan"))
        if codes:
            scores.append(ModuleScore(name, len(codes) - len(survivors) - waiting, survivors, waiting))
    return scores


def describe_survivors(score: ModuleScore) -> Iterator[str]:
    """Yield the change of each survivor."""
    tree = ast.parse((FOLDER / "mutants" / "airflow_provider_wan" / score.name).read_text())
    functions = {
        node.name: ast.unparse(node).splitlines()[1:]
        for node in ast.walk(tree)
        if hasattr(node, "args") and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for survivor in score.survivors:
        name = survivor.rpartition(".")[2]
        before, after = functions.get(re.sub(r"\d+$", "orig", name), []), functions.get(name, [])
        yield f"\n{name}"
        for line in difflib.unified_diff(before, after, n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")) and "def x" not in line:
                yield f"    {line[0]} {line[1:].strip()}"


def format_table(scores: list[ModuleScore]) -> str:
    """Return the scores for people."""
    rows = [(f"`{score.name}`", score) for score in scores]
    lines = ["| module | mutants | noticed | score |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {score.total} | {score.noticed} | {100 * score.noticed / max(score.total, 1):.1f}% |"
        for name, score in rows
    ]
    total, noticed = sum(score.total for score in scores), sum(score.noticed for score in scores)
    return "\n".join([*lines, f"| all | {total} | {noticed} | {100 * noticed / max(total, 1):.1f}% |"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of mutants, with *; default: all that have no result")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", action="store_true", help="only report what was found so far")
    options = parser.parse_args()
    if not options.report:
        copy_project()
        run_mutmut(options.names, options.processes)
    scores = read_scores()
    survivors = FOLDER / "survivors.txt"
    survivors.write_text("\n".join(line for score in scores for line in describe_survivors(score)) + "\n")
    table = format_table(scores)
    print(f"{table}\n\nThe changes that no test noticed: {survivors.relative_to(ROOT)}")
    if waiting := sum(score.waiting for score in scores):
        print(f"{waiting} mutants have no result yet.")
    total, noticed = sum(score.total for score in scores), sum(score.noticed for score in scores)
    return 0 if not waiting and 100 * noticed >= LEAST_SCORE * total else 1


if __name__ == "__main__":
    sys.exit(main())
