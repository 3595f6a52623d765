# SPDX-License-Identifier: Apache-2.0
"""A budget that several processes share."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanBudgetError
from airflow_provider_wan.ledger import Budget, LedgerCorruptError, LedgerUnavailableError
from airflow_provider_wan.ledger.budget import BudgetState
from airflow_provider_wan.ledger.entry import EntryState, record_duplicate
from airflow_provider_wan.ledger.errors import ConflictError
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.testkit.ledger import ME, MY_RETRY, NOW, a_claim, a_post, spend_budget

CLAIM = a_claim(ME)


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "ledger")


def clip(name: str, entry: Any = CLAIM, **changes: Any) -> Any:
    return replace(entry, fingerprint=name, **changes)


def test_a_clip_counts_once_however_often_it_is_reserved(files: FileStore) -> None:
    budget = Budget(files, "task", 2.0)
    budget.reserve(clip("a"))
    budget.reserve(clip("a"))
    assert (budget.spent, budget.remaining_for("b"), budget.remaining_for("a")) == (0.5, 1.5, 2.0)


def test_what_does_not_fit_is_refused_and_not_reserved(files: FileStore) -> None:
    budget = Budget(files, "task", 1.0)
    budget.reserve(clip("a"))
    budget.reserve(clip("b"))
    with pytest.raises(WanBudgetError, match=r"max_cost=\$1.00: \$1.00 of it is spent or reserved.*Nothing was paid"):
        budget.reserve(clip("c"))
    assert (budget.spent, budget.remaining_for("c")) == (1.0, 0.0)


def test_without_a_limit_nothing_is_too_much_and_all_is_counted(files: FileStore) -> None:
    budget = Budget(files, "task")
    for name in "abc":
        budget.reserve(clip(name))
    assert (budget.remaining_for("d"), budget.spent) == (None, 1.5)


def test_a_clip_without_a_price_is_reserved_at_no_cost(files: FileStore) -> None:
    budget = Budget(files, "task")
    budget.reserve(clip("a", cost_estimate=None))
    assert budget.spent == 0.0


def test_another_process_sees_what_was_reserved_and_shares_the_limit(files: FileStore) -> None:
    first, second = Budget(files, "task", 1.0), Budget(files, "task", 1.0)
    second.load()
    first.reserve(clip("a"))
    second.reserve(clip("b"))
    for budget in (first, second):
        with pytest.raises(WanBudgetError):
            budget.reserve(clip("c"))
    assert Budget(files, "another task", 1.0).remaining_for("c") == 1.0


def test_a_zombie_and_its_retry_reserve_one_clip_once(files: FileStore) -> None:
    zombie, retry = Budget(files, "task", 0.5), Budget(files, "task", 0.5)
    zombie.reserve(clip("a"))
    retry.reserve(clip("a", a_claim(MY_RETRY)))
    assert retry.spent == 0.5


def test_what_was_released_by_another_process_is_free_again(files: FileStore) -> None:
    first, second = Budget(files, "task", 0.5), Budget(files, "task", 0.5)
    first.reserve(clip("a"))
    second.load()
    first.release(clip("a", state=EntryState.FAILED))
    first.flush()
    second.reserve(clip("b"))
    assert second.spent == 0.5


def test_a_reservation_that_another_process_made_anew_is_not_released(files: FileStore) -> None:
    zombie, retry = Budget(files, "task", 0.5), Budget(files, "task", 0.5)
    zombie.reserve(clip("a"))
    zombie.release(clip("a", state=EntryState.FAILED))
    retry.reserve(clip("a", a_claim(MY_RETRY)))
    zombie.flush()
    retry.load()
    assert (zombie.spent, retry.spent) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("entry", "owner", "is_released"),
    [
        (replace(CLAIM, state=EntryState.FAILED), None, True),
        (replace(CLAIM, state=EntryState.CANCELLED), None, True),
        (CLAIM, str(ME), True),
        (CLAIM, str(MY_RETRY), False),
        (CLAIM, None, False),
        (a_post(ME), str(ME), False),
        (replace(a_post(ME), state=EntryState.IN_DOUBT), str(ME), False),
        (replace(a_post(ME), state=EntryState.ARCHIVED), str(ME), False),
    ],
)
def test_only_what_the_entry_proves_free_is_released(
    files: FileStore, entry: Any, owner: str | None, is_released: bool
) -> None:
    budget = Budget(files, "task", 0.5)
    budget.reserve(CLAIM)
    budget.release(entry, owner=owner)
    assert budget.spent == (0.0 if is_released else 0.5)


def test_the_reservation_of_a_finished_clip_is_confirmed_once_and_never_released(files: FileStore) -> None:
    budget = Budget(files, "task", 2.0)
    budget.reserve(clip("a"))
    for _ in range(2):
        budget.commit("a")
        budget.flush()
    budget.release(clip("a", state=EntryState.FAILED))
    budget.commit("b")
    assert budget.spent == 0.5
    assert Budget(files, "task").spent == 0.0


def test_confirmed_clips_leave_no_trace_but_their_sum(files: FileStore, tmp_path: Path) -> None:
    budget = Budget(files, "task", 1000.0)
    for number in range(30):
        budget.reserve(clip(f"c{number}"))
        budget.commit(f"c{number}")
    budget.flush()
    (path,) = (tmp_path / "ledger" / "budgets").iterdir()
    assert (json.loads(path.read_text())["committed"], path.stat().st_size < 300) == (15.0, True)


def test_the_next_try_settles_and_releases_what_a_dead_process_left(files: FileStore) -> None:
    dead = Budget(files, "task", 5.0)
    post = a_post(ME)
    left = {
        "made": replace(post, state=EntryState.ARCHIVED, request_id="r1"),
        "failed": replace(post, state=EntryState.FAILED),
        "running": replace(post, state=EntryState.SUBMITTED, request_id="r2"),
        "doubtful": post,
        "claimed": CLAIM,
    }
    for name, entry in left.items():
        dead.reserve(clip(name))
        files.create(replace(entry, fingerprint=name))
    dead.reserve(clip("gone"))

    budget = Budget(files, "task", 5.0)
    budget.recover()
    assert budget.spent == 2.5  # all but "failed": a clip counts unless it is proven that it was not charged
    budget.flush()
    budget.load()
    assert budget.spent == 2.5


def test_an_entry_that_is_damaged_keeps_only_its_own_cost_reserved(files: FileStore, tmp_path: Path) -> None:
    dead = Budget(files, "task", 5.0)
    for name in ("damaged", "newer", "failed"):
        dead.reserve(clip(name))
    (tmp_path / "ledger" / "damaged.json").write_text("{")
    (tmp_path / "ledger" / "newer.json").write_text('{"version": 99}')
    files.create(clip("failed", a_post(ME), state=EntryState.FAILED))
    budget = Budget(files, "task", 5.0)
    budget.recover()
    assert budget.spent == 1.0


def test_the_next_try_commits_made_clips_whatever_else_is_reserved_before_them(files: FileStore) -> None:
    dead = Budget(files, "task", 5.0)
    charged_twice = record_duplicate(clip("a", a_post(ME), state=EntryState.ARCHIVED, request_id="r1"), "r9", 7, NOW)
    dead.count_duplicates(charged_twice)
    for name in ("gone", "running", "a"):
        dead.reserve(clip(name))
    files.create(charged_twice)
    files.create(clip("running", a_post(ME), state=EntryState.SUBMITTED, request_id="r2"))

    budget = Budget(files, "task", 5.0)
    budget.recover()
    budget.flush()
    stored = BudgetState.from_json(files.read_document(budget._object).content, "task")
    assert (stored.committed, sorted(stored.reserved)) == (0.5, ["duplicate r9", "gone", "running"])
    assert stored.spent == 2.0
    assert sorted(budget.open_clips) == ["gone", "running"]


def test_a_reservation_that_was_made_anew_since_it_was_read_is_not_released(files: FileStore) -> None:
    Budget(files, "task").reserve(clip("a"))
    late = Budget(files, "task")
    late.load()
    Budget(files, "task").reserve(clip("a", a_claim(MY_RETRY)))
    late.release(clip("a", state=EntryState.FAILED))
    late.flush()
    late.load()
    assert late.spent == 0.5


def test_a_duplicate_charge_without_a_price_counts_nothing(files: FileStore) -> None:
    budget = Budget(files, "task", 5.0)
    unpriced = record_duplicate(clip("a", a_post(ME), cost_estimate=None), "r9", 7, NOW)
    budget.count_duplicates(unpriced)
    assert budget.spent == 0.0


def test_a_duplicate_charge_is_counted_once_and_kept(files: FileStore) -> None:
    budget = Budget(files, "task", 5.0)
    budget.reserve(clip("a"))
    charged_twice = record_duplicate(clip("a", a_post(ME)), "r9", 7, NOW)
    for _ in range(2):
        budget.count_duplicates(charged_twice)
    budget.commit("a")
    budget.flush()
    again = Budget(files, "task", 5.0)
    again.recover()
    again.count_duplicates(charged_twice)
    assert again.spent == 1.0


def test_the_next_try_counts_duplicate_charges_that_were_found_meanwhile(files: FileStore) -> None:
    Budget(files, "task").reserve(clip("a"))
    files.create(record_duplicate(clip("a", a_post(ME), state=EntryState.ARCHIVED, request_id="r1"), "r9", 7, NOW))
    again = Budget(files, "task")
    again.recover()
    assert again.spent == 1.0


class FailingStore(FileStore):
    """Fails before or after a write of a budget takes effect."""

    def __init__(self, folder: Path, failures: list[str]) -> None:
        super().__init__(folder)
        self.failures = failures

    def write_document(self, name: str, content: bytes, version: str | None) -> str:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "conflict":
            raise ConflictError("changed")
        if failure == "before":
            raise LedgerUnavailableError("away")
        new = super().write_document(name, content, version)
        if failure == "after":
            raise LedgerUnavailableError("away")
        return new


@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_write_that_may_have_taken_effect_is_an_error_and_does_not_count_twice(tmp_path: Path, failure: str) -> None:
    budget = Budget(FailingStore(tmp_path, ["", failure]), "task", 1.0)
    budget.reserve(clip("a"))
    budget.commit("a")
    with pytest.raises(LedgerUnavailableError):
        budget.reserve(clip("b"))
    budget.reserve(clip("b"))
    assert budget.spent == 1.0
    budget.load()
    assert budget.spent == 1.0


def test_a_budget_that_changes_all_the_time_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    waits: list[float] = []
    budget = Budget(FailingStore(tmp_path, ["conflict"] * 1000), "task", 1.0, sleep=waits.append)
    with pytest.raises(LedgerUnavailableError, match="changed 30 times"):
        budget.reserve(clip("a"))
    assert (budget.spent, sum(waits) < 10.0) == (0.0, True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2, "committed": 0, "reserved": {}}',
        b'{"version": 1, "committed": -1, "reserved": {}}',
        b'{"version": 1, "committed": true, "reserved": {}}',
        b'{"version": 1, "committed": NaN, "reserved": {}}',
        b'{"version": 1, "committed": Infinity, "reserved": {}}',
        b'{"version": 1, "committed": 0, "reserved": {"a": 1}}',
        b'{"version": 1, "committed": 0, "reserved": []}',
    ],
)
def test_a_damaged_budget_stops_payments(files: FileStore, content: bytes) -> None:
    budget = Budget(files, "task", 1.0)
    files.write_document(budget._object, content, None)
    with pytest.raises(LedgerCorruptError, match=r"budget task.*Nothing is paid"):
        budget.reserve(CLAIM)


def spend(folder: str, name: str, numbers: list[int]) -> int:
    return spend_budget(Budget(FileStore(folder), "task", 5.0), name, numbers)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_many_at_once_never_pass_the_limit_and_use_all_of_it(tmp_path: Path, kind: str) -> None:
    work = [(str(tmp_path), name, list(range(12))) for name in "pqrs"]
    if kind == "threads":
        paid: list[int] = []
        threads = [threading.Thread(target=lambda each=each: paid.append(spend(*each))) for each in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            paid = pool.starmap(spend, work)
    budget = Budget(FileStore(tmp_path), "task", 5.0)
    budget.load()
    assert sum(paid) == 10
    assert budget.spent == 5.0
