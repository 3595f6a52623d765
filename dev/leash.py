# SPDX-License-Identifier: Apache-2.0
"""Runs one command and makes sure that nothing of it outlives the process that asked for it.

Called as a script by :mod:`dev.component`: ``python leash.py --grace SECONDS --log FILE -- COMMAND…``.

Standard input is a life line: the owner holds the other end of the pipe and never writes to it. When that end closes,
because the owner asked for it or because it died (even by SIGKILL), the command gets SIGTERM, and after the grace
period everything that descends from it gets SIGKILL. On Linux the leash adopts orphans (a "child subreaper"), so that
a daemon that left its process group is found as well. Only the standard library is imported: this must start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Process ids of everything below this process; empty where there is no /proc."""
    parents: dict[int, int] = {}
    try:
        entries = os.listdir("/proc")
    except FileNotFoundError:
        return []
    for entry in entries:
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                # The command's name may hold spaces and brackets: what follows the last bracket is safe to split.
                parents[int(entry)] = int(stat.read().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found: list[int] = []
    frontier = {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found.extend(frontier)
    return found


def signal_quietly(pid: int, number: signal.Signals, *, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)


class Leash:
    def __init__(self, command: list[str], log: str, grace: float) -> None:
        self.grace = grace
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        self.wake = wake_read
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with open(log, "ab") as output:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.code: int | None = None

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child.pid:
                self.code = self.child.returncode = os.waitstatus_to_exitcode(status)

    def wait(self, seconds: float | None, *, watch_owner: bool) -> None:
        """Wait for the command's end, or for the owner's, or for the time to be up."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self.reap()
            if self.code is not None:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            ready, _, _ = select.select([0, self.wake] if watch_owner else [self.wake], [], [], left)
            if self.wake in ready:
                os.read(self.wake, 4096)
            if 0 in ready and not os.read(0, 1):
                return

    def sweep(self) -> None:
        """SIGKILL whatever is left, until nothing is."""
        signal_quietly(self.child.pid, signal.SIGKILL, group=True)
        while left := descendants():
            for pid in left:
                signal_quietly(pid, signal.SIGKILL)
            time.sleep(0.01)
            self.reap()

    def run(self) -> int:
        self.wait(None, watch_owner=True)
        if self.code is None:
            signal_quietly(self.child.pid, signal.SIGTERM)
            self.wait(self.grace, watch_owner=False)
        self.sweep()
        self.reap()
        code = self.code if self.code is not None else 0
        return 128 - code if code < 0 else code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    # The owner alone decides when to stop: a Ctrl-C in its terminal is its own affair.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    leash = Leash(options.command, options.log, options.grace)
    print(leash.child.pid, flush=True)
    return leash.run()


if __name__ == "__main__":
    sys.exit(main())
