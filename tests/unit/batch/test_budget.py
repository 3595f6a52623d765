# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.batch.budget import Budget, may_be_paid
from airflow_provider_wan.ledger.entry import EntryState, record_duplicate
from dev.testkit.ledger import ME, NOW, OTHER, a_claim, a_post


def test_a_clip_counts_once_however_often_it_is_counted() -> None:
    budget = Budget(2.0)
    budget.count("a", 0.5)
    budget.count("a", 0.5)

    assert (budget.spent, budget.remaining_for("b")) == (0.5, 1.5)


def test_what_is_counted_for_a_clip_is_not_in_its_own_way() -> None:
    budget = Budget(1.0)
    budget.count("a", 0.5)
    budget.count("b", 0.5)

    assert (budget.remaining_for("a"), budget.remaining_for("c")) == (0.5, 0.0)


def test_what_the_api_does_not_charge_is_given_back_and_what_is_made_stays_spent() -> None:
    budget = Budget(2.0)
    budget.count("a", 0.5)
    budget.count("b", 0.5)
    budget.refund("a")
    budget.confirm("b")
    budget.refund("b")

    assert budget.spent == 0.5


def test_without_a_limit_nothing_is_too_much() -> None:
    assert Budget(None).remaining_for("a") is None


def test_less_than_nothing_is_never_left() -> None:
    budget = Budget(1.0, confirmed=1.5)

    assert budget.remaining_for("a") == 0.0


@pytest.mark.parametrize("state", list(EntryState))
def test_all_but_what_is_proved_free_counts(state: Any) -> None:
    entry = replace(a_post(ME), state=state)

    assert may_be_paid(entry) is (state not in (EntryState.FAILED, EntryState.CANCELLED))


def test_a_claim_under_which_nothing_was_sent_is_free() -> None:
    assert not may_be_paid(a_claim(ME))


def test_it_is_counted_anew_from_the_ledger_of_this_task_alone() -> None:
    entries = [
        replace(a_post(ME), fingerprint="a", state=EntryState.SUBMITTED),
        replace(a_post(ME), fingerprint="b", state=EntryState.FAILED),
        replace(a_post(OTHER), fingerprint="c", state=EntryState.ARCHIVED),
        record_duplicate(replace(a_post(ME), fingerprint="d", state=EntryState.ARCHIVED), "r9", 7, NOW),
    ]
    budget = Budget(None, confirmed=99.0)
    budget.recount(entries, ME.task)

    assert budget.spent == 1.5
