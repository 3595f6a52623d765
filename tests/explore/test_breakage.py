# SPDX-License-Identifier: Apache-2.0
"""The exploration fails if any one safeguard is removed."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from airflow_provider_wan.ledger import Policy, SubmitResult, Submitter
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import submitter as submitter_module
from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.ledger.reconcile import Finding, ReconcileResult
from airflow_provider_wan.ledger.stores.base import StoredEntry
from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore import world as world_module
from dev.explore.explorer import Explorer
from dev.explore.histories import ACCEPTED, BUSY, RESET_ACCEPTED, RESET_LATE, History, Sequel
from dev.explore.seams import seams
from dev.explore.task import Broken, Task
from dev.explore.world import Kind, World


class Careless(Policy):
    """Times that :class:`Policy` refuses."""

    def __post_init__(self) -> None:
        pass


ONE = (Kind.DIE_AFTER, Kind.SLOW)


def explore(make: Any = Submitter, *, scenarios: Any = (ACCEPTED, RESET_ACCEPTED, RESET_LATE, BUSY)) -> None:
    """Run a small part of the exploration, which fails only because of the removed safeguard."""
    explorer = Explorer(make)
    for scenario in scenarios:
        explorer.one_fault(History(scenario), ONE)
    for sequel in (Sequel.SECOND_WORKER, Sequel.ZOMBIE):
        explorer.two_at_once(History(scenarios[0], sequel))
        explorer.one_fault(History(scenarios[0], sequel, cancel=CancelMode.IGNORED), ONE)


@pytest.mark.nightly
def test_with_everything_in_place_nothing_is_found() -> None:
    explore()


class WithoutClaim(Submitter):
    """Submits first, and writes the entry afterwards."""

    def _claim_and_post(self, submission: Any, stored: Any, *, keep_seed: Any) -> Any:
        fresh, request = self._build_claim(submission, stored.entry if stored else None, keep_seed)
        record = self._api.prepare_submission(request).send(60.0)
        entry = entries.submitted(fresh, record.request_id, self._clock())
        if stored is None:
            self._store.create(entry)
        else:
            self._store.replace(entry, stored.version)
        return SubmitResult(entry, record, True)


class WithoutRecord(Submitter):
    """Does not record the request id."""

    def _record_accepted(self, current: Any, record: Any) -> Any:
        return SubmitResult(entries.submitted(current.entry, record.request_id, 0.0), record, True)


class WithoutReconciliation(Submitter):
    """Treats an entry in doubt as not sent."""

    def _reconcile(self, submission: Any, stored: Any, on_doubt: Any) -> Any:
        return self._claim_and_post(submission, stored, keep_seed=True)


class WithoutSecondScan(Submitter):
    """Accepts one scan of the list as proof."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more, policy=Careless(absence_confirm_interval=0.0))


class WithoutLease(Submitter):
    """Treats every other owner as dead."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more, policy=Careless(lease=0.0, clock_margin=0.0, absence_confirm_interval=0.0))


class WithoutFence(Submitter):
    """Does not check its claim again before it pays."""

    def _replace(self, current: Any, entry: Any) -> Any:
        if entry.state is EntryState.CLAIMED and entry.intent_at is not None:
            return StoredEntry(entry, current.version)
        return super()._replace(current, entry)


class WithoutHaste(Submitter):
    """Pays even if its intent is too old."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more, policy=Careless(max_intent_age=1e9))


class WithoutPollingFirst(Submitter):
    """Pays again although a request is submitted."""

    def _step(self, submission: Any, stored: Any, on_doubt: Any) -> Any:
        if stored is not None and stored.entry.state is EntryState.SUBMITTED:
            failed = entries.cancelled(stored.entry, self._clock())
            stored = StoredEntry(failed, self._store.replace(failed, stored.version))
        return super()._step(submission, stored, on_doubt)


@pytest.mark.parametrize(
    "make",
    [
        WithoutClaim,
        WithoutRecord,
        WithoutReconciliation,
        WithoutSecondScan,
        WithoutLease,
        WithoutFence,
        pytest.param(WithoutHaste, marks=pytest.mark.nightly),
        WithoutPollingFirst,
    ],
)
def test_without_a_safeguard_of_the_submission_it_fails(make: Any) -> None:
    with pytest.raises(Broken):
        explore(make)


def test_without_a_seed_of_its_own_a_submission_is_not_found_again() -> None:
    def drawn(self: Any, submission: Any, before: Any, keep_seed: Any) -> Any:
        fresh, request = claim(self, submission, before, keep_seed)
        return fresh, request.with_seed(1)

    claim = Submitter._build_claim
    with patch.object(Submitter, "_build_claim", drawn), pytest.raises(Broken):
        explore(scenarios=(RESET_ACCEPTED,))


def test_with_a_blind_scan_it_fails() -> None:
    blind = lambda *args: ReconcileResult(Finding.ABSENT)  # noqa: E731
    with patch.object(submitter_module, "reconcile_entry", blind), pytest.raises(Broken):
        explore()


def test_without_conditions_on_writes_it_fails() -> None:
    def careless(self: Any, entry: Any, version: Any) -> Any:
        return self._put(entry)

    with (
        patch.object(world_module.MemoryStore, "replace", careless),
        patch.object(world_module.MemoryStore, "create", lambda self, entry: self._put(entry)),
        pytest.raises(Broken),
    ):
        explore()


class WithoutBuildingFirst(Submitter):
    """Pays, and lets the operator find out afterwards that it can't wait."""

    def submit_once(self, request: Any, **more: Any) -> Any:
        return super().submit_once(request, **{**more, "before_pay": None})


def _play_with_a_trigger_that_can_not_be_built(make: Any) -> None:
    def broken(self: Any) -> None:
        raise TypeError("can't be serialized")

    world = World()
    task = Task(world, "run1")
    with patch.object(WanI2VTrigger, "serialize", broken), seams(make), pytest.raises(TypeError):
        task.attempt(task.process())
    if world.accepted():
        raise Broken("it paid for a clip that it can't wait for")


def test_a_trigger_that_can_not_be_built_costs_nothing() -> None:
    _play_with_a_trigger_that_can_not_be_built(Submitter)


def test_without_building_before_payment_it_costs_something() -> None:
    with pytest.raises(Broken):
        _play_with_a_trigger_that_can_not_be_built(WithoutBuildingFirst)
