# SPDX-License-Identifier: Apache-2.0
"""With any one of the safeguards taken out, the exploration fails."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from airflow_provider_wan.ledger import Policy, Submission, Submitted
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import submission as submission_module
from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.ledger.reconcile import Finding, Look
from airflow_provider_wan.ledger.store import Versioned
from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore import world as world_module
from dev.explore.explorer import Explorer
from dev.explore.histories import ACCEPTED, BUSY, RESET_ACCEPTED, RESET_LATE, History, Sequel
from dev.explore.seams import seams
from dev.explore.task import Broken, Task
from dev.explore.world import Kind, World

ONE = (Kind.DIE_AFTER, Kind.SLOW)


def explore(make=Submission, *, answers=(ACCEPTED, RESET_ACCEPTED, RESET_LATE, BUSY)):
    """A small part of the exploration, which nothing but the breakage makes fail."""
    explorer = Explorer(make)
    for answer in answers:
        explorer.one_fault(History(answer), ONE)
    for sequel in (Sequel.SECOND_WORKER, Sequel.ZOMBIE):
        explorer.two_at_once(History(answers[0], sequel))
        explorer.one_fault(History(answers[0], sequel, cancel=CancelMode.IGNORED), ONE)


def test_with_everything_in_place_nothing_is_found():
    explore()


class WithoutClaim(Submission):
    """Submits, and then writes down what it did."""

    def _pay(self, job, held, *, keep_seed):
        fresh, request = self._claim(job, held.entry if held else None, keep_seed)
        record = self._api.submit(request)
        entry = entries.submitted(fresh, record.request_id, self._clock())
        if held is None:
            self.store.create(entry)
        else:
            self.store.replace(entry, held.version)
        return Submitted(entry, record, True)


class WithoutRecord(Submission):
    """Does not write the request id down."""

    def _note(self, current, record):
        return Submitted(entries.submitted(current.entry, record.request_id, 0.0), record, True)


class WithoutReconciliation(Submission):
    """Takes what is in doubt for not sent."""

    def _settle(self, job, held, on_doubt):
        return self._pay(job, held, keep_seed=True)


class WithoutSecondLook(Submission):
    """Takes one look into the list for a proof."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more, policy=Policy(settle=0.0))


class WithoutLease(Submission):
    """Takes every other owner for dead."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more, policy=Policy(lease=0.0, clock_margin=0.0, settle=0.0))


class WithoutFence(Submission):
    """Does not look at its claim again before it pays."""

    def _replace(self, current, entry):
        if entry.state is EntryState.CLAIMED and entry.posting_at is not None:
            return Versioned(entry, current.version)
        return super()._replace(current, entry)


class WithoutHaste(Submission):
    """Pays however long ago it announced that."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more, policy=Policy(post_within=1e9))


class WithoutLookingFirst(Submission):
    """Pays again for what it has submitted before."""

    def _step(self, job, held, on_doubt):
        if held is not None and held.entry.state is EntryState.SUBMITTED:
            failed = entries.cancelled(held.entry, self._clock())
            held = Versioned(failed, self.store.replace(failed, held.version))
        return super()._step(job, held, on_doubt)


@pytest.mark.parametrize(
    "make",
    [
        WithoutClaim,
        WithoutRecord,
        WithoutReconciliation,
        WithoutSecondLook,
        WithoutLease,
        WithoutFence,
        WithoutHaste,
        WithoutLookingFirst,
    ],
)
def test_without_a_safeguard_of_the_submission_it_fails(make):
    with pytest.raises(Broken):
        explore(make)


def test_without_a_seed_of_its_own_a_submission_is_not_found_again():
    def drawn(self, job, before, keep_seed):
        fresh, request = claim(self, job, before, keep_seed)
        return fresh, request.with_seed(1)

    claim = Submission._claim
    with patch.object(Submission, "_claim", drawn), pytest.raises(Broken):
        explore(answers=(RESET_ACCEPTED,))


def test_with_a_blind_look_it_fails():
    blind = lambda *args: Look(Finding.ABSENT)  # noqa: E731
    with patch.object(submission_module, "look", blind), pytest.raises(Broken):
        explore()


def test_without_conditions_on_writes_it_fails():
    def careless(self, entry, version):
        return self._put(entry)

    with (
        patch.object(world_module.MemoryLedger, "replace", careless),
        patch.object(world_module.MemoryLedger, "create", lambda self, entry: self._put(entry)),
        pytest.raises(Broken),
    ):
        explore()


class WithoutBuildingFirst(Submission):
    """Pays, and lets the operator find out afterwards that it can't wait."""

    def ensure(self, request, **more):
        return super().ensure(request, **{**more, "before_pay": None})


def _play_with_a_trigger_that_can_not_be_built(make):
    def broken(self):
        raise TypeError("can't be serialized")

    world = World()
    task = Task(world, "run1")
    with patch.object(WanI2VTrigger, "serialize", broken), seams(make), pytest.raises(TypeError):
        task.attempt(task.process())
    if world.accepted():
        raise Broken("it paid for a clip that it can't wait for")


def test_a_trigger_that_can_not_be_built_costs_nothing():
    _play_with_a_trigger_that_can_not_be_built(Submission)


def test_without_building_before_paying_it_costs_something():
    with pytest.raises(Broken):
        _play_with_a_trigger_that_can_not_be_built(WithoutBuildingFirst)
