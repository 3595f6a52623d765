# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.record import RequestPage
from airflow_provider_wan.ledger.decision import Policy
from airflow_provider_wan.ledger.entry import failed, in_doubt, reclaim, submitted
from airflow_provider_wan.ledger.file_store import FileStore
from airflow_provider_wan.ledger.reconcile import Finding, look
from dev.testkit.ledger import NOW, OTHER, REQUEST, Api, a_claim, a_post

P = Policy()
SENT = REQUEST.with_seed(7).to_payload()


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


def test_the_request_with_our_seed_and_payload_is_ours(api, store):
    api.add({**SENT, "seed": 8})
    ours = api.add(SENT)
    api.add({**SENT, "seed": 9})
    shown = look(api, store, a_post(), REQUEST, P)
    assert (shown.finding, shown.record) == (Finding.FOUND, ours)


def test_a_list_without_it_proves_its_absence(api, store):
    api.add({**SENT, "seed": 8})
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


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
def test_a_drawn_seed_is_known_again_in_an_echo_that_is_not_quite_verbatim(api, store, echo):
    api.add(echo)
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


def test_our_seed_with_another_prompt_is_a_riddle_and_not_a_guess(api, store):
    api.add({**SENT, "prompt": "a dog"}, request_id="odd")
    shown = look(api, store, a_post(), REQUEST, P)
    assert shown.finding is Finding.UNTOLD
    assert "odd" in shown.reason


def test_a_drawn_seed_is_found_however_wrong_the_clocks_are(api, store):
    api.add(SENT, created_at=NOW - 40 * 60)
    for n in range(300):
        api.add({**SENT, "seed": 100 + n}, created_at=NOW - 40 * 60 + n)
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"img_url": "https://images.example.com/dog.png"}])
def test_the_users_seed_alone_does_not_make_a_request_ours(api, store, change):
    api.add({**SENT, **change})
    assert look(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT


def test_with_the_users_seed_an_older_request_is_not_ours(api, store):
    api.add(SENT, created_at=NOW - P.clock_margin - 1)
    assert look(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT
    api.add(SENT, created_at=NOW - P.clock_margin + 1)
    assert look(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.FOUND


def test_with_the_users_seed_the_request_of_another_entry_is_not_ours(api, store):
    theirs = api.add(SENT)
    store.create(submitted(a_post(OTHER, drawn=False, fingerprint="other"), theirs.request_id, NOW))
    assert look(api, store, a_post(drawn=False), REQUEST, P).finding is Finding.ABSENT
    ours = api.add(SENT)
    assert look(api, store, a_post(drawn=False), REQUEST, P).record == ours


def test_two_entries_in_doubt_with_one_payload_each_take_their_own(api, store):
    mine = in_doubt(a_post(drawn=False), "reset", NOW)
    other = in_doubt(a_post(OTHER, drawn=False, fingerprint="other", now=NOW + 5), "reset", NOW + 6)
    for entry in (mine, other):
        store.create(entry)
    one, two = api.add(SENT, created_at=NOW), api.add(SENT, created_at=NOW + 5)
    assert look(api, store, mine, REQUEST, P).record == one
    assert look(api, store, other, REQUEST, P).record == two


def test_more_requests_of_one_payload_than_entries_can_not_be_told_apart(api, store):
    api.add(SENT)
    api.add(SENT)
    shown = look(api, store, a_post(drawn=False), REQUEST, P)
    assert shown.finding is Finding.UNTOLD
    assert "r1" in shown.reason


def test_a_failed_request_of_the_same_payload_does_not_hide_the_one_that_lives(api, store):
    api.add(SENT, status="failed", created_at=NOW)
    lives = api.add(SENT, created_at=NOW)
    api.add(SENT, status="failed", created_at=NOW + 1)
    assert look(api, store, a_post(drawn=False), REQUEST, P).record == lives


def test_the_requests_of_earlier_attempts_are_not_taken_again(api, store):
    first = api.add(SENT, status="failed")
    entry = failed(submitted(a_post(drawn=False), first.request_id, NOW), "internal", False, NOW)
    again = replace(reclaim(entry, a_claim(drawn=False, now=NOW + 1)), posting_at=NOW + 1)
    assert look(api, store, again, REQUEST, P).finding is Finding.ABSENT


def test_of_two_accepted_requests_the_one_that_lives_is_adopted_and_the_other_remembered(api, store):
    api.add(SENT, status="failed", created_at=NOW)
    one, two = api.add(SENT, created_at=NOW + 1), api.add(SENT, created_at=NOW + 2)
    shown = look(api, store, a_post(), REQUEST, P)
    assert (shown.record, shown.strays) == (one, (two,))


def test_a_failed_record_of_ours_is_found_too(api, store):
    ours = api.add(SENT, status="failed")
    assert look(api, store, a_post(), REQUEST, P).record == ours


def test_an_empty_echo_at_the_time_in_question_can_not_be_told(api, store):
    api.add({}, request_id="mute")
    shown = look(api, store, a_post(), REQUEST, P)
    assert shown.finding is Finding.UNTOLD
    assert "mute" in shown.reason


def test_an_empty_echo_in_the_list_may_be_whole_by_id(api, store):
    ours = api.add(SENT)
    api.page_of = lambda limit, offset: RequestPage((replace(ours, payload={}),), 1, 1, False)
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.FOUND


@pytest.mark.parametrize("created_at", [NOW - P.clock_margin - 1, NOW + P.lease + P.clock_margin + 1])
def test_an_empty_echo_of_another_time_is_not_ours(api, store, created_at):
    api.add({}, created_at=created_at)
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_an_empty_echo_with_another_entry_is_not_ours(api, store):
    theirs = api.add({})
    store.create(submitted(a_post(OTHER, fingerprint="other"), theirs.request_id, NOW))
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_a_request_of_the_web_console_is_not_ours(api, store):
    api.add({}, request_id="console")
    api.hidden.add("console")
    assert look(api, store, a_post(), REQUEST, P).finding is Finding.ABSENT


def test_a_list_that_is_not_given_tells_nothing(api, store):
    api.list_error = WanLookupError("HTTP 502")
    shown = look(api, store, a_post(), REQUEST, P)
    assert shown.finding is Finding.UNTOLD
    assert "HTTP 502" in shown.reason


def test_a_person_can_look_without_the_request(api, store):
    ours = api.add(SENT)
    assert look(api, store, a_post(), None, P).record == ours
