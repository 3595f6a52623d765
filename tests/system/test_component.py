# SPDX-License-Identifier: Apache-2.0
"""A part of the stack never outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dev.component import Component, StackError, wait_for
from dev.stack import ROOT

# A server with a child in a session of its own, as a daemon has: both write their process id and then wait.
FAMILY = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    (folder / "child").write_text(str(os.getpid()))
    time.sleep(600)
(folder / "parent").write_text(str(os.getpid()))
print("the family is up", flush=True)
time.sleep(600)
"""

# What the stack does, in a process that can be killed.
OWNER = """
import os, sys, time
from pathlib import Path
from dev.component import Component
folder = Path(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
Component("family", command, env=dict(os.environ), cwd=folder, log_dir=folder, grace=5).start()
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(condition: Callable[[], object]) -> None:
    wait_for("a condition of the test", condition, seconds=20, every=0.05)


def pids(folder: Path) -> list[int]:
    eventually(lambda: all((folder / name).exists() and (folder / name).read_text() for name in ("parent", "child")))
    return [int((folder / name).read_text()) for name in ("parent", "child")]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Component]:
    component = Component(
        "family",
        [sys.executable, "-c", FAMILY, str(tmp_path)],
        env=dict(os.environ),
        cwd=tmp_path,
        log_dir=tmp_path / "logs",
        grace=5,
    )
    component.start()
    yield component
    component.stop()


def test_stopping_a_component_ends_its_daemons_as_well(family: Component, tmp_path: Path) -> None:
    before = pids(tmp_path)

    family.stop()

    assert all(gone(pid) for pid in before)


def test_killing_a_component_takes_its_children_and_a_restart_is_a_new_process(
    family: Component, tmp_path: Path
) -> None:
    parent, child = pids(tmp_path)
    assert family.pid == parent

    family.kill()
    assert gone(parent)
    assert gone(child)
    for name in ("parent", "child"):
        (tmp_path / name).unlink()
    family.restart()

    assert pids(tmp_path)[0] == family.pid != parent
    eventually(lambda: family.log_text().count("the family is up") == 2)


def test_nothing_is_left_when_the_owner_is_killed_with_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), FAMILY]
    owner = subprocess.Popen(command, cwd=ROOT)
    try:
        before = pids(tmp_path)
        owner.send_signal(signal.SIGKILL)
        owner.wait(20)

        eventually(lambda: all(gone(pid) for pid in before))
    finally:
        owner.kill()
        owner.wait(20)


def test_a_component_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", deaf]
    component = Component("deaf", command, env=dict(os.environ), cwd=tmp_path, log_dir=tmp_path, grace=0.5)
    component.start()
    eventually(lambda: "deaf" in component.log_text())
    began = time.monotonic()

    component.stop()

    assert gone(component.pid)
    assert time.monotonic() - began < 10


def test_the_death_of_a_component_is_reported_with_its_last_log_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no more room', flush=True); sys.exit(3)"]
    component = Component("short", command, env=dict(os.environ), cwd=tmp_path, log_dir=tmp_path)
    component.start()
    eventually(lambda: not component.running)

    with pytest.raises(StackError, match=r"(?s)short is not running \(exit code 3\).*no more room"):
        component.check()
