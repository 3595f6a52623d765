# SPDX-License-Identifier: Apache-2.0
"""A history: a response of the API, faults at boundaries, and the sequel. It is played to its end and then checked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.ledger import EntryState, Ledger, Submitter
from airflow_provider_wan.ledger.entry import submitted
from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.job import JobOrigin
from dev.explore.seams import Make, seams
from dev.explore.stage import Stage, Switch
from dev.explore.task import Broken, Task
from dev.explore.world import CONFIG, Process, Strike, World, pretty
from dev.testkit.history import Violation, find_violations

# Number of manual retries and clears after which the clip must exist. All faults have occurred long before.
FINAL_TRIES = 8


@dataclass(frozen=True)
class Scenario:
    """
    How the API responds to the first submission.

    :param late: seconds after which a submission without a response is accepted after all.
    :param last_words: errors with which it may fail permanently, without a clip and without a charge.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    late: float | None = None
    last_words: tuple[str, ...] = ()


ACCEPTED = Scenario("accepted")
RESET_ACCEPTED = Scenario("accepted, connection reset", (Fault.RESET_AFTER_ACCEPT,))
RESET_LATE = Scenario("accepted 170 s after the reset", late=170.0)
RESET_REFUSED = Scenario("not accepted, connection reset", (Fault.RESET_BEFORE_ACCEPT,))
BUSY = Scenario("429", (Fault.RATE_LIMIT_429,))
FAILS_LATE = Scenario("fails late", (Fault.LATE_FAILURE,))
CANCELLED = Scenario("cancelled by the service", (Fault.CANCELLED,))

SCENARIOS = (
    ACCEPTED,
    RESET_ACCEPTED,
    RESET_LATE,
    RESET_REFUSED,
    BUSY,
    FAILS_LATE,
    CANCELLED,
    Scenario("201", (Fault.ANSWER_201,)),
    Scenario("accepted, done at once", (Fault.IMMEDIATE_SUCCESS,)),
    Scenario("accepted, time-out", (Fault.HANG_AFTER_ACCEPT,)),
    Scenario("accepted, 500", (Fault.ERROR_500_ACCEPTED,)),
    Scenario("accepted, 502 page", (Fault.HTML_502_ACCEPTED,)),
    Scenario("accepted, garbage", (Fault.GARBAGE_ACCEPTED,)),
    Scenario("accepted, no id", (Fault.NO_ID_ACCEPTED,)),
    Scenario("not accepted, time-out", (Fault.HANG_BEFORE_ACCEPT,)),
    Scenario("not accepted, 500", (Fault.ERROR_500_REFUSED,)),
    Scenario("429 without Retry-After", (Fault.RATE_LIMIT_429_BARE,)),
    Scenario("503", (Fault.CAPACITY_503,)),
    Scenario("a gateway's 400", (Fault.MESSAGE_ERROR_400,)),
    Scenario("accepted, a firewall's 403", (Fault.GATEWAY_403_ACCEPTED,)),
    Scenario("accepted, an ingress's 503", (Fault.GATEWAY_503_ACCEPTED,)),
    Scenario("accepted under another model id, reset", (Fault.RESET_AFTER_ACCEPT, Fault.FILED_ELSEWHERE)),
    Scenario("accepted, reset, seed echoed as a float", (Fault.RESET_AFTER_ACCEPT, Fault.ECHO_SEED_FLOAT)),
    Scenario("500 around a 400", (Fault.API_STATUS_400,), last_words=("WanClipFailedError",)),
    Scenario("402", (Fault.NO_CREDIT_402,)),
    Scenario("accepted, reset, and its payload hidden in the list", (Fault.RESET_AFTER_ACCEPT, Fault.EMPTY_ECHO)),
    Scenario("accepted, and its payload hidden in the list", (Fault.EMPTY_ECHO,)),
    Scenario("never runs", (Fault.NEVER_RUNS,), last_words=("WanClipTimeoutError",)),
    Scenario("rate limit as a failed record", (Fault.RATE_LIMIT_RECORD,)),
    Scenario("reset after acceptance, fails late", (Fault.RESET_AFTER_ACCEPT, Fault.LATE_FAILURE)),
)


class Sequel(StrEnum):
    """What follows the first try."""

    RETRY = "retry"
    LATE_RETRY = "retry, an hour later"
    CLEAR = "clear while it waits"
    CLEAR_AT_ONCE = "clear while it waits, its cancellation beside the next try"
    SECOND_RUN = "a second run with the same content"
    SECOND_WORKER = "a second worker at the same time"
    ZOMBIE = "a retry while the first still lives"

    @property
    def concurrent(self) -> bool:
        """Whether two processes run at the same time."""
        return self in (Sequel.SECOND_WORKER, Sequel.ZOMBIE, Sequel.CLEAR_AT_ONCE)


@dataclass(frozen=True)
class History:
    """
    One schedule.

    :param first: faults in the first try.
    :param second: faults in what follows.
    :param switches: where the first try hands over to the second.
    :param back: where the second hands over to the first.
    :param killer: faults in the triggerer, where it cancels for a clear.
    :param deferrable: waits in the triggerer, or else in the worker.
    :param seed: the user's seed.
    :param cancel: how the service responds to a cancellation.
    """

    scenario: Scenario = ACCEPTED
    sequel: Sequel = Sequel.RETRY
    first: tuple[Strike, ...] = ()
    second: tuple[Strike, ...] = ()
    switches: tuple[Switch, ...] = ()
    back: tuple[Switch, ...] = ()
    killer: tuple[Strike, ...] = ()
    deferrable: bool = True
    seed: int | None = None
    cancel: CancelMode = CancelMode.WORKS

    @property
    def weight(self) -> int:
        """Return the number of faults and switches."""
        return len(self.first) + len(self.second) + len(self.switches) + len(self.back) + len(self.killer)

    def __str__(self) -> str:
        parts = [self.scenario.name, str(self.sequel), "deferred" if self.deferrable else "in the worker"]
        parts += [f"the first {strike.kind} step {strike.step}" for strike in self.first]
        parts += [f"the second {strike.kind} step {strike.step}" for strike in self.second]
        parts += [f"the canceller {strike.kind} step {strike.step}" for strike in self.killer]
        parts += [f"to the second before step {at.step}, for {at.stall:.0f} s" for at in self.switches]
        parts += [f"back before step {at.step}" for at in self.back]
        return " · ".join(parts if self.seed is None else [*parts, f"seed {self.seed}"])


@dataclass
class Played:
    """The result of a history."""

    history: History
    world: World
    tasks: tuple[Task, ...]
    first: Process
    second: Process
    killer: Process

    def _struck(self) -> tuple[tuple[Process, tuple[Strike | Switch, ...]], ...]:
        history = self.history
        return (
            (self.first, (*history.first, *history.switches)),
            (self.second, (*history.second, *history.back)),
            (self.killer, history.killer),
        )

    @property
    def beyond(self) -> bool:
        """Whether a fault or switch lies beyond the end of its process."""
        return any(at.step > len(process.trace) for process, ats in self._struck() for at in ats)

    @property
    def came(self) -> bool:
        """Whether each fault could occur at its boundary."""
        return all(at in process.reached for process, ats in self._struck() for at in ats if isinstance(at, Strike))

    def boundaries(self) -> list[str]:
        """Return the names of the boundaries with a fault or a switch."""
        return [
            process.trace[at.step - 1]
            for process, ats in self._struck()
            for at in ats
            if at.step <= len(process.trace) and (isinstance(at, Switch) or at in process.reached)
        ]

    def crossed(self) -> list[str]:
        """Return the names of all boundaries that were crossed."""
        return [*self.first.trace, *self.second.trace, *self.killer.trace]


def play(history: History, make: Make = Submitter) -> Played:
    """
    Play a history, then the retries of Airflow and of people until there is a clip or no retry helps.

    :param make: makes the submitter; a test of the exploration passes a broken one.
    :raises Broken: if a promise was not kept.
    """
    random.seed(0)  # jitter
    world = World(*history.scenario.faults, late=history.scenario.late, cancel=history.cancel)
    first = Task(world, "run1", history.deferrable, history.seed)
    other = history.sequel in (Sequel.SECOND_RUN, Sequel.SECOND_WORKER)
    second = Task(world, "run2", history.deferrable, history.seed) if other else first
    with seams(make):
        processes = _begin(history, world, first, second)
        tasks = (first, second) if other else (first,)
        for task in tasks:
            for _ in range(FINAL_TRIES):
                if task.outcomes[-1] == "success":
                    break
                world.advance(world.now + 300.0)
                if _needs_person(task.outcomes[-1]):
                    _reconcile_by_hand(world)
                task.attempt(task.process())
    world.advance(world.now + 7200.0)
    played = Played(history, world, tasks, *processes)
    _check(played)
    return played


def _begin(history: History, world: World, first: Task, second: Task) -> tuple[Process, Process, Process]:
    one = first.process(*history.first)
    killer = Process(world, "triggerer", history.killer)
    if history.sequel in (Sequel.SECOND_WORKER, Sequel.ZOMBIE):
        two = second.process(*history.second)
        stage = Stage(world)
        stage.add(one, lambda: first.attempt(one), *history.switches)
        stage.add(two, lambda: second.attempt(two), *history.back)
        stage.run()
        return one, two, killer
    cleared = history.sequel in (Sequel.CLEAR, Sequel.CLEAR_AT_ONCE)
    first.attempt(one, cleared_when_deferred=cleared)
    world.advance(world.now + (3600.0 if history.sequel is Sequel.LATE_RETRY else 5.0))
    killed = Task(world, first.run, trigger=first.trigger)
    two = second.process(*history.second)
    if history.sequel is Sequel.CLEAR_AT_ONCE:
        stage = Stage(world)
        stage.add(two, lambda: second.attempt(two), *history.back)
        stage.add(killer, lambda: killed.kill(killer))
        stage.run()
        return one, two, killer
    if history.sequel is Sequel.CLEAR:
        killed.kill(killer)
    second.attempt(two)
    return one, two, killer


def _needs_person(outcome: str) -> bool:
    """
    Return whether an attempt ended in doubt in a way that the next one can't resolve.

    An attempt that has sent one more POST already leaves the next one to the next attempt; and one whose ledger was
    away as it was to record the doubt has not scanned the list yet.
    """
    transient = ("once already", "The ledger can't record that now")
    return outcome.startswith("WanInDoubtError") and not any(reason in outcome for reason in transient)


def _reconcile_by_hand(world: World) -> None:
    """Do what the error asks for if the list hides payloads: inspect the requests, and record the result."""
    if not any(Fault.EMPTY_ECHO in job.shapes for job in world.core.jobs):
        raise Broken("an entry in doubt that needs a person, although the list shows everything")
    ledger = Ledger(world.ledger, lambda: world.now)
    for stored in world.ledger.entries():
        if stored.entry.state in (EntryState.IN_DOUBT, EntryState.CLAIMED):
            ledger.replace(stored, submitted(stored.entry, world.accepted()[-1], world.now))


def _check(played: Played) -> None:
    world, history = played.world, played.history
    charged = world.charged()
    problem = ""
    if len(charged) > 1:
        problem = f"charged {len(charged)} times"
    elif set(charged) - set(world.bucket):
        problem = "a clip that was paid for is not in the bucket"
    elif set(world.bucket) - set(charged):
        problem = "a clip in the bucket was never charged"
    elif not all(task.result or _ended_well(task, history.scenario) for task in played.tasks):
        problem = "the clip never came to be"
    elif violations := _find_violations(played):
        problem = "; ".join(map(str, violations))
    if problem:
        outcomes = "\n".join(f"{task.run}: {task.outcomes}" for task in played.tasks)
        traces = "\n".join(f"{process.name}: {process.trace}" for process in (played.first, played.second))
        raise Broken(f"{problem}\n{history}\n{outcomes}\n{traces}\n{pretty(world)}")


def _find_violations(played: Played) -> list[Violation]:
    core = played.world.core
    # What the service refused itself, it lists as failed: an entry may name it.
    known = [job for job in core.jobs if job.origin in (JobOrigin.API, JobOrigin.REFUSED)]
    outcomes = [outcome for task in played.tasks for outcome in task.outcomes]
    results = {task.result: task.asked for task in played.tasks if task.result}
    return find_violations(
        [{"request_id": job.request_id, "payload": job.payload} for job in known],
        [each for each in core.journal.list_charges() if each["origin"] == "api"],
        [stored.entry for stored in played.world.ledger.entries()],
        delivered=results,
        dump={"the logs and XCom": "\n".join([*played.world.texts, *outcomes])},
        keys=[CONFIG.api_key],
    )


def _ended_well(task: Task, scenario: Scenario) -> bool:
    return any(word in task.outcomes[-1] for word in scenario.last_words)
