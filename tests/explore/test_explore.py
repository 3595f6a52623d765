# SPDX-License-Identifier: Apache-2.0
"""Every crash at every boundary: a clip is charged at most once, and one that is charged is never lost."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from airflow_provider_wan.sandbox.config import CancelMode
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore.explorer import Explorer
from dev.explore.guard import RealIoError, nothing_real
from dev.explore.histories import ACCEPTED, RESET_ACCEPTED, SCENARIOS, History, Sequel, play
from dev.explore.plan import BOUNDARIES, explore_one_fault, find_failure, played_at_random
from dev.explore.stage import Switch
from dev.explore.world import Kind, Strike


def serialize_with_prompt(trigger: Any) -> Any:
    path, arguments = serialize(trigger)
    return path, {**arguments, "model": "a cat"}


serialize = WanI2VTrigger.serialize


def test_no_schedule_with_one_fault_charges_twice_or_loses_a_clip(capsys: pytest.CaptureFixture[str]) -> None:
    explorer = Explorer()
    with nothing_real():
        explore_one_fault(explorer, (ACCEPTED, RESET_ACCEPTED))
    coverage = explorer.coverage
    with capsys.disabled():
        print(f"\n{coverage.format()}")
    assert set(coverage.crossed) == BOUNDARIES, "an I/O call is new, or gone: see BOUNDARIES"
    assert set(coverage.by_boundary) == BOUNDARIES, "no schedule strikes there"


def test_histories_at_random_hold_too() -> None:
    with nothing_real():
        assert len(list(islice(played_at_random(seed=1), 100))) == 100


@pytest.mark.parametrize("sequel", [Sequel.ZOMBIE, Sequel.SECOND_WORKER])
def test_the_one_window_that_is_left_is_the_post_itself_and_it_is_reported(sequel: Any) -> None:
    """
    A process that is stopped after it recorded its intent, for longer than others wait for it, and then
    continues, sends a second POST: the API has no idempotency key. The second request is cancelled; if
    the service ignores that, both are charged, and the ledger names both.
    """
    doubled = set()
    with nothing_real():
        for step in range(1, 40):
            history = History(ACCEPTED, sequel, switches=(Switch(step, 5000.0),), cancel=CancelMode.IGNORED)
            failure = find_failure(history)
            if failure is None:
                continue
            assert "charged 2 times" in failure
            assert '"duplicate"' in failure
            doubled.add(play(History()).first.trace[step - 1])
            assert find_failure(replace(history, cancel=CancelMode.WORKS)) is None
    assert doubled == {"api POST /requests"}


@pytest.mark.parametrize(
    ("scenario", "sequel", "first", "seed"),
    [
        # The ledger is away as it is to record a doubt: the next attempt settles it, and no person has to.
        ("accepted, no id", Sequel.SECOND_RUN, Strike(7, Kind.ERROR_BEFORE), 42),
        # The service lists as failed what it has refused itself, and the entry names it.
        ("500 around a 400", Sequel.LATE_RETRY, Strike(6, Kind.ERROR_AFTER), None),
    ],
)
def test_histories_that_were_once_taken_for_broken_hold(
    scenario: str, sequel: Sequel, first: Strike, seed: int | None
) -> None:
    named = next(each for each in SCENARIOS if each.name == scenario)
    with nothing_real():
        assert find_failure(History(named, sequel, (first,), seed=seed)) is None


def test_the_texts_of_a_history_that_people_read_are_searched_for_secrets() -> None:
    with nothing_real():
        texts = "\n".join(play(History(ACCEPTED, Sequel.RETRY, (Strike(7, Kind.ERROR_AFTER),))).world.texts)
        assert "is submitted, request" in texts  # a log
        assert '"request_id"' in texts  # an XCom
        with patch.object(WanI2VTrigger, "serialize", serialize_with_prompt):
            assert "prompt 1 in the logs and XCom" in str(find_failure(History()))


def test_an_io_call_past_the_boundaries_is_noticed(tmp_path: Path) -> None:
    for reach in (lambda: (tmp_path / "x").write_text("x"), lambda: time.sleep(0)):
        with nothing_real(), pytest.raises(RealIoError):
            reach()
