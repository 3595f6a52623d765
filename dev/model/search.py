# SPDX-License-Identifier: Apache-2.0
"""One exhaustive search of the model with SPIN."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MODEL = Path(__file__).with_name("claim.pml")
MAX_DEPTH = 2_000_000
MEMORY_MB = 4000


class Expected(StrEnum):
    """What a search finds."""

    NO_ERROR = "no error"
    PAID_TWICE = "paid twice"
    LIVELOCK = "nobody ever ends"
    DEADLOCK = "deadlock"
    THIRD_POST = "a third POST"
    FORGOTTEN = "a paid clip forgotten"


@dataclass(frozen=True)
class Search:
    """
    One search.

    :param group: which table it belongs to.
    :param title: what is searched or taken out.
    :param defines: macros of the model.
    :param expected: what it must find.
    """

    group: str
    title: str
    defines: tuple[str, ...]
    expected: Expected


@dataclass(frozen=True)
class SearchResult:
    """
    What a search found.

    :param found: the error, or none.
    :param states: how many states were stored; all that there are if there is no error.
    """

    found: Expected
    states: int


def find_compiler() -> str | None:
    """Return the C compiler."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def missing_tools() -> str | None:
    """Return a sentence that says what is missing; None if nothing is."""
    missing = [name for name, path in (("spin", shutil.which("spin")), ("a C compiler", find_compiler())) if not path]
    if not missing:
        return None
    return (
        f"The model needs SPIN and a C compiler; missing here: {' and '.join(missing)}. "
        "On Debian and Ubuntu: apt-get install spin gcc"
    )


def run_search(search: Search, folder: Path) -> SearchResult:
    """
    Search all states of the model.

    :param folder: for what SPIN makes; its files are overwritten.
    :raises RuntimeError: if SPIN or the compiler fails, or the search was not exhaustive.
    """
    defines = [f"-D{define}" for define in search.defines]
    liveness = "CALM" in search.defines
    shutil.copy(MODEL, folder)
    _run(["spin", "-a", *defines, MODEL.name], folder)
    mode = [] if liveness else ["-DSAFETY"]
    compiler = find_compiler() or "cc"
    _run([compiler, "-w", "-O0", *mode, "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"], folder)
    output = _run([str(folder / "pan"), *(["-a"] if liveness else []), f"-m{MAX_DEPTH}"], folder)
    states = re.search(r"^\s*([\d.e+]+) states, stored", output, re.MULTILINE)
    if states is None or "max search depth too small" in output:
        raise RuntimeError(f"SPIN did not finish its search of '{search.title}':\n{output[-2000:]}")
    return SearchResult(_classify(output), int(float(states.group(1))))


def _classify(output: str) -> Expected:
    if re.search(r"errors: 0$", output, re.MULTILINE):
        if "Search not completed" in output:
            raise RuntimeError(f"SPIN ran out of memory or time:\n{output[-2000:]}")
        return Expected.NO_ERROR
    if "acceptance cycle" in output:
        return Expected.LIVELOCK
    if "invalid end state (" in output:
        return Expected.DEADLOCK
    if "assertion violated (accepted<=" in output:
        return Expected.PAID_TWICE
    if "assertion violated (post[mine]" in output:
        return Expected.THIRD_POST
    if "assertion violated" in output:
        return Expected.FORGOTTEN
    raise RuntimeError(f"SPIN reports an error of an unknown kind:\n{output[-2000:]}")


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
