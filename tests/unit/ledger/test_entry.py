# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import string
from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_provider_wan.ledger import EntryState, LedgerCorruptError, LedgerEntry, LedgerVersionError, Owner
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import Outcome, PastEnd, PastRequest, ReuseRecord, TaskReference
from airflow_provider_wan.ledger.errors import IllegalTransitionError
from dev.testkit.ledger import ACCOUNT, FINGERPRINT, ME, MY_RETRY, NOW, OTHER, a_claim, a_post


def _random_entry(rng: random.Random) -> LedgerEntry:
    def text() -> str:
        return "".join(rng.choice(string.printable + "äöü漢字\u2028") for _ in range(rng.randint(1, 30)))

    def maybe(value: Any) -> Any:
        return rng.choice([None, value])

    state = rng.choice(list(EntryState))
    return replace(
        a_claim(),
        state=state,
        scope=text(),
        owner=text(),
        seed=rng.randrange(2**31),
        seed_drawn=rng.random() < 0.5,
        claimed_at=rng.uniform(0, 2e9),
        intent_at=maybe(rng.uniform(0, 2e9)),
        request_id=text(),
        submitted_at=maybe(rng.randrange(2_000_000_000)),
        outcome=maybe(Outcome(maybe(text()), rng.random() < 0.5, rng.uniform(0, 2e9))),
        history=tuple(
            PastRequest(
                maybe(text()), rng.randrange(2**31), rng.choice(list(PastEnd)), rng.uniform(0, 2e9), maybe(text())
            )
            for _ in range(rng.randint(0, 3))
        ),
        cost_estimate=maybe(rng.uniform(0, 9)),
        archive_uri=maybe(text()),
    )


def test_an_entry_survives_json_whatever_it_holds() -> None:
    rng = random.Random(1)
    for _ in range(500):
        entry = _random_entry(rng)
        assert LedgerEntry.from_json(entry.to_json()) == entry


def test_an_entry_truncated_anywhere_is_refused() -> None:
    text = a_post().to_json()
    for length in range(len(text)):
        with pytest.raises(LedgerCorruptError):
            LedgerEntry.from_json(text[:length])


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"version": 0}', '{"version": true}', "\x00", "[" * 100_000])
def test_anything_but_an_entry_is_refused(text: Any) -> None:
    with pytest.raises(LedgerCorruptError, match="Nothing is paid"):
        LedgerEntry.from_json(text)


def test_an_entry_of_a_newer_version_is_refused_with_the_remedy() -> None:
    data = {**json.loads(a_claim().to_json()), "version": entries.VERSION + 1, "new_field": 1}
    with pytest.raises(LedgerVersionError, match="Upgrade"):
        LedgerEntry.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "lost"},
        {"seed": "7"},
        {"seed": True},
        {"claimed_at": None},
        {"seed_drawn": 1},
        {"outcome": []},
        {"outcome": {"error": None}},
        {"history": {}},
        {"history": [1]},
        {"history": [{"request_id": None, "seed": 1, "ended": "lost", "ended_at": 1.0, "error": None}]},
        {"claimed_at": float("nan")},
        {"state": "submitted", "request_id": None},
    ],
)
def test_an_entry_with_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    data = {**json.loads(a_claim().to_json()), **change}
    with pytest.raises(LedgerCorruptError):
        LedgerEntry.from_json(json.dumps(data))


def test_an_entry_holds_neither_prompt_nor_query_string() -> None:
    entry = entries.in_doubt(a_post(), "no answer from https://x.example/a.png?X-Amz-Signature=secret&b=1 at all", NOW)
    text = entries.submitted(entry, "r1", NOW).to_json() + entry.to_json()
    assert "secret" not in text
    assert "a cat" not in text
    assert "https://x.example/a.png at all" in text


def test_a_clip_proceeds_to_the_archive() -> None:
    entry = entries.submitted(a_post(), "r1", NOW + 2)
    assert (entry.state, entry.request_id, entry.attempts) == (EntryState.SUBMITTED, "r1", 1)
    entry = entries.succeeded(entry, NOW + 60)
    assert entry.cost == 0.5
    entry = entries.archived(entry, "s3://b/c.mp4", "f" * 64)
    assert (entry.state, entry.archive_uri) == (EntryState.ARCHIVED, "s3://b/c.mp4")


def test_unknown_fields_are_ignored() -> None:
    data = {**json.loads(a_claim().to_json()), "added_later": 1}
    assert LedgerEntry.from_json(json.dumps(data)) == a_claim()


@pytest.mark.parametrize("name", [field.name for field in fields(LedgerEntry)])
def test_an_entry_that_lacks_a_field_is_refused(name: Any) -> None:
    data = json.loads(a_claim().to_json())
    del data[name]
    with pytest.raises(LedgerCorruptError, match=name):
        LedgerEntry.from_json(json.dumps(data))


def test_an_entry_of_an_older_version_is_refused_with_the_remedy() -> None:
    data = {**json.loads(a_claim().to_json()), "version": 1, "posting_at": 1.0}
    del data["intent_at"]
    with pytest.raises(LedgerVersionError, match=r"older.*ledger_uri"):
        LedgerEntry.from_json(json.dumps(data))


def test_duplicate_charges_are_recorded_once() -> None:
    entry = entries.submitted(a_post(), "r1", NOW)
    twice = entries.record_duplicate(entries.record_duplicate(entry, "r2", 7, NOW), "r2", 7, NOW)
    assert [past.request_id for past in twice.duplicates] == ["r2"]
    assert entries.record_duplicate(entry, "r1", 7, NOW) == entry


def test_a_failed_clip_costs_nothing_and_stays_in_the_history_of_the_next_claim() -> None:
    failed = entries.failed(entries.submitted(a_post(), "r1", NOW), "internal error", False, NOW + 9)
    assert failed.cost == 0
    again = entries.reclaim(failed, a_claim(OTHER, seed=8, now=NOW + 10))
    assert (again.owner, again.seed, again.request_id, again.intent_at) == (str(OTHER), 8, None, None)
    assert again.history == (PastRequest("r1", 7, PastEnd.FAILED, NOW + 10, "internal error", NOW, 0.0),)
    assert again.request_ids == {"r1"}


def test_a_long_history_forgets_those_without_a_request_id_first() -> None:
    entry = entries.failed(entries.submitted(a_post(), "r1", NOW), "x", False, NOW)
    for n in range(2 * entries.MAX_HISTORY):
        entry = entries.rejected(entries.reclaim(entry, a_claim(now=NOW + n)), "HTTP 402", NOW + n)
    assert len(entry.history) == entries.MAX_HISTORY
    assert "r1" in entry.request_ids


_ALLOWED = {
    "record_intent": {"claimed"},
    "renew": {"claimed"},
    "clear_intent": {"claimed"},
    "in_doubt": {"claimed"},
    "rejected": {"claimed", "in_doubt"},
    "submitted": {"claimed", "in_doubt"},
    "succeeded": {"submitted"},
    "failed": {"submitted"},
    "cancelled": {"submitted"},
    "archived": {"succeeded"},
    "reclaim": {"failed", "cancelled", "in_doubt", "claimed"},
}
_TRANSITIONS = {
    "record_intent": lambda e: entries.record_intent(e, NOW),
    "renew": lambda e: entries.renew(e, NOW),
    "clear_intent": lambda e: entries.clear_intent(e, NOW),
    "in_doubt": lambda e: entries.in_doubt(e, "x", NOW),
    "rejected": lambda e: entries.rejected(e, "x", NOW),
    "submitted": lambda e: entries.submitted(e, "r", NOW),
    "succeeded": lambda e: entries.succeeded(e, NOW),
    "failed": lambda e: entries.failed(e, "x", False, NOW),
    "cancelled": lambda e: entries.cancelled(e, NOW),
    "archived": lambda e: entries.archived(e, "s3://b/k", "0" * 64),
    "reclaim": lambda e: entries.reclaim(e, a_claim()),
}


@pytest.mark.parametrize("transition", _TRANSITIONS)
@pytest.mark.parametrize("state", list(EntryState))
def test_a_transition_is_allowed_only_from_its_states(transition: Any, state: Any) -> None:
    entry = replace(a_claim(), state=state, request_id="r0")
    if state in _ALLOWED[transition]:
        _TRANSITIONS[transition](entry)
    else:
        with pytest.raises(IllegalTransitionError, match=transition):
            _TRANSITIONS[transition](entry)


def test_the_task_of_an_owner_is_parsed_whatever_its_name() -> None:
    owner = Owner("dag/manual__2026-01-01T00:00:00#1/task/3", 2, "abc")
    assert Owner.parse_task(str(owner)) == owner.task
    assert Owner.parse_task(str(ME)) != Owner.parse_task(str(OTHER))


def test_an_entry_is_utf8_and_json_whatever_text_came_from_outside() -> None:
    reference = TaskReference(
        "dag", "run\ud83d", "task", 3, "s3://user:secret@bucket/cat\x00.png?X-Amz-Signature=secret"
    )
    entry = a_post(Owner("dag/run\ud83d/clip/-1", 1, "me"), reference=reference)
    entry = entries.in_doubt(entry, "half an emoji \ud83d and NUL \x00", NOW)
    text = entry.to_json()
    assert LedgerEntry.from_json(text.encode()) == entry
    assert "secret" not in text
    assert entry.source_uri == "s3://bucket/cat\ufffd.png"


@pytest.mark.parametrize("time", [-1.0, 1e11, 1e18])
def test_an_entry_with_a_time_that_no_date_can_show_is_refused(time: float) -> None:
    past = entries.PastRequest("r0", 1, entries.PastEnd.FAILED, time)
    reuse = entries.ReuseRecord("task", time)
    for change in ({"claimed_at": time}, {"submitted_at": time}, {"history": (past,)}, {"reuses": (reuse,)}):
        with pytest.raises(LedgerCorruptError, match="an impossible time"):
            LedgerEntry.from_json(replace(a_claim(), **change).to_json())


def test_an_entry_with_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(a_claim(), cost=float("inf")).to_json()


def test_posts_that_may_have_been_accepted_are_counted_through_claims() -> None:
    entry = a_post()
    assert (entry.posts, entry.first_intent_at) == (1, NOW)
    refused = entries.clear_intent(entry, NOW + 1)
    assert (refused.posts, refused.first_intent_at) == (0, None)
    again = entries.record_intent(entries.record_intent(refused, NOW + 2), NOW + 3)
    assert (again.posts, again.first_intent_at) == (1, NOW + 2)
    doubtful = entries.in_doubt(again, "no response", NOW + 4)
    repeated = entries.record_intent(entries.reclaim(doubtful, a_claim()), NOW + 500)
    assert (repeated.posts, repeated.first_intent_at) == (2, NOW + 2)
    assert repeated.repeats_after_absence == ("dag/run/clip/-1#1",)
    assert repeated.duplicate_scan_due


def test_a_request_that_is_found_after_a_doubt_owes_one_more_scan() -> None:
    assert not entries.submitted(a_post(), "r1", NOW).duplicate_scan_due
    assert entries.submitted(a_post(), "r1", NOW, found=True).duplicate_scan_due
    found = entries.submitted(entries.in_doubt(a_post(), "no response", NOW), "r1", NOW)
    assert found.duplicate_scan_due
    assert not entries.duplicates_scanned(found).duplicate_scan_due


def test_only_an_absence_that_the_list_proved_makes_the_next_post_a_repeat() -> None:
    failed = entries.failed(entries.submitted(a_post(), "r1", NOW), "internal error", False, NOW)
    assert not entries.record_intent(entries.reclaim(failed, a_claim(MY_RETRY)), NOW).repeats_after_absence
    absent = entries.reclaim(entries.in_doubt(a_post(), "reset", NOW), a_claim(MY_RETRY))
    repeated = entries.record_intent(absent, NOW)
    assert repeated.repeats_after_absence == (MY_RETRY.attempt,)
    # The service's own refusal of the repeat is about that POST alone: the next one is a repeat as well.
    refused = entries.rejected(repeated, "HTTP 429", NOW)
    assert (refused.repeats_after_absence, refused.is_repeat) == ((), True)
    again = entries.record_intent(entries.reclaim(refused, a_claim(OTHER)), NOW)
    assert again.repeats_after_absence == (OTHER.attempt,)


def test_only_a_later_try_supersedes_an_earlier_one_of_its_task() -> None:
    assert MY_RETRY.supersedes(str(ME))
    assert not ME.supersedes(str(MY_RETRY))
    assert not ME.supersedes(str(replace(ME, nonce="resumed")))
    assert not OTHER.supersedes(str(ME))


def test_what_a_clip_was_charged_includes_its_duplicates() -> None:
    entry = entries.submitted(a_post(), "r1", NOW)
    assert entry.charged is None
    made = entries.succeeded(entries.record_duplicate(entry, "r2", 7, NOW), NOW + 1)
    assert (made.cost, made.charged) == (0.5, 1.0)
    unpriced = replace(made, history=(replace(made.history[0], cost=None),))
    assert unpriced.charged == 0.5


def test_the_end_of_a_request_is_known_once_it_has_ended() -> None:
    entry = entries.submitted(a_post(), "r1", NOW)
    doubtful = entries.in_doubt(a_post(), "reset", NOW)
    assert (entry.finished_at, doubtful.finished_at) == (None, None)
    assert entries.succeeded(entry, NOW + 60).finished_at == NOW + 60
    assert entries.cancelled(entry, NOW + 5).finished_at == NOW + 5


def test_a_clip_is_not_submitted_without_a_request_id() -> None:
    with pytest.raises(IllegalTransitionError, match="request id"):
        entries.submitted(a_post(), "", NOW)


def test_the_last_tasks_that_were_given_a_clip_are_named_and_all_are_counted() -> None:
    entry = entries.succeeded(entries.submitted(a_post(), "r1", NOW), NOW)
    for n in range(entries.MAX_REUSES + 2):
        entry = entries.reused(entry, f"task{n}", TaskReference("dag", f"run{n}"), NOW + n)
    assert (entry.reuse_count, len(entry.reuses)) == (entries.MAX_REUSES + 2, entries.MAX_REUSES)
    assert (entry.reuses[0].task, entry.reuses[-1]) == (
        "task2",
        ReuseRecord(
            f"task{entries.MAX_REUSES + 1}", NOW + entries.MAX_REUSES + 1, "dag", f"run{entries.MAX_REUSES + 1}"
        ),
    )


def test_a_later_try_of_a_task_whose_name_holds_a_number_sign_supersedes_the_earlier_one() -> None:
    first = Owner("dag/manual#1/clip/-1", 1, "a")
    assert replace(first, try_number=2).supersedes(str(first))
    assert not replace(first, task="dag/manual#2/clip/-1", try_number=2).supersedes(str(first))


def test_a_cancelled_request_says_so() -> None:
    assert entries.cancelled(entries.submitted(a_post(), "r1", NOW), NOW).outcome == Outcome("cancelled", False, NOW)


def test_a_cancelled_request_costs_nothing() -> None:
    assert entries.cancelled(entries.submitted(a_post(), "r1", NOW), NOW).cost == 0.0


def test_a_failure_without_a_reason_says_so() -> None:
    failed = entries.failed(entries.submitted(a_post(), "r1", NOW), None, False, NOW)
    assert failed.outcome == Outcome("the API gave no reason", False, NOW)


def test_a_claim_holds_what_is_sent_what_it_may_cost_and_where_it_runs() -> None:
    reference = TaskReference("dag", "run", "clip", 3, "s3://images/cat.png?sig=1")
    made = entries.claim(
        fingerprint=FINGERPRINT,
        owner=ME,
        account=ACCOUNT,
        scope="run:dag/run",
        now=NOW,
        model="wan2.6-i2v",
        resolution="1080P",
        duration=10,
        seed=7,
        seed_drawn=True,
        payload_sha256="a" * 64,
        price=0.15,
        cost_estimate=1.5,
        model_family="wan2.6",
        reference=reference,
    )
    assert made == LedgerEntry(
        fingerprint=FINGERPRINT,
        state=EntryState.CLAIMED,
        account=ACCOUNT.id,
        account_name=ACCOUNT.name,
        key_id=ACCOUNT.key_id,
        model="wan2.6-i2v",
        scope="run:dag/run",
        owner=str(ME),
        claimed_at=NOW,
        renewed_at=NOW,
        seed=7,
        seed_drawn=True,
        payload_sha256="a" * 64,
        resolution="1080P",
        duration=10,
        price=0.15,
        cost_estimate=1.5,
        model_family="wan2.6",
        dag_id="dag",
        run_id="run",
        task_id="clip",
        map_index=3,
        source_uri="s3://images/cat.png",
    )


def test_an_entry_is_stored_as_a_person_can_read_and_compare_it() -> None:
    lines = replace(a_claim(), scope="漢字").to_json().splitlines()
    names = [line.split('"')[1] for line in lines[1:-1] if line.startswith(' "')]
    assert (lines[0], lines[-1]) == ("{", "}")
    assert names == sorted(names)
    assert ' "scope": "漢字",' in lines
