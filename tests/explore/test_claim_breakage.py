# SPDX-License-Identifier: Apache-2.0
"""Orders of claims find each safeguard that is taken out, and nothing with all of them in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.record import RequestPage
from airflow_provider_wan.ledger import LedgerEntry, Policy, Submitter
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import reconcile as reconcile_module
from airflow_provider_wan.ledger import submitter as submitter_module
from airflow_provider_wan.ledger.reconcile import Finding, OtherEntries, ReconcileResult
from airflow_provider_wan.ledger.rules import SubmitOutcome
from dev.explore.claims import ClaimWorld, Fate, ListLie
from dev.explore.machine import ClaimMachine, SeededClaimMachine
from dev.explore.world import MemoryStore
from dev.testkit.history import ViolationKind

P = Policy()
OTHER_ACCOUNT = WanConfig(api_key="tests-key-1f9d3b", base_url="https://other.example.com/queue").account


class ConnectsAfterIntent(Submitter):
    """Records its intent first, and connects then."""

    def _post(self, submission: Any, claimed: Any, request: Any, tries: int) -> Any:
        claimed, timeout = self._record_intent(claimed, submission.deadline)
        record = self._api.prepare_submission(request).send(timeout)
        return self._record_accepted(claimed, record)


class IgnoresAge(Submitter):
    """Sends however long ago it recorded its intent."""

    def _record_intent(self, claimed: Any, deadline: Any) -> Any:
        return self._replace(claimed, entries.record_intent(claimed.entry, self._clock())), P.post_timeout


class TrustsWallClock(Submitter):
    """Measures all times by the wall clock."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "monotonic": more["clock"]})


class WithoutLateScan(Submitter):
    """Does not scan once more for a second request."""

    def scan_for_duplicates(self, fingerprint: str) -> LedgerEntry | None:
        return None


read_others = OtherEntries.read.__func__  # type: ignore[attr-defined]


def forget_requests(cls: Any, *args: Any) -> OtherEntries:
    """Read other entries without their requests."""
    others = read_others(cls, *args)
    return OtherEntries(frozenset(), others.known, ())


MACHINES: dict[str, tuple[type[ClaimMachine], Any, str, Any]] = {
    "a gateway's answer is no refusal": (
        ClaimMachine,
        submitter_module,
        "classify_response",
        lambda error: SubmitOutcome.WAIT,
    ),
    "the requests of other entries are not ours": (
        SeededClaimMachine,
        OtherEntries,
        "read",
        classmethod(forget_requests),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_without_a_safeguard_random_orders_pay_twice(name: str) -> None:
    machine, place, attribute, broken = MACHINES[name]
    chosen = settings(
        max_examples=500,  # it ends at the first finding
        stateful_step_count=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    with patch.object(place, attribute, broken), pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=chosen)


def freeze_at_each_boundary(make: Any) -> Iterator[ClaimWorld]:
    """Freeze an attempt at each boundary before its POST, until its retry has ended, and let it go on."""
    for steps in range(1, 30):
        world = ClaimWorld(MemoryStore(), build_submitter=make)
        zombie = world.start("one")
        for _ in range(steps):
            zombie.resume()
        if zombie.at in ("send", "answer"):
            world.stop()
            return
        world.play(world.start("one"))
        world.play(zombie)
        yield world


def step_the_clock(make: Any) -> Iterator[ClaimWorld]:
    """Accept a POST at the last moment, while the clock of its worker is set between two scans."""
    world = ClaimWorld(MemoryStore(), build_submitter=make)
    actor = world.start("one")
    actor.run_to("answer")
    world.schedule(world.posts[0], P.longest_post, P.list_lag)
    actor.resume(Fate.LOST)
    actor.run_to("sleep")
    world.advance(actor.wake_at - world.now)
    actor.clock_error = P.absence_confirm_interval
    world.play(actor)
    world.run_to_end()
    yield world


def lie_about_a_lost_post(make: Any) -> Iterator[ClaimWorld]:
    """Accept a POST whose response is lost, and let the list hide it."""
    for lie in (ListLie.EMPTY, ListLie.DOWN):
        world = ClaimWorld(MemoryStore(), build_submitter=make)
        actor = world.start("one")
        actor.run_to("answer")
        world.accept(world.posts[0])
        actor.resume(Fate.LOST)
        world.lie = lie
        world.play(actor)
        yield world


def lose_each_post(make: Any) -> Iterator[ClaimWorld]:
    """Lose each POST of one attempt before the service has accepted it."""
    world = ClaimWorld(MemoryStore(), build_submitter=make)
    actor = world.start("one")
    while actor.live and len(world.posts) < 5:
        world.advance(max(actor.wake_at - world.now, 0.0))
        actor.resume(Fate.LOST if actor.at == "answer" else Fate.WORKS)
    yield world


def change_the_account(make: Any) -> Iterator[ClaimWorld]:
    """Lose the response to a POST, and retry with a connection that reaches another account."""
    world = ClaimWorld(MemoryStore(), build_submitter=make)
    first = world.start("one")
    first.run_to("answer")
    world.accept(world.posts[0])
    first.kill()
    retry = world.start("one")
    retry.account = OTHER_ACCOUNT
    with patch.object(world, "list_page", partial(_list_old_requests, world)):
        world.play(retry)
    yield world


def _list_old_requests(world: ClaimWorld, limit: int, offset: int) -> RequestPage:
    """List what the other account has: requests that are older than the history."""
    records = world.service.page(world.now, 100, 0).records
    old = tuple(record for record in records if record.request_id.startswith("old"))
    part = old[offset : offset + limit]
    return RequestPage(part, len(part), len(old), offset + limit < len(old))


@dataclass(frozen=True)
class Safeguard:
    """
    A safeguard that can be taken out.

    :param play: the history that needs it.
    :param without: the submitter that lacks it.
    :param patched: object, attribute and what takes its place.
    """

    play: Callable[[Any], Iterator[ClaimWorld]]
    without: type[Submitter] = Submitter
    patched: tuple[Any, str, Any] | None = None


SAFEGUARDS = {
    "the connection is made before the intent": Safeguard(freeze_at_each_boundary, ConnectsAfterIntent),
    "an old intent is not followed by a POST": Safeguard(freeze_at_each_boundary, IgnoresAge),
    "the interval is measured by a clock that can't be set": Safeguard(step_the_clock, TrustsWallClock),
    "the positive control": Safeguard(
        lie_about_a_lost_post,
        patched=(reconcile_module, "_control", lambda *_: ReconcileResult(Finding.ABSENT)),
    ),
    "at most one more POST for each attempt": Safeguard(
        lose_each_post, patched=(LedgerEntry, "is_repeat", property(lambda self: False))
    ),
    "an entry of another account stops the attempt": Safeguard(
        change_the_account, patched=(submitter_module, "check_account", lambda entry, account: None)
    ),
}


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_a_safeguard_that_is_taken_out_is_found_by_its_own_history(name: str) -> None:
    safeguard = SAFEGUARDS[name]
    assert not any(find_broken_promise(world) for world in _end(safeguard.play(Submitter)))
    with patch.object(*safeguard.patched) if safeguard.patched else nullcontext():
        assert any(find_broken_promise(world) for world in _end(safeguard.play(safeguard.without)))


def find_broken_promise(world: ClaimWorld) -> bool:
    """Return whether a clip was paid for twice, or more was sent than an attempt may send."""
    return bool(len(world.paid(0)) > 1 or world.violations())


def _end(worlds: Iterator[ClaimWorld]) -> Iterator[ClaimWorld]:
    for world in worlds:
        world.stop()
        yield world


@pytest.mark.parametrize(
    ("make", "kinds"),
    [(Submitter, {ViolationKind.PAID_TWICE}), (WithoutLateScan, {ViolationKind.FORGOTTEN})],
)
def test_beyond_the_envelope_the_late_scan_names_the_second_payment(make: Any, kinds: set[ViolationKind]) -> None:
    world = ClaimWorld(MemoryStore(), build_submitter=make)
    actor = world.start("one")
    actor.run_to("answer")
    world.schedule(world.posts[0], P.longest_post, P.list_lag + P.pause_allowance + 20.0)
    actor.resume(Fate.LOST)
    world.play(actor)
    world.advance(2 * P.absence_confirm_interval)
    world.run_to_end()
    assert {violation.kind for violation in world.violations(finished=True)} == kinds
