# SPDX-License-Identifier: Apache-2.0
"""Concurrent processes in a chosen, deterministic order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dev.explore.world import Process, World


@dataclass(frozen=True)
class Switch:
    """
    Another process comes in before the n-th boundary of this one.

    :param step: from 1.
    :param stall: for how many seconds this one then does not run at all.
    """

    step: int
    stall: float = 0.0


@dataclass
class _Actor:
    process: Process
    body: Callable[[], object]
    switches: tuple[Switch, ...]
    wake_at: float = 0.0
    done: bool = False
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failure: BaseException | None = None


class Stage:
    """
    Run processes in threads, one at a time. Control passes when one sleeps, and at its switches.

    :param world: whose clock moves on where all of them sleep.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._actors: list[_Actor] = []
        self._back = threading.Semaphore(0)

    def add(self, process: Process, body: Callable[[], object], *switches: Switch) -> None:
        """Add a process. What ``body`` raises is raised by :meth:`run`, once all have ended."""
        actor = _Actor(process, body, switches, wake_at=self._world.now)
        left = list(switches)

        def pause() -> None:
            step = len(process.trace) + 1
            for switch in [switch for switch in left if switch.step == step]:
                left.remove(switch)
                self._hand_over(actor, self._world.now + switch.stall)

        def sleep(seconds: float) -> None:
            self._hand_over(actor, self._world.now + max(seconds, 0.001))

        process.pause = pause
        process.sleep = sleep  # type: ignore[method-assign]
        self._actors.append(actor)

    def run(self) -> None:
        """Run them all to their ends, beginning with the first."""
        threads = [threading.Thread(target=self._play, args=(actor,), daemon=True) for actor in self._actors]
        for thread in threads:
            thread.start()
        last: _Actor | None = None
        while left := [actor for actor in self._actors if not actor.done]:
            # Prefer a runnable process that did not run last.
            ready = [actor for actor in left if actor.wake_at <= self._world.now]
            chosen = next((actor for actor in ready if actor is not last), ready[0] if ready else None)
            if chosen is None:
                chosen = min(left, key=lambda actor: actor.wake_at)
                self._world.advance(chosen.wake_at)
            last = chosen
            chosen.turn.release()
            self._back.acquire()
        for thread in threads:
            thread.join()
        for actor in self._actors:
            if actor.failure is not None:
                raise actor.failure

    def _play(self, actor: _Actor) -> None:
        actor.turn.acquire()
        try:
            actor.body()
        except BaseException as failure:
            actor.failure = failure
        finally:
            actor.done = True
            self._back.release()

    def _hand_over(self, actor: _Actor, wake_at: float) -> None:
        actor.wake_at = wake_at
        self._back.release()
        actor.turn.acquire()
