# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.ledger import EntryState, Ledger, LedgerUnavailableError
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.errors import ConflictError
from dev.testkit.ledger import FINGERPRINT, ME, MY_RETRY, NOW, OTHER, a_claim, a_post


def entry_in(store: Any) -> Any:
    return store.read(FINGERPRINT).entry


def test_the_outcome_of_an_earlier_request_does_not_touch_a_later_one(
    submit: Any, api: Any, submitter: Any, store: Any
) -> None:
    submit()
    old = api.turn("r1", "cancelled")
    submit(MY_RETRY)
    assert submitter.ledger.record_result(FINGERPRINT, old).request_id == "r2"
    submitter.ledger.record_archive(FINGERPRINT, "r1", "s3://b/k", "0" * 64)
    assert entry_in(store).state is EntryState.SUBMITTED


def test_recording_a_result_twice_changes_nothing(submit: Any, api: Any, submitter: Any, store: Any) -> None:
    submit()
    done = api.turn("r1", "success")
    first = submitter.ledger.record_result(FINGERPRINT, done)
    assert submitter.ledger.record_result(FINGERPRINT, done) == first == entry_in(store)
    assert submitter.ledger.record_result("unknown", done) is None


def test_an_update_is_applied_to_the_entry_that_won_the_race(store: Any) -> None:
    version = store.create(a_claim())
    replaced: list[str] = []

    def change(entry: Any) -> Any:
        if not replaced:
            replaced.append(store.replace(entries.record_intent(a_claim(), NOW), version))
        return entries.submitted(entry, "r1", NOW)

    entry = Ledger(store).update(FINGERPRINT, change)
    assert entry is not None
    assert (entry, entry.intent_at) == (entry_in(store), NOW)


def test_an_update_that_always_conflicts_is_given_up(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(a_claim())

    def conflict(entry: Any, version: Any) -> None:
        raise ConflictError("changed")

    monkeypatch.setattr(store, "replace", conflict)
    with pytest.raises(LedgerUnavailableError, match="20 times"):
        Ledger(store).record_late_acceptance(a_post(ME), "r1")


def test_a_late_acceptance_is_the_clips_while_nobody_else_may_have_paid(store: Any) -> None:
    store.create(a_claim(OTHER))
    ledger = Ledger(store, lambda: NOW)
    for _ in range(2):
        entry = ledger.record_late_acceptance(a_post(ME), "r1")
        assert entry is not None
        assert (entry.request_id, entry.duplicates) == ("r1", ())


def test_a_late_acceptance_beside_another_post_is_a_duplicate(store: Any) -> None:
    store.create(a_post(OTHER))
    entry = Ledger(store, lambda: NOW).record_late_acceptance(a_post(ME), "r1")
    assert entry is not None
    assert (entry.state, [past.request_id for past in entry.duplicates]) == (EntryState.CLAIMED, ["r1"])
