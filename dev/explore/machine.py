# SPDX-License-Identifier: Apache-2.0
"""The steps from which hypothesis builds histories of claims, all inside the documented envelope."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.ledger import Policy, Submitter
from airflow_provider_wan.ledger.stores.base import LedgerStore
from dev.explore.claims import ClaimWorld, Fate, ListLie
from dev.explore.world import MemoryStore

F = TypeVar("F", bound=Callable[..., None])

POLICY = Policy()
PICK = (0, 1, 2)
# The errors of two clocks add up to the margin at most.
CLOCK_ERROR = (
    0.0,
    POLICY.clock_margin / 2,
    -POLICY.clock_margin / 2,
    3.0,
)
SECONDS = (
    0.5,
    9.0,
    11.0,
    49.0,
    60.0,
    120.0,
    180.0,
    300.0,
    359.0,
    400.0,
)
AFTER = (
    0.0,
    30.0,
    POLICY.post_timeout,
    POLICY.longest_post - 1.0,
    POLICY.longest_post,
)
LAG = (
    0.0,
    60.0,
    POLICY.list_lag,
)
TASKS = (("one", 0), ("another", 0), ("other clip", 1))


@dataclass(frozen=True)
class Choice:
    """
    A rule as a random walk applies it.

    :param function: the method.
    :param choices: the values of each argument.
    :param when: whether it can be applied now.
    """

    function: Callable[..., None]
    choices: Mapping[str, Sequence[Any]]
    when: Callable[[Any], bool]


CHOICES: list[Choice] = []


def chosen(when: Callable[[Any], bool] = lambda machine: True, **choices: Sequence[Any]) -> Callable[[F], F]:
    """Make a rule of a method, for hypothesis and for :func:`walk`; each argument is one of its choices."""

    def decorate(function: F) -> F:
        CHOICES.append(Choice(function, choices, when))
        strategies = {name: st.sampled_from(values) for name, values in choices.items()}
        build_rule: Any = rule
        return cast(F, precondition(when)(build_rule(**strategies)(function)))

    return decorate


def can_start(machine: ClaimMachine) -> bool:
    return len(machine.world.live) < 3


def has_live(machine: ClaimMachine) -> bool:
    return bool(machine.world.live)


def has_flying(machine: ClaimMachine) -> bool:
    return bool(machine.world.flying())


def has_running(machine: ClaimMachine) -> bool:
    return bool(machine.world.service.running())


class Answer(StrEnum):
    """What becomes of a POST of an attempt that goes on."""

    NONE = "none yet"
    LOST = "not accepted, and no response"
    ACCEPTED_AND_LOST = "accepted, and no response"
    ACCEPTED = "accepted"


class ClaimMachine(RuleBasedStateMachine):
    """Up to three attempts at two clips, each stopped at every boundary."""

    rules_applied: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    user_seed: ClassVar[int | None] = None
    submitter: ClassVar[type[Submitter]] = Submitter

    def __init__(self) -> None:
        super().__init__()
        self.world = ClaimWorld(self.make_store(), seed=self.user_seed, build_submitter=self.submitter)

    def make_store(self) -> LedgerStore:
        """Return an empty ledger."""
        return MemoryStore()

    @initialize(service=st.sampled_from(CLOCK_ERROR), worker=st.sampled_from(CLOCK_ERROR))
    def begin(self, service: float, worker: float) -> None:
        self.world.service.clock_error = service
        self.world.start("one", clock_error=worker)

    @chosen(can_start, task=TASKS, error=CLOCK_ERROR)
    def start(self, task: tuple[str, int], error: float) -> None:
        if len(self.world.live) < 3:
            self.world.start(*task, clock_error=error)

    @chosen(
        has_live,
        pick=PICK,
        fate=(
            Fate.WORKS,
            Fate.WORKS,
            Fate.WORKS,
            Fate.FAILS,
            Fate.LOST,
        ),
    )
    def resume(self, pick: int, fate: Fate) -> None:
        ready = [actor for actor in self.world.live if actor.ready]
        if ready:
            ready[pick % len(ready)].resume(fate)

    @chosen(
        has_live,
        pick=PICK,
        boundary=(
            "send",
            "answer",
            "list",
            "write: response",
        ),
    )
    def run_to(self, pick: int, boundary: str) -> None:
        ready = [actor for actor in self.world.live if actor.ready and actor.at != "answer"]
        if ready:
            ready[pick % len(ready)].run_to(boundary, "answer")

    @chosen(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @chosen(has_flying, pick=PICK, lag=LAG)
    def accept(self, pick: int, lag: float) -> None:
        flying = self.world.flying()
        if flying:
            self.world.accept(flying[pick % len(flying)], lag)

    @chosen(has_flying, pick=PICK, after=AFTER, lag=LAG)
    def accept_later(self, pick: int, after: float, lag: float) -> None:
        """Let a POST be accepted at a moment to come, which may be the last possible one."""
        flying = self.world.flying()
        if flying:
            self.world.schedule(flying[pick % len(flying)], after, lag)

    @chosen(
        has_live,
        pick=PICK,
        most=(
            4,
            20,
            200,
        ),
        answer=tuple(Answer),
        after=AFTER,
        lag=LAG,
    )
    def carry_on(self, pick: int, most: int, answer: Answer, after: float, lag: float) -> None:
        """Let one attempt go on, while time passes as it sleeps; each POST of it is answered in the same way."""
        live = self.world.live
        if not live:
            return
        actor = live[pick % len(live)]
        for _ in range(most):
            self.world.advance(max(actor.wake_at - self.world.now, 0.0))
            if not actor.live or (actor.at == "answer" and answer is Answer.NONE):
                return
            fate = Fate.WORKS
            if actor.at == "answer":
                fate = Fate.WORKS if answer is Answer.ACCEPTED else Fate.LOST
                if answer in (Answer.ACCEPTED, Answer.ACCEPTED_AND_LOST) and actor.post in self.world.flying():
                    self.world.schedule(actor.post, 0.0 if answer is Answer.ACCEPTED else after, lag)
                    self.world.advance(0.0)
            if actor.ready:
                actor.resume(fate)

    @chosen(has_flying, pick=PICK)
    def refuse(self, pick: int) -> None:
        flying = self.world.flying()
        if flying:
            post = flying[pick % len(flying)]
            post.over = post.refused = True

    @chosen(has_flying, pick=PICK)
    def drop(self, pick: int) -> None:
        flying = self.world.flying()
        if flying:
            flying[pick % len(flying)].over = True

    @chosen(
        has_running,
        pick=PICK,
        status=(
            RequestStatus.SUCCESS,
            RequestStatus.FAILED,
            RequestStatus.CANCELLED,
        ),
    )
    def finish(self, pick: int, status: RequestStatus) -> None:
        running = self.world.service.running()
        if running:
            error = "internal error" if status is RequestStatus.FAILED else None
            self.world.service.finish(running[pick % len(running)], status, error)

    @chosen(has_live, pick=PICK)
    def kill(self, pick: int) -> None:
        live = self.world.live
        if live:
            live[pick % len(live)].kill()

    @chosen(has_live, pick=PICK, error=CLOCK_ERROR)
    def set_clock(self, pick: int, error: float) -> None:
        live = self.world.live
        if live:
            live[pick % len(live)].clock_error = error

    @chosen(lie=tuple(ListLie))
    def change_list(self, lie: ListLie) -> None:
        self.world.lie = lie

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        ClaimMachine.rules_applied += 1
        paid = [len(self.world.paid(clip)) for clip in range(2)]
        if self.user_seed is None:
            assert max(paid) <= 1
        else:
            # Both clips have one payload: the request of either is as good for the other.
            assert sum(paid) <= len({post.fingerprint for post in self.world.posts})
        assert self.world.violations() == []

    def teardown(self) -> None:
        try:
            finished = self.world.run_to_end()
            assert self.world.violations(finished=finished) == []
        finally:
            self.world.stop()
            ClaimMachine.steps += self.world.crossings


class SeededClaimMachine(ClaimMachine):
    """The same with a seed of the user's that both clips share."""

    user_seed = 42


def walk(make: type[ClaimMachine], rng: random.Random, length: int) -> None:
    """
    Play one history by rules that are drawn at random, without hypothesis: many times as fast.

    :param make: the machine.
    :param rng: draws the rules and their arguments.
    :param length: number of rules.
    """

    machine = make()
    machine.begin(rng.choice(CLOCK_ERROR), rng.choice(CLOCK_ERROR))
    for _ in range(length):
        choice = rng.choice([each for each in CHOICES if each.when(machine)])
        choice.function(machine, **{name: rng.choice(values) for name, values in choice.choices.items()})
        machine.nothing_is_paid_twice()
    machine.teardown()
