# SPDX-License-Identifier: Apache-2.0
"""A person's decision is recorded only if nothing contradicts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.ledger import EntryState, Ledger, Policy, StoredEntry
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.errors import LedgerAccountError
from airflow_provider_wan.ledger.fingerprint import hash_payload
from airflow_provider_wan.ledger.manual_resolution import ResolutionRefusedError, adopt_request, confirm_absence
from dev.testkit.ledger import FINGERPRINT, NOW, OTHER, REQUEST, a_claim, a_post

P = Policy()
SENT = REQUEST.with_seed(7).to_payload()
LATER = NOW + P.settling_time + 1


@pytest.fixture
def doubtful(store: Any) -> Any:
    entry = entries.in_doubt(a_post(), "reset", NOW)
    return StoredEntry(entry, store.create(entry))


def test_an_absence_is_recorded_once_nothing_speaks_against_it(api: Any, store: Any, doubtful: Any) -> None:
    entry = confirm_absence(api, Ledger(store), doubtful, P, LATER)
    assert (entry.state, entry.posts, store.read(FINGERPRINT).entry) == (EntryState.FAILED, 0, entry)


def test_an_absence_is_refused_while_the_owner_may_be_sending(api: Any, store: Any) -> None:
    entry = a_post()
    stored = StoredEntry(entry, store.create(entry))
    with pytest.raises(ResolutionRefusedError, match="renewed its claim"):
        confirm_absence(api, Ledger(store), stored, P, NOW + P.lease - 1)
    with pytest.raises(ResolutionRefusedError, match="may still be accepted"):
        confirm_absence(api, Ledger(store), stored, P, NOW + P.settling_time - 1)
    assert store.read(FINGERPRINT).entry == entry
    assert confirm_absence(api, Ledger(store), stored, P, LATER).state is EntryState.FAILED


def test_an_absence_is_refused_while_the_list_shows_the_request(api: Any, store: Any, doubtful: Any) -> None:
    ours = api.add(SENT)
    with pytest.raises(ResolutionRefusedError, match=f"--request-id {ours.request_id}"):
        confirm_absence(api, Ledger(store), doubtful, P, LATER)


def test_an_absence_is_refused_while_the_list_can_not_be_read(api: Any, store: Any, doubtful: Any) -> None:
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(ResolutionRefusedError, match="HTTP 502"):
        confirm_absence(api, Ledger(store), doubtful, P, LATER)


def test_a_person_may_know_more_than_a_list_that_proves_nothing(api: Any, store: Any, doubtful: Any) -> None:
    api.records.clear()
    assert confirm_absence(api, Ledger(store), doubtful, P, LATER).state is EntryState.FAILED


def test_an_entry_that_changed_meanwhile_is_left_alone(api: Any, store: Any, doubtful: Any) -> None:
    store.replace(replace(doubtful.entry, renewed_at=NOW + 1), doubtful.version)
    with pytest.raises(ResolutionRefusedError, match="has changed"):
        confirm_absence(api, Ledger(store), doubtful, P, LATER)


def test_a_request_with_our_seed_is_adopted(api: Any, store: Any, doubtful: Any) -> None:
    ours = api.add(SENT)
    entry = adopt_request(api, Ledger(store), doubtful, ours, P)
    assert (entry.state, entry.request_id, entry.duplicate_scan_due) == (EntryState.SUBMITTED, ours.request_id, True)


@pytest.mark.parametrize("change", [{"seed": 8}, {"duration": 15}, {"resolution": "1080P"}])
def test_a_request_of_another_seed_or_payload_is_refused(
    api: Any, store: Any, doubtful: Any, change: dict[str, Any]
) -> None:
    record = api.add({**SENT, **change})
    with pytest.raises(ResolutionRefusedError, match="seed or payload"):
        adopt_request(api, Ledger(store), doubtful, record, P)
    assert store.read(FINGERPRINT).entry == doubtful.entry


def test_with_the_users_seed_a_person_may_recognize_an_elaborated_prompt_but_no_other_clip(
    api: Any, store: Any
) -> None:
    entry = entries.in_doubt(a_post(drawn=False), "reset", NOW)
    stored = StoredEntry(entry, store.create(entry))
    dog = {**SENT, "prompt": "a dog"}
    theirs = replace(a_post(OTHER, drawn=False, fingerprint="other"), payload_sha256=hash_payload(dog))
    store.create(theirs)
    for payload, more in [
        ({**SENT, "duration": 10}, {}),
        ({**SENT, "prompt": "elaborated"}, {"created_at": LATER + P.clock_margin}),
        (dog, {}),
    ]:
        with pytest.raises(ResolutionRefusedError):
            adopt_request(api, Ledger(store), stored, api.add(payload, **more), P)
    ours = api.add({**SENT, "prompt": "elaborated"})
    assert adopt_request(api, Ledger(store), stored, ours, P).request_id == ours.request_id


def test_a_request_of_another_entry_is_refused(api: Any, store: Any, doubtful: Any) -> None:
    record = api.add(SENT)
    store.create(entries.submitted(a_post(OTHER, fingerprint="other"), record.request_id, NOW))
    with pytest.raises(ResolutionRefusedError, match="another clip"):
        adopt_request(api, Ledger(store), doubtful, record, P)


def test_a_request_that_is_older_than_the_submission_is_refused(api: Any, store: Any, doubtful: Any) -> None:
    record = api.add(SENT, created_at=NOW - P.clock_margin - 1)
    with pytest.raises(ResolutionRefusedError, match="older"):
        adopt_request(api, Ledger(store), doubtful, record, P)


def test_an_entry_that_is_not_in_doubt_or_of_another_account_is_refused(api: Any, store: Any, doubtful: Any) -> None:
    ours = api.add(SENT)
    decided = StoredEntry(entries.submitted(doubtful.entry, ours.request_id, NOW), doubtful.version)
    with pytest.raises(ResolutionRefusedError, match="not in doubt"):
        confirm_absence(api, Ledger(store), decided, P, LATER)
    foreign = StoredEntry(replace(doubtful.entry, account="0" * 16), doubtful.version)
    with pytest.raises(LedgerAccountError):
        adopt_request(api, Ledger(store), foreign, ours, P)


def test_an_earlier_request_of_the_clip_is_refused(api: Any, store: Any) -> None:
    first = api.add(SENT, "failed")
    failed = entries.failed(entries.submitted(a_post(), first.request_id, NOW), "internal error", False, NOW)
    again = entries.record_intent(entries.reclaim(failed, a_claim()), NOW)
    stored = StoredEntry(entries.in_doubt(again, "reset", NOW), store.create(entries.in_doubt(again, "reset", NOW)))
    with pytest.raises(ResolutionRefusedError, match="has ended"):
        adopt_request(api, Ledger(store), stored, first, P)


def test_a_request_of_long_after_the_submission_is_refused_unless_it_has_our_drawn_seed(
    api: Any, store: Any, doubtful: Any
) -> None:
    late = NOW + 86_400
    hidden = api.add({}, created_at=late)
    with pytest.raises(ResolutionRefusedError, match="long after"):
        adopt_request(api, Ledger(store), doubtful, hidden, P)
    ours = api.add(SENT, created_at=late)
    adopted = adopt_request(api, Ledger(store), doubtful, ours, P)
    assert (adopted.request_id, adopted.submitted_at) == (ours.request_id, NOW)


def test_a_request_without_a_time_is_adopted_only_by_our_drawn_seed(api: Any, store: Any, doubtful: Any) -> None:
    with pytest.raises(ResolutionRefusedError, match="nor a time"):
        adopt_request(api, Ledger(store), doubtful, api.add({}, created_at=None), P)
    ours = api.add(SENT, created_at=None)
    assert adopt_request(api, Ledger(store), doubtful, ours, P).request_id == ours.request_id


def test_a_raw_payload_with_another_seed_is_adopted_only_from_its_own_model(api: Any, store: Any) -> None:
    entry = entries.in_doubt(replace(a_post(), model="wan9-x2v", resolution="", duration=0), "reset", NOW)
    stored = StoredEntry(entry, store.create(entry))
    with pytest.raises(ResolutionRefusedError, match=r"its model is wan2\.6-i2v"):
        adopt_request(api, Ledger(store), stored, api.add({"seed": 42}, model="wan2.6-i2v"), P)
    ours = api.add({"seed": 42}, model="wan9-x2v")
    assert adopt_request(api, Ledger(store), stored, ours, P).request_id == ours.request_id
