# SPDX-License-Identifier: Apache-2.0
"""The histories to explore: a fixed set, and random ones without end."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any, cast

from airflow_provider_wan.sandbox.config import CancelMode
from dev.explore.explorer import Explorer
from dev.explore.histories import (
    ACCEPTED,
    BUSY,
    CANCELLED,
    FAILS_LATE,
    RESET_ACCEPTED,
    RESET_LATE,
    RESET_REFUSED,
    SCENARIOS,
    History,
    Played,
    Scenario,
    Sequel,
    play,
)
from dev.explore.stage import Switch
from dev.explore.task import Broken
from dev.explore.world import Kind, Strike

#: Every I/O call that the operator, the trigger and all below them make. A new one is added here, once
#: the exploration covers it.
BOUNDARIES = frozenset(
    {
        "ledger read",
        "ledger probe",
        "ledger create",
        "ledger list",
        "ledger replace (claimed)",
        "ledger replace (submitted)",
        "ledger replace (in_doubt)",
        "ledger replace (succeeded)",
        "ledger replace (failed)",
        "ledger replace (cancelled)",
        "api connect",
        "api POST /requests",
        "api GET /requests",
        "api GET /requests/{id}",
        "api DELETE /requests/{id}",
        "ask Airflow for the task's state",
        "push an XCom",
        "defer",
        "fire the event",
        "return the result",
    }
)

KEY_SCENARIOS = (ACCEPTED, RESET_ACCEPTED, RESET_LATE, RESET_REFUSED, BUSY, FAILS_LATE, CANCELLED)
DEATH = Kind.DIE_AFTER


def explore_one_fault(explorer: Explorer, scenarios: Collection[Scenario] = SCENARIOS) -> None:
    """
    Explore every scenario with one fault at every boundary.

    :param scenarios: those in which it is a fault of any kind, in any sequel; in the others it is a death.
    """
    for scenario in SCENARIOS:
        is_chosen = scenario in scenarios
        explorer.one_fault(History(scenario), Kind if is_chosen else (DEATH,))
        if is_chosen:
            explorer.one_fault(History(scenario, deferrable=False), (DEATH, Kind.TERM_BEFORE))
            explorer.one_fault(History(scenario, Sequel.SECOND_RUN), (DEATH,))
    for scenario in (each for each in KEY_SCENARIOS if each in scenarios):
        explorer.one_fault(History(scenario, Sequel.LATE_RETRY), (DEATH,))
        explorer.one_fault(History(scenario, seed=42), (DEATH, Kind.ERROR_AFTER))
        explorer.one_fault(History(scenario, Sequel.CLEAR), Kind)
        explorer.fault_in_kill(History(scenario, Sequel.CLEAR), (DEATH, Kind.ERROR_BEFORE, Kind.ERROR_AFTER))
        explorer.back_only(History(scenario, Sequel.CLEAR_AT_ONCE))
        explorer.one_fault(History(scenario, Sequel.ZOMBIE, cancel=CancelMode.IGNORED), (Kind.SLOW,))
        explorer.one_fault(History(scenario, Sequel.SECOND_WORKER, cancel=CancelMode.IGNORED), (Kind.SLOW,))


def explore_two_faults(explorer: Explorer, scenarios: Collection[Scenario] = KEY_SCENARIOS) -> None:
    """
    Explore the scenarios that differ most with two faults or two processes.

    :param scenarios: those of :data:`KEY_SCENARIOS` that are explored.
    """

    def chosen(*given: Scenario) -> list[Scenario]:
        return [each for each in given if each in scenarios]

    for scenario in chosen(*KEY_SCENARIOS):
        explorer.two_faults(History(scenario), DEATH, DEATH)
    for scenario in chosen(ACCEPTED, RESET_ACCEPTED, RESET_LATE, RESET_REFUSED, BUSY):
        explorer.two_faults(History(scenario, Sequel.SECOND_RUN), DEATH, DEATH)
    for scenario in chosen(ACCEPTED, RESET_ACCEPTED, RESET_REFUSED):
        explorer.two_faults(History(scenario), Kind.ERROR_AFTER, DEATH)
        explorer.two_in_one_try(History(scenario), Kind.ERROR_AFTER, DEATH)
        explorer.two_at_once(History(scenario, Sequel.SECOND_WORKER))
        explorer.two_at_once(History(scenario, Sequel.ZOMBIE))
    for scenario in chosen(ACCEPTED):
        explorer.fault_at_once(History(scenario, Sequel.SECOND_WORKER), DEATH)
        explorer.fault_at_once(History(scenario, Sequel.ZOMBIE), DEATH)


def at_random(seed: int) -> Iterator[History]:
    """Yield histories with up to four faults, without end; the same for the same seed."""
    rng = random.Random(seed)

    def some(most: int, reach: int) -> tuple[Strike, ...]:
        count = rng.choice(range(most + 1))
        return tuple(Strike(rng.randint(1, reach), rng.choice(list(Kind))) for _ in range(count))

    while True:
        sequel = rng.choice(list(Sequel))
        history = History(
            scenario=rng.choice(SCENARIOS),
            sequel=sequel,
            first=some(2, 26),
            second=some(2, 26),
            deferrable=rng.random() < 0.7,
            seed=rng.choice([None, None, 42]),
        )
        if sequel is Sequel.CLEAR:
            history = replace(history, killer=some(1, 4))
        elif sequel in (Sequel.SECOND_WORKER, Sequel.ZOMBIE):
            history = replace(history, switches=_switches(rng), back=_switches(rng))
        elif sequel is Sequel.CLEAR_AT_ONCE:
            history = replace(history, back=_switches(rng))
        yield history


def _switches(rng: random.Random) -> tuple[Switch, ...]:
    return tuple(Switch(rng.randint(1, 26)) for _ in range(rng.randint(0, 3)))


def shortest(history: History) -> tuple[History, str]:
    """Shrink a failing history to what it needs to fail."""
    failure = find_failure(history) or "it did not fail again"
    going = True
    while going:
        going = False
        for name in ("first", "second", "killer", "switches", "back"):
            for at in getattr(history, name):
                smaller = replace(history, **cast(Any, {name: tuple(x for x in getattr(history, name) if x is not at)}))
                if smaller_failure := find_failure(smaller):
                    history, failure, going = smaller, smaller_failure, True
                    break
    return history, failure


def find_failure(history: History) -> str | None:
    """Return how a history broke a promise, or None."""
    try:
        play(history)
    except Broken as broken:
        return str(broken)
    return None


def played_at_random(seed: int) -> Iterator[Played]:
    """Play :func:`at_random`; a failure is raised with its shortest history and the seed."""
    for number, history in enumerate(at_random(seed), 1):
        try:
            yield play(history)
        except Broken:
            small, failure = shortest(history)
            raise Broken(f"seed {seed}, history {number}; the shortest that fails:\n{small}\n{failure}") from None
