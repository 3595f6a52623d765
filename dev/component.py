# SPDX-License-Identifier: Apache-2.0
"""One process of the stack: started, watched, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")


class StackError(Exception):
    """The stack could not be started, or a part of it died. The message ends with the part's last log lines."""


class Component:
    """A process with its log file. What it starts ends with it, and it ends with the process that started it.

    :param name: its name, also of the log file.
    :param command: program and arguments.
    :param env: the whole environment of the process (nothing is inherited).
    :param log_dir: folder of ``<name>.log``; a restart appends to the same file.
    :param grace: seconds between SIGTERM and SIGKILL when it is stopped.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_dir: Path,
        grace: float = 10.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd
        self.grace = grace
        self.log_path = log_dir / f"{name}.log"
        self._leash: subprocess.Popen[str] | None = None
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """Process id of the command itself. :raises StackError: when it was never started."""
        if self._pid is None:
            raise StackError(f"{self.name} was not started")
        return self._pid

    @property
    def running(self) -> bool:
        return self._leash is not None and self._leash.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the command; None while it runs or before it was started."""
        return None if self._leash is None else self._leash.poll()

    def start(self) -> None:
        if self.running:
            raise StackError(f"{self.name} runs already, as process {self._pid}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        leash = [sys.executable, "-S", "-E", str(LEASH), "--grace", str(self.grace), "--log", str(self.log_path)]
        self._leash = subprocess.Popen(
            [*leash, "--", *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env,
            cwd=self.cwd,
            start_new_session=True,
        )
        assert self._leash.stdout is not None
        line = self._leash.stdout.readline().strip()
        if not line:
            raise StackError(f"{self.name} could not be started: {' '.join(self.command)}{self.tail()}")
        self._pid = int(line)

    def signal_stop(self) -> None:
        """Send SIGTERM without waiting; :meth:`stop` waits."""
        if self._leash is not None and self._leash.stdin is not None and not self._leash.stdin.closed:
            self._leash.stdin.close()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period. Returns when nothing of it is left."""
        self.signal_stop()
        self._wait(self.grace + 15)

    def kill(self) -> None:
        """SIGKILL, as when a machine is lost: its children die with it. Returns when nothing of it is left."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self._wait(15)
        self.signal_stop()

    def restart(self) -> None:
        """Stop it if it still runs, and start it again with the same command and environment."""
        self.stop()
        self.start()

    def _wait(self, seconds: float) -> None:
        if self._leash is None:
            return
        try:
            self._leash.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StackError(f"{self.name} (process {self._pid}) did not end in {seconds:.0f} s") from None
        if self._leash.stdout is not None:
            self._leash.stdout.close()

    def log_text(self) -> str:
        try:
            return self.log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log, to be put at the end of an error message."""
        last_lines = deque(self.log_text().splitlines(), maxlen=lines)
        return f"\n--- the last lines of {self.log_path}:\n" + "\n".join(last_lines) if last_lines else ""

    def check(self) -> None:
        """:raises StackError: when it died."""
        if not self.running:
            code = self._leash.returncode if self._leash is not None else "none"
            raise StackError(f"{self.name} is not running (exit code {code}){self.tail()}")


def wait_for(
    what: str, condition: Callable[[], object], *, seconds: float, every: float = 0.25, parts: Sequence[Component] = ()
) -> None:
    """Wait until ``condition()`` is true, as long as every part lives.

    :param what: ends the sentence "waited 30 s for …".
    :raises StackError: when the time is up or when one of the parts dies.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for part in parts:
            part.check()
        if time.monotonic() > deadline:
            tails = "".join(part.tail(15) for part in parts)
            raise StackError(f"waited {seconds:.0f} s for {what}{tails}")
        time.sleep(every)
