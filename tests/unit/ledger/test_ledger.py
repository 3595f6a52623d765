# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan import metrics
from airflow_provider_wan.ledger import EntryState, Ledger, LedgerUnavailableError
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import TaskReference
from airflow_provider_wan.ledger.errors import ConflictError
from airflow_provider_wan.ledger.ledger import record_transition
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


class TestArchive:
    """Where a clip is archived."""

    @pytest.fixture
    def ledger(self, store: Any) -> Ledger:
        store.create(entries.archived(entries.succeeded(entries.submitted(a_post(), "r1", NOW), NOW), "s3://b/a", "aa"))
        return Ledger(store, lambda: NOW)

    @pytest.mark.parametrize(
        ("uri", "sha256", "is_missing", "expected"),
        [
            ("s3://b/a", "aa", True, ("s3://b/a", "aa")),
            ("s3://b/b", "bb", True, ("s3://b/b", "bb")),
            ("s3://b/b", "bb", False, ("s3://b/a", "aa")),
            ("s3://b/a", "bb", False, ("s3://b/a", "bb")),
        ],
        ids=["again", "it is gone", "it is alive", "it was replaced at the same address"],
    )
    def test_an_address_is_changed_only_if_the_clip_is_no_longer_there(
        self, ledger: Ledger, store: Any, uri: str, sha256: str, is_missing: bool, expected: Any
    ) -> None:
        asked: list[Any] = []

        def check(*given: Any) -> bool:
            asked.append(given)
            return is_missing

        entry = ledger.record_archive(FINGERPRINT, "r1", uri, sha256, is_missing=check)

        assert entry == entry_in(store)
        assert (entry.state, entry.archive_uri, entry.archive_sha256) == (EntryState.ARCHIVED, *expected)
        assert asked in ([], [("s3://b/a", "r1", "aa")])

    def test_without_a_check_an_address_stays(self, ledger: Ledger, store: Any) -> None:
        ledger.record_archive(FINGERPRINT, "r1", "s3://b/b", "bb")
        assert entry_in(store).archive_uri == "s3://b/a"

    def test_the_clip_of_an_earlier_request_changes_nothing(self, ledger: Ledger, store: Any) -> None:
        ledger.record_archive(FINGERPRINT, "r0", "s3://b/b", "bb", is_missing=lambda *_: True)
        assert entry_in(store).archive_uri == "s3://b/a"

    def test_an_address_that_another_task_mends_meanwhile_is_checked_again(self, ledger: Ledger, store: Any) -> None:
        asked: list[str | None] = []

        def check(uri: str | None, *_: Any) -> bool:
            asked.append(uri)
            if len(asked) == 1:
                stored = store.read(FINGERPRINT)
                store.replace(entries.relocated(stored.entry, "s3://b/c", "cc"), stored.version)
            return uri == "s3://b/a"

        ledger.record_archive(FINGERPRINT, "r1", "s3://b/b", "bb", is_missing=check)

        assert asked == ["s3://b/a", "s3://b/c"]
        assert entry_in(store).archive_uri == "s3://b/c"


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


def test_a_clip_whose_end_was_not_noticed_is_recorded_as_made_when_it_is_archived(submit: Any, store: Any) -> None:
    submit()
    entry = Ledger(store, lambda: NOW + 9).record_archive(FINGERPRINT, "r1", "s3://b/k.mp4", "f" * 64)
    assert (entry.state, entry.cost, entry.finished_at) == (EntryState.ARCHIVED, 0.5, NOW + 9)


def test_a_task_that_was_given_a_clip_is_recorded_once_and_its_payer_never(store: Any) -> None:
    store.create(entries.submitted(a_post(ME), "r1", NOW))
    ledger = Ledger(store, lambda: NOW + 1)
    for owner in (ME, MY_RETRY, OTHER, OTHER):
        ledger.record_reuse(entry_in(store), owner, TaskReference("other", "run"))
    assert [(each.task, each.at, each.dag_id, each.run_id) for each in entry_in(store).reuses] == [
        (OTHER.task, NOW + 1, "other", "run")
    ]
    stale = entries.submitted(a_post(ME), "r1", NOW)
    ledger.record_reuse(stale, OTHER, TaskReference("other", "run"))
    assert entry_in(store).reuse_count == 1


def test_a_reuse_that_can_not_be_recorded_stops_nothing(
    store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = entries.submitted(a_post(ME), "r1", NOW)
    store.create(entry)

    def away(fingerprint: str) -> None:
        raise LedgerUnavailableError("S3 is away")

    monkeypatch.setattr(store, "read", away)
    Ledger(store).record_reuse(entry, OTHER, TaskReference())
    assert "is reused, and the ledger can't record that: S3 is away" in caplog.text


def test_the_time_from_the_end_of_a_request_until_it_is_recorded_is_measured_once(
    submit: Any, api: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[str, float]] = []
    monkeypatch.setattr(metrics, "record_seconds", lambda name, seconds: measured.append((name, seconds)))
    submit()
    ended = replace(api.turn("r1", "success"), updated_at=NOW + 10)
    now = iter((NOW + 12.5, NOW + 20.0))
    for _ in range(2):
        Ledger(store, lambda: next(now)).record_result(FINGERPRINT, ended)
    assert measured == [("wan.lag", 2.5)]


def test_each_duplicate_charge_is_counted_and_logged_once(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    store.create(entries.submitted(a_post(ME), "r1", NOW))
    ledger = Ledger(store, lambda: NOW)
    for request_ids in (["r2"], ["r2", "r3"], ["r1"]):
        ledger.record_duplicates(FINGERPRINT, request_ids, is_over=True)
    messages = [record.getMessage() for record in caplog.records if "paid for twice" in record.getMessage()]
    assert [message.partition("request ")[2].split()[0] for message in messages] == ["r2", "r3"]
    assert ledger.record_duplicates("unknown", ["r2"], is_over=True) is None


def test_each_transition_is_counted_once_with_what_it_costs_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(metrics, "increment", lambda *arguments: counted.append(arguments))
    caplog.set_level("INFO")
    claimed, waiting = a_post(), entries.submitted(a_post(), "r1", NOW)
    charged_twice = entries.record_duplicate(waiting, "r9", 9, NOW)
    succeeded = entries.succeeded(charged_twice, NOW)
    for before, after in [
        (None, claimed),
        (claimed, claimed),
        (claimed, waiting),
        (waiting, charged_twice),
        (charged_twice, succeeded),
        (succeeded, succeeded),
    ]:
        record_transition(before, after)

    assert counted == [
        ("wan.clips.claimed",),
        ("wan.clips.submitted",),
        ("wan.clips.duplicate",),
        ("wan.clips.succeeded",),
        ("wan.cost_cents", 50),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"Clip {FINGERPRINT} is claimed",
        f"Clip {FINGERPRINT} is submitted, request r1",
        (
            f"Clip {FINGERPRINT} is paid for twice: request r9 was accepted beside r1. It is in the entry's history as "
            "a duplicate charge."
        ),
        f"Clip {FINGERPRINT} is succeeded, request r1",
    ]
