# SPDX-License-Identifier: Apache-2.0
"""
The histories: an answer of the API, faults at boundaries, what follows; and what must hold at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.ledger import Submission
from airflow_provider_wan.sandbox.faults import Fault
from explore.stage import Stage, Switch
from explore.task import Broken, Task
from explore.world import Coverage, Kind, Process, Strike, World, pretty

FINAL_TRIES = 8


@dataclass(frozen=True)
class Answer:
    """
    How the API takes the first submission.

    :param late: seconds after which a submission without an answer is accepted all the same.
    :param last_words: errors with which it may end for good, without a clip and without a charge.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    late: float | None = None
    last_words: tuple[str, ...] = ()


ANSWERS = (
    Answer("accepted"),
    Answer("201", (Fault.ANSWER_201,)),
    Answer("accepted, done at once", (Fault.IMMEDIATE_SUCCESS,)),
    Answer("accepted, connection reset", (Fault.RESET_AFTER_ACCEPT,)),
    Answer("accepted, time-out", (Fault.HANG_AFTER_ACCEPT,)),
    Answer("accepted, 500", (Fault.ERROR_500_ACCEPTED,)),
    Answer("accepted, 502 page", (Fault.HTML_502_ACCEPTED,)),
    Answer("accepted, garbage", (Fault.GARBAGE_ACCEPTED,)),
    Answer("accepted, no id", (Fault.NO_ID_ACCEPTED,)),
    Answer("accepted 40 s after the reset", late=40.0),
    Answer("not accepted, connection reset", (Fault.RESET_BEFORE_ACCEPT,)),
    Answer("not accepted, time-out", (Fault.HANG_BEFORE_ACCEPT,)),
    Answer("not accepted, 500", (Fault.ERROR_500_REFUSED,)),
    Answer("429", (Fault.RATE_LIMIT_429,)),
    Answer("429 without Retry-After", (Fault.RATE_LIMIT_429_BARE,)),
    Answer("503", (Fault.CAPACITY_503,)),
    Answer("400", (Fault.MESSAGE_ERROR_400,)),
    Answer("500 around a 400", (Fault.API_STATUS_400,), last_words=("WanClipFailedError",)),
    Answer("402", (Fault.NO_CREDIT_402,)),
    Answer("never runs", (Fault.NEVER_RUNS,), last_words=("WanClipTimeoutError",)),
    Answer("fails late", (Fault.LATE_FAILURE,)),
    Answer("rate limit as a failed record", (Fault.RATE_LIMIT_RECORD,)),
    Answer("cancelled by the service", (Fault.CANCELLED,)),
    Answer("reset after acceptance, fails late", (Fault.RESET_AFTER_ACCEPT, Fault.LATE_FAILURE)),
)


class Sequel(StrEnum):
    """What follows the first try."""

    RETRY = "retry"
    LATE_RETRY = "retry, an hour later"
    CLEAR = "clear, its request cancelled"
    SECOND_RUN = "a second run with the same content"
    SECOND_WORKER = "a second worker at the same time"
    ZOMBIE = "a retry while the first still lives"


@dataclass(frozen=True)
class History:
    """One schedule."""

    answer: Answer
    sequel: Sequel
    first: tuple[Strike, ...] = ()
    second: tuple[Strike, ...] = ()
    switches: tuple[Switch, ...] = ()
    back: tuple[Switch, ...] = ()
    seed: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.answer.name} · {self.sequel} · first {[(s.step, str(s.kind)) for s in self.first]} · "
            f"second {[(s.step, str(s.kind)) for s in self.second]} · "
            f"switches {[(s.step, s.stall) for s in self.switches]} {[(s.step, s.stall) for s in self.back]}"
            f"{'' if self.seed is None else f' · seed {self.seed}'}"
        )


Make = Callable[..., Submission]


@dataclass
class Played:
    """What came of a history."""

    world: World
    tasks: tuple[Task, Task]
    processes: list[Process]

    def beyond(self, history: History) -> bool:
        """Tell whether a fault or switch of the history lies beyond the end of its process."""
        first, second = (len(process.trace) for process in self.processes)
        return any(at.step > first for at in (*history.first, *history.switches)) or any(
            at.step > second for at in (*history.second, *history.back)
        )

    def came(self, history: History) -> bool:
        """Tell whether each of its faults could strike where it was put."""
        first, second = self.processes
        return set(history.first) <= first.reached and set(history.second) <= second.reached


def play(history: History, make: Make = Submission) -> Played:
    """Run a history, and what a person and Airflow do until all is well or hopeless. :raises Broken: it is not."""
    random.seed(0)  # the client's jitter
    world = World(*history.answer.faults, late=history.answer.late)
    first = Task(world, "dag/run1/clip/-1", seed=history.seed, make=make)
    same = history.sequel in (Sequel.RETRY, Sequel.LATE_RETRY, Sequel.CLEAR, Sequel.ZOMBIE)
    second = first if same else Task(world, "dag/run2/clip/-1", seed=history.seed, make=make)
    one = first.process(*history.first)
    if history.sequel in (Sequel.SECOND_WORKER, Sequel.ZOMBIE):
        two = second.process(*history.second)
        stage = Stage(world)
        stage.add(one, lambda: first.attempt(one), *history.switches)
        stage.add(two, lambda: second.attempt(two), *history.back)
        stage.run()
    else:
        first.attempt(one)
        world.advance(world.now + (3600.0 if history.sequel is Sequel.LATE_RETRY else 5.0))
        if history.sequel is Sequel.CLEAR:
            for request_id in world.accepted():
                world.core.handle("DELETE", f"/requests/{request_id}", {}, _KEY)
        two = second.process(*history.second)
        second.attempt(two)
    for task in {id(t): t for t in (first, second)}.values():
        for _ in range(FINAL_TRIES):
            if task.told[-1] == "success":
                break
            world.advance(world.now + 300.0)
            task.attempt(task.process())
    world.advance(world.now + 7200.0)
    played = Played(world, (first, second), [one, two])
    check(history, played)
    return played


_KEY = {"Authorization": "Bearer sandbox-key"}


def check(history: History, played: Played) -> None:
    """See that every promise was kept."""
    world = played.world
    charged = world.charged()
    problem = ""
    if len(charged) > 1:
        problem = f"charged {len(charged)} times"
    elif set(charged) - set(world.bucket):
        problem = "a clip that was paid for is not in the bucket"
    elif set(world.bucket) - set(charged):
        problem = "a clip in the bucket was never charged"
    elif not all(task.result or task.told[-1].split(":")[0] in history.answer.last_words for task in played.tasks):
        problem = "the clip never came to be"
    if problem:
        told = "\n".join(f"{task.name}: {task.told}" for task in played.tasks)
        traces = "\n".join(f"{process.name}: {process.trace}" for process in played.processes)
        raise Broken(f"{problem}\n{history}\n{told}\n{traces}\n{pretty(world)}")


Row = Iterable[History]
DEATHS = (Kind.DIE_BEFORE, Kind.DIE_AFTER)
ERRORS = (Kind.ERROR_BEFORE, Kind.ERROR_AFTER)
FURTHEST = 400


def rows_of(build: Callable[[int], History]) -> Row:
    """Return one row: the same history with its last fault ever later."""
    return (build(step) for step in range(1, FURTHEST))


class Explorer:
    """
    Plays rows of histories and counts. A row ends where its fault lies beyond the end of the process.

    :param make: makes the submission; a test of the test puts a broken one here.
    """

    def __init__(self, make: Make = Submission) -> None:
        self.coverage = Coverage()
        self.make = make

    def row(self, group: str, row: Row) -> int:
        """Play one row, and return how many boundaries it has."""
        length = 0
        for history in row:
            played = play(history, self.make)
            if played.beyond(history):
                break
            length += 1
            if played.came(history):
                self._count(group, history, played)
        return length

    def _count(self, group: str, history: History, played: Played) -> None:
        self.coverage.schedules += 1
        self.coverage.by_group[group] += 1
        first, second = played.processes
        for at in (*history.first, *history.switches):
            self.coverage.by_boundary[first.trace[at.step - 1]] += 1
        for at in (*history.second, *history.back):
            self.coverage.by_boundary[second.trace[at.step - 1]] += 1


def one_fault(explorer: Explorer, answer: Answer, sequel: Sequel, seed: int | None = None) -> None:
    """One fault of each kind at every boundary of the first try."""
    for kind in Kind:
        explorer.row(
            f"one fault, {sequel}",
            rows_of(lambda n, kind=kind: History(answer, sequel, (Strike(n, kind),), seed=seed)),
        )


def two_faults(
    explorer: Explorer, answer: Answer, sequel: Sequel, first: Kind, second: Kind, seed: int | None = None
) -> None:
    """A fault at every boundary of the first try, and one at every boundary of the second."""
    for n in range(1, FURTHEST):
        strike = (Strike(n, first),)
        if not explorer.row(
            f"two faults, {sequel}",
            rows_of(lambda m, s=strike: History(answer, sequel, s, (Strike(m, second),), seed=seed)),
        ):
            # Nothing of the second try was reached: either it had no boundary, or the first ended before n.
            if play(History(answer, sequel, strike, seed=seed), explorer.make).beyond(History(answer, sequel, strike)):
                break


def two_at_once(explorer: Explorer, answer: Answer, sequel: Sequel, seed: int | None = None) -> None:
    """Two processes, with a change from the first to the second at every boundary, and back at every one."""
    for n in range(1, FURTHEST):
        to = (Switch(n),)
        if not explorer.row(
            f"two at once, {sequel}",
            rows_of(lambda m, t=to: History(answer, sequel, switches=t, back=(Switch(m),), seed=seed)),
        ):
            break


def fault_at_once(explorer: Explorer, answer: Answer, sequel: Sequel, kind: Kind) -> None:
    """Two processes, a change at every boundary of the first, and then a fault at every later one of it."""
    for n in range(1, FURTHEST):
        to = (Switch(n),)
        if not explorer.row(
            f"two at once and a fault, {sequel}",
            (History(answer, sequel, (Strike(m, kind),), switches=to) for m in range(n, FURTHEST)),
        ):
            break
