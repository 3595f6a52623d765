# SPDX-License-Identifier: Apache-2.0
"""Attempts at one clip in any order: inside the envelope it is paid for once; beyond its edge it is not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_wan.ledger import Policy
from airflow_provider_wan.ledger.stores.base import LedgerStore
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.explore.claims import ClaimWorld, Fate
from dev.explore.machine import ClaimMachine, SeededClaimMachine
from dev.explore.world import MemoryStore

P = Policy()


class FileClaimMachine(ClaimMachine):
    """The same on files."""

    def make_store(self) -> LedgerStore:
        return FileStore(Path(tempfile.mkdtemp()))


@pytest.mark.parametrize(("machine", "examples"), [(ClaimMachine, 25), (SeededClaimMachine, 25), (FileClaimMachine, 5)])
def test_no_order_of_steps_inside_the_envelope_pays_twice(machine: type[ClaimMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _send_and_lose(world: ClaimWorld, accept_after: float, lag: float) -> None:
    """Let one attempt lose the response to its POST, and go on until it has its clip."""
    actor = world.start("one")
    actor.run_to("answer")
    post = world.posts[0]
    actor.resume(Fate.LOST)
    accepted = False
    for _ in range(2000):
        if not accepted and world.now >= post.sent_at + accept_after:
            world.accept(post, lag)
            accepted = True
        if actor.at == "answer" and not world.posts[-1].over:
            world.accept(world.posts[-1])
        if not actor.live:
            break
        if actor.ready:
            actor.resume()
        else:
            world.advance(1.0)
    world.stop()


@pytest.mark.parametrize(("lag", "payments"), [(P.list_lag, 1), (P.list_lag + P.pause_allowance + 20.0, 2)])
def test_a_list_that_lags_further_behind_than_promised_costs_a_second_payment(lag: float, payments: int) -> None:
    world = ClaimWorld(MemoryStore())
    _send_and_lose(world, P.longest_post, lag)
    assert len(world.paid(0)) == payments


@pytest.mark.parametrize(("freeze", "payments"), [(P.pause_allowance, 1), (P.pause_allowance + 20.0, 2)])
def test_a_freeze_before_the_post_that_is_longer_than_allowed_costs_a_second_payment(
    freeze: float, payments: int
) -> None:
    world = ClaimWorld(MemoryStore())
    zombie = world.start("one")
    zombie.run_to("send")
    retry = world.start("one")
    retry.run_to("sleep")
    world.advance(freeze, freeze=True)
    zombie.resume()
    late = world.posts[0]
    for _ in range(4000):
        if not late.over and world.now >= late.sent_at + P.longest_post:
            world.accept(late, P.list_lag)
        if retry.at == "answer" and not world.posts[-1].over:
            world.accept(world.posts[-1])
        if not retry.live:
            break
        if retry.ready:
            retry.resume()
        else:
            world.advance(0.5)
    world.stop()
    assert len(world.paid(0)) == payments
