# SPDX-License-Identifier: Apache-2.0
"""The steps from which hypothesis builds histories of claims, all inside the documented envelope."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.ledger import Policy, Submitter
from airflow_provider_wan.ledger.stores.base import LedgerStore
from dev.explore.claims import ClaimWorld, Fate, ListLie
from dev.explore.world import MemoryStore

POLICY = Policy()
PICK = st.integers(0, 2)
# The errors of two clocks add up to the margin at most.
CLOCK_ERROR = st.sampled_from([0.0, POLICY.clock_margin / 2, -POLICY.clock_margin / 2, 3.0])
SECONDS = st.sampled_from([0.5, 9.0, 11.0, 49.0, 60.0, 120.0, 180.0, 300.0, 359.0, 400.0])
AFTER = st.sampled_from([0.0, 30.0, POLICY.post_timeout, POLICY.longest_post - 1.0, POLICY.longest_post])
LAG = st.sampled_from([0.0, 60.0, POLICY.list_lag])
TASKS = (("one", 0), ("another", 0), ("other clip", 1))


class Answer(StrEnum):
    """What becomes of a POST of an attempt that goes on."""

    NONE = "none yet"
    LOST = "not accepted, and no response"
    ACCEPTED_AND_LOST = "accepted, and no response"
    ACCEPTED = "accepted"


class ClaimMachine(RuleBasedStateMachine):
    """Up to three attempts at two clips, each stopped at every boundary."""

    steps: ClassVar[int] = 0
    user_seed: ClassVar[int | None] = None
    submitter: ClassVar[type[Submitter]] = Submitter

    def __init__(self) -> None:
        super().__init__()
        self.world = ClaimWorld(self.make_store(), seed=self.user_seed, build_submitter=self.submitter)

    def make_store(self) -> LedgerStore:
        """Return an empty ledger."""
        return MemoryStore()

    @initialize(error=CLOCK_ERROR)
    def set_service_clock(self, error: float) -> None:
        self.world.service.clock_error = error

    @rule(task=st.sampled_from(TASKS), error=CLOCK_ERROR)
    def start(self, task: tuple[str, int], error: float) -> None:
        if len(self.world.live) < 3:
            self.world.start(*task, clock_error=error)

    @rule(pick=PICK, fate=st.sampled_from([Fate.WORKS, Fate.WORKS, Fate.WORKS, Fate.FAILS, Fate.LOST]))
    def resume(self, pick: int, fate: Fate) -> None:
        ready = [actor for actor in self.world.live if actor.ready]
        if ready:
            ready[pick % len(ready)].resume(fate)

    @rule(pick=PICK, boundary=st.sampled_from(["send", "answer", "list", "write: response"]))
    def run_to(self, pick: int, boundary: str) -> None:
        ready = [actor for actor in self.world.live if actor.ready and actor.at != "answer"]
        if ready:
            ready[pick % len(ready)].run_to(boundary, "answer")

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(pick=PICK, lag=LAG)
    def accept(self, pick: int, lag: float) -> None:
        flying = self.world.flying()
        if flying:
            self.world.accept(flying[pick % len(flying)], lag)

    @rule(pick=PICK, after=AFTER, lag=LAG)
    def accept_later(self, pick: int, after: float, lag: float) -> None:
        """Let a POST be accepted at a moment to come, which may be the last possible one."""
        flying = self.world.flying()
        if flying:
            self.world.schedule(flying[pick % len(flying)], after, lag)

    @rule(
        pick=PICK,
        most=st.sampled_from([4, 20, 200]),
        answer=st.sampled_from(list(Answer)),
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

    @rule(pick=PICK)
    def refuse(self, pick: int) -> None:
        flying = self.world.flying()
        if flying:
            post = flying[pick % len(flying)]
            post.over = post.refused = True

    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        flying = self.world.flying()
        if flying:
            flying[pick % len(flying)].over = True

    @rule(pick=PICK, status=st.sampled_from([RequestStatus.SUCCESS, RequestStatus.FAILED, RequestStatus.CANCELLED]))
    def finish(self, pick: int, status: RequestStatus) -> None:
        running = self.world.service.running()
        if running:
            error = "internal error" if status is RequestStatus.FAILED else None
            self.world.service.finish(running[pick % len(running)], status, error)

    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        live = self.world.live
        if live:
            live[pick % len(live)].kill()

    @rule(pick=PICK, error=CLOCK_ERROR)
    def set_clock(self, pick: int, error: float) -> None:
        live = self.world.live
        if live:
            live[pick % len(live)].clock_error = error

    @rule(lie=st.sampled_from(list(ListLie)))
    def change_list(self, lie: ListLie) -> None:
        self.world.lie = lie

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        ClaimMachine.steps += 1
        for clip in range(2):
            assert len(self.world.paid(clip)) <= 1
        assert self.world.violations() == []

    def teardown(self) -> None:
        try:
            finished = self.world.run_to_end()
            assert self.world.violations(finished=finished) == []
        finally:
            self.world.stop()


class SeededClaimMachine(ClaimMachine):
    """The same with a seed of the user's that both clips share."""

    user_seed = 42
