# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.record import RequestPage
from airflow_provider_wan.ledger.entry import failed, in_doubt, reclaim, submitted
from airflow_provider_wan.ledger.reconcile import Finding, reconcile_entry
from airflow_provider_wan.ledger.rules import Policy
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.testkit.ledger import NOW, OTHER, REQUEST, Api, a_claim, a_post

P = Policy()
SENT = REQUEST.with_seed(7).to_payload()


@pytest.fixture
def api() -> Any:
    return Api()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return FileStore(tmp_path)


def test_the_request_with_our_seed_and_payload_is_found(api: Any, store: Any) -> None:
    api.add({**SENT, "seed": 8})
    ours = api.add(SENT)
    api.add({**SENT, "seed": 9})
    result = reconcile_entry(api, store, a_post(), REQUEST, P)
    assert (result.finding, result.record) == (Finding.FOUND, ours)


def test_a_list_without_our_request_shows_its_absence(api: Any, store: Any) -> None:
    api.add({**SENT, "seed": 8})
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


@pytest.mark.parametrize(
    "echo",
    [
        {**SENT, "img_url": SENT["img_url"].replace("sig=1", "sig=2")},
        {**SENT, "audio_url": None, "worker": "w1"},
        {"seed": 7, "prompt": "a cat"},
        {**SENT, "seed": "7"},
        {**SENT, "img_url": "https://storage.service.example/copy.png"},
    ],
    ids=["presigned anew", "with extra fields", "in part", "as text", "with the image put elsewhere"],
)
def test_a_drawn_seed_is_found_in_an_echo_that_is_not_verbatim(api: Any, store: Any, echo: dict[str, Any]) -> None:
    api.add(echo)
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


def test_our_seed_with_another_prompt_is_inconclusive(api: Any, store: Any) -> None:
    api.add({**SENT, "prompt": "a dog"}, request_id="odd")
    result = reconcile_entry(api, store, a_post(), REQUEST, P)
    assert result.finding is Finding.INCONCLUSIVE
    assert "odd" in result.reason


def test_a_drawn_seed_is_found_however_wrong_the_clocks_are(api: Any, store: Any) -> None:
    api.add(SENT, created_at=NOW - 40 * 60)
    for n in range(300):
        api.add({**SENT, "seed": 100 + n}, created_at=NOW - 40 * 60 + n)
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"img_url": "https://images.example.com/dog.png"}])
def test_the_users_seed_alone_does_not_make_a_request_ours(api: Any, store: Any, change: dict[str, Any]) -> None:
    api.add({**SENT, **change})
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT


def test_with_the_users_seed_an_older_request_is_not_ours(api: Any, store: Any) -> None:
    api.add(SENT, created_at=NOW - P.clock_margin - 1)
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT
    api.add(SENT, created_at=NOW - P.clock_margin + 1)
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.FOUND


def test_with_the_users_seed_the_request_of_another_entry_is_not_ours(api: Any, store: Any) -> None:
    theirs = api.add(SENT)
    store.create(submitted(a_post(OTHER, drawn=False, fingerprint="other"), theirs.request_id, NOW))
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT
    ours = api.add(SENT)
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).record == ours


def test_two_entries_in_doubt_with_one_payload_each_find_their_own(api: Any, store: Any) -> None:
    mine = in_doubt(a_post(drawn=False), "reset", NOW)
    other = in_doubt(a_post(OTHER, drawn=False, fingerprint="other", now=NOW + 5), "reset", NOW + 6)
    for entry in (mine, other):
        store.create(entry)
    one, two = api.add(SENT, created_at=NOW), api.add(SENT, created_at=NOW + 5)
    assert reconcile_entry(api, store, mine, REQUEST, P).record == one
    assert reconcile_entry(api, store, other, REQUEST, P).record == two


def test_more_requests_of_one_payload_than_entries_are_inconclusive(api: Any, store: Any) -> None:
    api.add(SENT)
    api.add(SENT)
    result = reconcile_entry(api, store, a_post(drawn=False), REQUEST, P)
    assert result.finding is Finding.INCONCLUSIVE
    assert "r1" in result.reason


def test_a_failed_request_of_the_same_payload_does_not_hide_the_live_one(api: Any, store: Any) -> None:
    api.add(SENT, status="failed", created_at=NOW)
    lives = api.add(SENT, created_at=NOW)
    api.add(SENT, status="failed", created_at=NOW + 1)
    assert reconcile_entry(api, store, a_post(drawn=False), REQUEST, P).record == lives


def test_the_requests_of_earlier_attempts_are_not_found_again(api: Any, store: Any) -> None:
    first = api.add(SENT, status="failed")
    entry = failed(submitted(a_post(drawn=False), first.request_id, NOW), "internal", False, NOW)
    again = replace(reclaim(entry, a_claim(drawn=False, now=NOW + 1)), intent_at=NOW + 1)
    assert reconcile_entry(api, store, again, REQUEST, P).finding is Finding.ABSENT


def test_of_two_accepted_requests_the_live_one_is_adopted_and_the_other_is_a_duplicate(api: Any, store: Any) -> None:
    api.add(SENT, status="failed", created_at=NOW)
    one, two = api.add(SENT, created_at=NOW + 1), api.add(SENT, created_at=NOW + 2)
    result = reconcile_entry(api, store, a_post(), REQUEST, P)
    assert (result.record, result.duplicates) == (one, (two,))


def test_a_failed_record_of_ours_is_found_too(api: Any, store: Any) -> None:
    ours = api.add(SENT, status="failed")
    assert reconcile_entry(api, store, a_post(), REQUEST, P).record == ours


def test_a_hidden_payload_at_the_time_in_question_is_inconclusive(api: Any, store: Any) -> None:
    api.add({}, request_id="mute")
    result = reconcile_entry(api, store, a_post(), REQUEST, P)
    assert result.finding is Finding.INCONCLUSIVE
    assert "mute" in result.reason


def test_a_payload_hidden_in_the_list_may_be_shown_by_id(api: Any, store: Any) -> None:
    ours = api.add(SENT)
    api.page_of = lambda limit, offset: RequestPage((replace(ours, payload={}),), 1, 1, False)
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


@pytest.mark.parametrize("created_at", [NOW - P.clock_margin - 1, NOW + P.lease + P.clock_margin + 1])
def test_a_hidden_payload_at_another_time_is_not_ours(api: Any, store: Any, created_at: Any) -> None:
    api.add({}, created_at=created_at)
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_a_hidden_payload_of_another_entry_is_not_ours(api: Any, store: Any) -> None:
    theirs = api.add({})
    store.create(submitted(a_post(OTHER, fingerprint="other"), theirs.request_id, NOW))
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_a_request_of_the_web_console_is_not_ours(api: Any, store: Any) -> None:
    api.add({}, request_id="console")
    api.hidden.add("console")
    assert reconcile_entry(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_an_unreadable_list_is_inconclusive(api: Any, store: Any) -> None:
    api.list_error = WanLookupError("HTTP 502")
    result = reconcile_entry(api, store, a_post(), REQUEST, P)
    assert result.finding is Finding.INCONCLUSIVE
    assert "HTTP 502" in result.reason


def test_a_person_can_reconcile_without_the_request(api: Any, store: Any) -> None:
    ours = api.add(SENT)
    assert reconcile_entry(api, store, a_post(), None, P).record == ours
