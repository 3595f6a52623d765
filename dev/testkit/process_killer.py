# SPDX-License-Identifier: Apache-2.0
"""Kill Airflow's processes during a run."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import Self

import psutil
import requests

from dev.stack import Stack
from dev.testkit.airflow_harness import DagRunHandle

SEED = 3


def task_processes(scheduler: int) -> list[psutil.Process]:
    """The processes in which tasks run: each the child of one of the executor's workers."""
    found = []
    for process in psutil.Process(scheduler).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("airflow worker -- ") and "LocalExecutor" not in title:
            found.append(process)
    return found


class Killer(threading.Thread):
    """Kill task processes and the triggerer, and clear waiting tasks, by a seeded plan, until it is closed.

    :param tasks: how many task processes it kills at most.
    :param triggerers: how often it kills the triggerer at most, each time while something waits there.
    :param clears: how many waiting tasks it clears at most.
    """

    def __init__(self, stack: Stack, run: DagRunHandle, *, tasks: int, triggerers: int = 0, clears: int = 0) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.run_ = run
        self._plan = (tasks, triggerers, clears)
        self.tasks = self.triggerers = self.clears = 0
        self._over = threading.Event()
        self._error: Exception | None = None
        self._random = random.Random(SEED)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join(60)
        if error is None:
            self.check()

    def run(self) -> None:
        try:
            while not self._over.wait(self._random.uniform(0.4, 1.4)):
                self._strike()
        except Exception as error:
            self._error = error

    def check(self) -> None:
        """:raises Exception: the error that ended it early."""
        if self._error is not None:
            raise self._error

    def waits_disturbed(self) -> bool:
        """Whether the part of its plan that needs waiting tasks is done."""
        self.check()
        return (self.triggerers, self.clears) == self._plan[1:]

    def _strike(self) -> None:
        if self.tasks < self._plan[0]:
            self._kill_a_task()
        try:
            deferred = [key for key, state in self.run_.tasks().items() if state == "deferred"]
            if deferred and self.triggerers < self._plan[1] and self._random.random() < 0.3:
                self.stack["triggerer"].kill()
                self.stack["triggerer"].start()
                self.triggerers += 1
            if deferred and self.clears < self._plan[2] and self._random.random() < 0.2:
                task_id, map_index = self._random.choice(deferred)
                self.run_.clear([task_id, map_index])  # type: ignore[arg-type]
                self.clears += 1
        except requests.RequestException:
            return  # a busy API server is no reason to stop killing

    def _kill_a_task(self) -> None:
        processes = task_processes(self.stack["scheduler"].pid)
        if processes:
            victim = self._random.choice(processes)
            try:
                victim.kill()
                self.tasks += 1
            except psutil.NoSuchProcess:
                pass
