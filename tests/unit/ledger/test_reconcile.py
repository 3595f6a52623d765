# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanBadRequestError, WanLookupError
from airflow_provider_wan.api.record import RequestPage, RequestStatus
from airflow_provider_wan.api.request import RawRequest
from airflow_provider_wan.ledger.entry import failed, in_doubt, reclaim, submitted
from airflow_provider_wan.ledger.fingerprint import hash_payload
from airflow_provider_wan.ledger.reconcile import Finding, find_duplicates, reconcile_entry
from airflow_provider_wan.ledger.rules import Policy
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.testkit.ledger import FINGERPRINT, NOW, OTHER, REQUEST, Api, a_claim, a_post

P = Policy()
SENT = REQUEST.with_seed(7).to_payload()


def scan(api: Any, store: Any, entry: Any = None, request: Any = REQUEST, *, now: float = NOW) -> Any:
    return reconcile_entry(api, store, entry or a_post(), request, P, now)


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
    result = scan(api, store)
    assert (result.finding, result.record) == (Finding.FOUND, ours)


def test_a_list_without_our_request_shows_its_absence(api: Any, store: Any) -> None:
    api.add({**SENT, "seed": 8})
    assert scan(api, store).finding is Finding.ABSENT


@pytest.mark.parametrize(
    "echo",
    [
        {**SENT, "img_url": SENT["img_url"].replace("sig=1", "sig=2")},
        {**SENT, "audio_url": None, "worker": "w1"},
        {"seed": 7, "prompt": "a cat"},
        {**SENT, "seed": "7"},
        {**SENT, "img_url": "https://storage.service.example/copy.png"},
        {**SENT, "prompt": "A fluffy cat, cinematic light, 4k"},
        {**SENT, "seed": 7.0},
        {**SENT, "seed": "7.0"},
        {**SENT, "seed": " 0000000007 "},
        {**SENT, "resolution": "720p", "duration": "5"},
        {"input": {"img_url": "x"}, "parameters": {"seed": 7}},
    ],
    ids=[
        "presigned anew",
        "with extra fields",
        "in part",
        "as text",
        "with the image put elsewhere",
        "with an elaborated prompt",
        "as a float",
        "as a float in text",
        "padded",
        "in other words",
        "nested",
    ],
)
def test_a_drawn_seed_is_found_in_an_echo_that_is_not_verbatim(api: Any, store: Any, echo: dict[str, Any]) -> None:
    api.add(echo)
    assert scan(api, store).finding is Finding.FOUND


@pytest.mark.parametrize("change", [{"duration": 10}, {"duration": "10"}, {"resolution": "1080P"}])
def test_our_seed_with_another_length_or_size_is_inconclusive(api: Any, store: Any, change: dict[str, Any]) -> None:
    api.add({**SENT, **change}, request_id="odd")
    result = scan(api, store)
    assert result.finding is Finding.INCONCLUSIVE
    assert "odd" in result.reason


@pytest.mark.parametrize("shift", [-5 * 3600, 5.5 * 3600, 14 * 3600], ids=str)
def test_with_the_users_seed_a_request_at_another_hour_is_inconclusive_unless_another_entry_has_made_it(
    api: Any, store: Any, shift: float
) -> None:
    record = api.add(SENT, request_id="hours", created_at=NOW + shift + 20)
    api.records.sort(key=lambda each: -each.created_at)
    result = scan(api, store, a_post(drawn=False))
    assert (result.finding, result.candidates) == (Finding.INCONCLUSIVE, ("hours",))
    store.create(submitted(a_post(OTHER, drawn=False, fingerprint="other", now=NOW - 9999), record.request_id, NOW))
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_where_a_known_request_shows_that_the_lists_clock_is_right_another_hour_is_another_request(
    api: Any, store: Any
) -> None:
    api.records.clear()
    api.add(SENT, "success", created_at=NOW - 5 * 3600)
    known = api.add({"seed": 9}, created_at=NOW - 30)
    entry = submitted(a_post(OTHER, fingerprint="other", seed=9), known.request_id, NOW - 40 - P.clock_margin)
    version = store.create(entry)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.INCONCLUSIVE
    store.replace(replace(entry, submitted_at=NOW - 28), version)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_a_request_whose_time_is_that_of_another_zone_is_found_behind_a_hundred_newer_ones(
    api: Any, store: Any
) -> None:
    local = NOW - 5 * 3600
    ours = api.add(SENT, created_at=local)
    for number in range(120):
        api.add({"seed": 1000 + number}, created_at=local + number)
    assert scan(api, store).record == ours


@pytest.mark.parametrize("seed", [1.27044e9, "1.27044e+09", 1270442624.0], ids=str)
def test_a_seed_that_the_service_writes_with_fewer_digits_is_a_hidden_one(api: Any, store: Any, seed: Any) -> None:
    entry = a_post(seed=1_270_442_571)
    api.add({**SENT, "seed": seed}, request_id="rounded")
    result = scan(api, store, entry)
    assert (result.finding, result.candidates) == (Finding.INCONCLUSIVE, ("rounded",))
    api.records = [record for record in api.records if record.request_id != "rounded"]
    api.add({**SENT, "seed": 1_270_542_571})
    assert scan(api, store, entry).finding is Finding.ABSENT


def test_a_list_with_other_seeds_than_those_that_were_sent_proves_nothing(api: Any, store: Any) -> None:
    api.add({**SENT, "seed": 1234}, request_id="theirs")
    version = store.create(submitted(a_post(OTHER, fingerprint="other", seed=99), "theirs", NOW))
    result = scan(api, store)
    assert result.finding is Finding.INCONCLUSIVE
    assert "theirs with another seed" in result.reason
    again = replace(a_post(OTHER, fingerprint="other", seed=99), posts=2)
    version = store.replace(submitted(again, "theirs", NOW), version)
    assert scan(api, store).finding is Finding.ABSENT
    store.replace(submitted(a_post(OTHER, fingerprint="other", seed=1234), "theirs", NOW), version)
    assert scan(api, store).finding is Finding.ABSENT


def test_a_seed_that_the_service_replaces_for_a_model_without_rules_says_nothing_about_other_models(
    api: Any, store: Any
) -> None:
    api.add({"prompt": "a cat", "seed": -1}, request_id="raw")
    raw = replace(a_post(OTHER, fingerprint="other", seed=99), model="wan9-x2v")
    store.create(submitted(raw, "raw", NOW))
    assert scan(api, store).finding is Finding.ABSENT
    assert scan(api, store, replace(a_post(), model="wan9-x2v"), None).finding is Finding.INCONCLUSIVE


@pytest.mark.parametrize("change", [{"duration": 5000}, {"duration": 150}, {"resolution": "1280"}], ids=str)
def test_a_length_or_size_in_another_unit_contradicts_nothing(api: Any, store: Any, change: dict[str, Any]) -> None:
    without_seed = {name: value for name, value in SENT.items() if name != "seed"}
    for payload, finding in [({**SENT, **change}, Finding.FOUND), ({**without_seed, **change}, Finding.INCONCLUSIVE)]:
        record = api.add(payload)
        assert scan(api, store).finding is finding
        api.records.remove(record)


def test_a_drawn_seed_is_found_however_wrong_the_clocks_are(api: Any, store: Any) -> None:
    api.add(SENT, created_at=NOW - 40 * 60)
    for n in range(300):
        api.add({**SENT, "seed": 100 + n}, created_at=NOW - 40 * 60 + n)
    assert scan(api, store).finding is Finding.FOUND


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"img_url": "https://images.example.com/dog.png"}])
def test_with_the_users_seed_an_elaborated_prompt_or_a_moved_image_neither_is_ours_nor_proves_an_absence(
    api: Any, store: Any, change: dict[str, Any]
) -> None:
    api.add({**SENT, **change}, request_id="odd")
    entry = a_post(drawn=False)
    assert scan(api, store, entry).finding is Finding.UNDECIDED
    result = scan(api, store, entry, now=NOW + P.settling_time + 1)
    assert (result.finding, result.candidates) == (Finding.INCONCLUSIVE, ("odd",))
    assert "another prompt or image" in result.reason


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"prompt": "a dog", "duration": 10}, {}),
        ({"prompt": "a dog", "watermark": True}, {}),
        ({"prompt": "a dog"}, {"status": "failed"}),
        ({"prompt": "a dog"}, {"created_at": NOW - P.clock_margin - 1}),
    ],
    ids=["another length", "a watermark", "not charged", "older"],
)
def test_with_the_users_seed_a_request_that_can_not_be_a_rewritten_one_is_not_ours(
    api: Any, store: Any, change: dict[str, Any], more: dict[str, Any]
) -> None:
    api.add({**SENT, **change}, **more)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_with_the_users_seed_a_request_without_an_image_and_of_another_model_is_not_ours(api: Any, store: Any) -> None:
    api.add({"prompt": "a dog", "seed": 7}, model="wan2.6-t2v")
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_of_many_requests_that_may_be_ours_the_message_names_the_first(api: Any, store: Any) -> None:
    for number in range(12):
        api.add({**SENT, "prompt": f"dog {number}"})
    for now, finding in [(NOW, Finding.UNDECIDED), (NOW + P.settling_time + 1, Finding.INCONCLUSIVE)]:
        result = scan(api, store, a_post(drawn=False), now=now)
        assert result.finding is finding
        assert result.reason.endswith("and 2 more")
        assert "r12 " in result.reason or "r12," in result.reason
    assert len(result.candidates) == 12


def test_with_the_users_seed_what_another_entry_has_sent_is_not_ours(api: Any, store: Any) -> None:
    theirs = replace(REQUEST, prompt="a dog").with_seed(7).to_payload()
    api.add(theirs)
    other = replace(a_post(OTHER, drawn=False, fingerprint="other"), payload_sha256=hash_payload(theirs))
    version = store.create(replace(other, account="0" * 16))
    assert scan(api, store, a_post(drawn=False)).finding is Finding.UNDECIDED
    store.replace(other, version)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT
    # Its request is known by its id as well, however it is repeated.
    elaborated = api.add({**theirs, "prompt": "A fluffy dog"})
    assert scan(api, store, a_post(drawn=False)).finding is Finding.UNDECIDED
    store.replace(submitted(other, elaborated.request_id, NOW), store.read("other").version)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_with_the_users_seed_an_older_request_is_not_ours(api: Any, store: Any) -> None:
    api.add(SENT, created_at=NOW - P.clock_margin - 1)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT
    api.add(SENT, created_at=NOW - P.clock_margin + 1)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.FOUND


def test_with_the_users_seed_the_request_of_another_entry_is_not_ours(api: Any, store: Any) -> None:
    theirs = api.add(SENT)
    store.create(submitted(a_post(OTHER, drawn=False, fingerprint="other"), theirs.request_id, NOW))
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT
    ours = api.add(SENT)
    assert scan(api, store, a_post(drawn=False)).record == ours


def test_two_entries_in_doubt_with_one_payload_find_their_own_one_after_the_other(api: Any, store: Any) -> None:
    mine = in_doubt(a_post(drawn=False), "reset", NOW)
    other = in_doubt(a_post(OTHER, drawn=False, fingerprint="other", now=NOW + 5), "reset", NOW + 6)
    version = store.create(mine)
    store.create(other)
    one, two = api.add(SENT, created_at=NOW), api.add(SENT, created_at=NOW + 5)
    assert scan(api, store, other).finding is Finding.UNDECIDED
    assert scan(api, store, mine).record == one
    store.replace(submitted(mine, one.request_id, NOW), version)
    assert scan(api, store, other).record == two


def test_one_request_of_two_entries_in_doubt_is_nobodys_until_one_is_decided(api: Any, store: Any) -> None:
    mine = in_doubt(a_post(drawn=False), "reset", NOW)
    other = a_post(OTHER, drawn=False, fingerprint="other", now=NOW + 5)
    for entry in (mine, other):
        store.create(entry)
    api.add(SENT, created_at=NOW + 1)
    for entry in (mine, other):
        assert scan(api, store, entry).finding is Finding.UNDECIDED


CONFIRMED = P.settling_time + P.clock_margin


class TestTwins:
    """Two entries in doubt with one payload and one user's seed: neither may wait for the other for ever."""

    @pytest.fixture
    def elder(self, store: Any) -> Any:
        store.create(entry := in_doubt(a_post(drawn=False), "reset", NOW))
        return entry

    @pytest.fixture
    def younger(self, store: Any, elder: Any) -> Any:
        store.create(entry := a_post(OTHER, drawn=False, fingerprint="other", now=NOW + 5))
        return entry

    def test_the_elder_adopts_the_only_request_once_no_other_can_appear(
        self, api: Any, store: Any, elder: Any, younger: Any
    ) -> None:
        ours = api.add(SENT, created_at=NOW + 1)
        assert scan(api, store, elder, now=NOW + 5 + CONFIRMED).finding is Finding.UNDECIDED
        assert scan(api, store, elder, now=NOW + 6 + CONFIRMED).record == ours

    def test_the_younger_is_absent_after_the_elder_has_adopted_the_only_request(
        self, api: Any, store: Any, elder: Any, younger: Any
    ) -> None:
        ours = api.add(SENT, created_at=NOW + 1)
        assert scan(api, store, younger, now=NOW + 6 + CONFIRMED).finding is Finding.UNDECIDED
        store.replace(submitted(elder, ours.request_id, NOW), store.read(FINGERPRINT).version)
        assert scan(api, store, younger, now=NOW + 6 + CONFIRMED).finding is Finding.ABSENT

    def test_if_nothing_was_accepted_the_younger_does_not_wait_for_an_elder_that_never_comes_back(
        self, api: Any, store: Any, elder: Any, younger: Any
    ) -> None:
        assert scan(api, store, younger, now=NOW + 5 + CONFIRMED).finding is Finding.UNDECIDED
        assert scan(api, store, younger, now=NOW + 6 + CONFIRMED).finding is Finding.ABSENT

    def test_a_request_without_a_time_keeps_the_younger_waiting(
        self, api: Any, store: Any, elder: Any, younger: Any
    ) -> None:
        api.add(SENT, created_at=None)
        assert scan(api, store, younger, now=NOW + 6 + CONFIRMED).finding is Finding.UNDECIDED


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_dead_twin_of_another_run_is_not_adopted(api: Any, store: Any, status: str) -> None:
    api.add(SENT, status, created_at=NOW - 60)
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT
    ours = api.add(SENT, created_at=NOW + 1)
    api.add(SENT, status, created_at=NOW + 2)
    assert scan(api, store, a_post(drawn=False)).record == ours


def test_with_the_users_seed_a_running_request_that_the_list_calls_failed_is_found(api: Any, store: Any) -> None:
    ours = api.add(SENT)
    list_requests = api.list_requests

    def list_as_failed(**given: Any) -> RequestPage:
        page: RequestPage = list_requests(**given)
        failed: dict[str, Any] = {"status": RequestStatus.FAILED, "status_text": "failed"}
        return replace(page, records=tuple(replace(each, **failed) for each in page.records))

    api.list_requests = list_as_failed
    assert scan(api, store, a_post(drawn=False)).record == ours
    api.hidden.add(ours.request_id)  # unknown by its id: nothing contradicts the list
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_with_the_users_seed_a_request_that_the_list_calls_failed_may_run_while_its_own_status_can_not_be_read(
    api: Any, store: Any
) -> None:
    ours = api.add(SENT, "failed")

    def refuse(request_id: str) -> Any:
        raise WanLookupError("HTTP 502")

    api.get_request = refuse
    result = scan(api, store, a_post(drawn=False))
    assert (result.finding, result.record.request_id) == (Finding.FOUND, ours.request_id)
    assert not result.record.is_final


def test_more_requests_of_one_payload_than_entries_are_inconclusive(api: Any, store: Any) -> None:
    api.add(SENT)
    api.add(SENT)
    result = scan(api, store, a_post(drawn=False))
    assert result.finding is Finding.INCONCLUSIVE
    assert "r1" in result.reason


def test_a_failed_request_of_the_same_payload_does_not_hide_the_live_one(api: Any, store: Any) -> None:
    api.add(SENT, status="failed", created_at=NOW)
    lives = api.add(SENT, created_at=NOW)
    api.add(SENT, status="failed", created_at=NOW + 1)
    assert scan(api, store, a_post(drawn=False)).record == lives


def test_the_requests_of_earlier_attempts_are_not_found_again(api: Any, store: Any) -> None:
    first = api.add(SENT, status="failed")
    entry = failed(submitted(a_post(drawn=False), first.request_id, NOW), "internal", False, NOW)
    again = replace(reclaim(entry, a_claim(drawn=False, now=NOW + 1)), intent_at=NOW + 1)
    assert scan(api, store, again).finding is Finding.ABSENT


def test_of_two_accepted_requests_the_live_one_is_adopted_and_the_other_is_a_duplicate(api: Any, store: Any) -> None:
    api.add(SENT, status="failed", created_at=NOW)
    one, two = api.add(SENT, created_at=NOW + 1), api.add(SENT, created_at=NOW + 2)
    result = scan(api, store)
    assert (result.record, result.duplicates) == (one, (two,))


def test_a_failed_record_of_ours_is_found_too(api: Any, store: Any) -> None:
    ours = api.add(SENT, status="failed")
    assert scan(api, store).record == ours


def test_a_hidden_payload_at_the_time_in_question_is_inconclusive(api: Any, store: Any) -> None:
    api.add({}, request_id="mute")
    result = scan(api, store)
    assert result.finding is Finding.INCONCLUSIVE
    assert "mute" in result.reason


def test_a_payload_hidden_in_the_list_may_be_shown_by_id(api: Any, store: Any) -> None:
    ours = api.add(SENT)
    api.serve_page = lambda limit, offset: RequestPage((replace(ours, payload={}),), 1, 1, False)
    assert scan(api, store).finding is Finding.FOUND


@pytest.mark.parametrize("created_at", [NOW - P.clock_margin - 1, NOW + P.settling_time + P.clock_margin + 1])
def test_a_hidden_payload_at_another_time_is_not_ours(api: Any, store: Any, created_at: Any) -> None:
    api.add({}, created_at=created_at)
    assert scan(api, store).finding is Finding.ABSENT


def test_a_hidden_payload_of_another_entry_is_not_ours(api: Any, store: Any) -> None:
    theirs = api.add({})
    store.create(submitted(a_post(OTHER, fingerprint="other"), theirs.request_id, NOW))
    assert scan(api, store).finding is Finding.ABSENT


def test_a_request_that_is_listed_and_not_known_by_id_is_of_the_console_once_ours_would_be_known(
    api: Any, store: Any
) -> None:
    api.add({}, request_id="console")
    api.hidden.add("console")
    assert scan(api, store, now=NOW + P.settling_time - 1).finding is Finding.UNDECIDED
    assert scan(api, store, now=NOW + P.settling_time + 1).finding is Finding.ABSENT


def test_a_request_of_another_model_without_an_image_is_not_ours(api: Any, store: Any) -> None:
    api.add({"prompt": "a dog"}, model="wan2.6-t2v")
    assert scan(api, store).finding is Finding.ABSENT


def test_an_unreadable_list_is_inconclusive(api: Any, store: Any) -> None:
    api.list_error = WanLookupError("HTTP 502")
    result = scan(api, store)
    assert result.finding is Finding.INCONCLUSIVE
    assert "HTTP 502" in result.reason


def test_a_person_can_reconcile_without_the_request(api: Any, store: Any) -> None:
    ours = api.add(SENT)
    assert scan(api, store, request=None).record == ours


# The positive control: what a proof of absence requires.


def test_an_empty_list_proves_nothing(api: Any, store: Any) -> None:
    api.records.clear()
    result = scan(api, store)
    assert result.finding is Finding.INCONCLUSIVE
    assert "empty" in result.reason


def test_a_list_that_does_not_reach_back_to_the_submission_proves_nothing(api: Any, store: Any) -> None:
    api.records.clear()
    for n in range(3):
        api.add({"seed": n}, created_at=NOW - P.clock_margin + 1 + n)
    assert "reach back" in scan(api, store).reason
    api.records.append(replace(api.records[0], request_id="older", created_at=NOW - P.clock_margin - 1))
    assert scan(api, store).finding is Finding.ABSENT


def test_an_earlier_request_of_the_ledger_is_a_control_in_a_list_that_is_whole(api: Any, store: Any) -> None:
    api.records.clear()
    known = api.add({"seed": 1}, created_at=NOW - 60)
    assert scan(api, store).finding is Finding.INCONCLUSIVE
    entry = submitted(a_post(OTHER, fingerprint="other", seed=1, now=NOW - 60), known.request_id, NOW - 60)
    store.create(entry)
    assert scan(api, store).finding is Finding.ABSENT
    foreign = replace(a_post(), account="0" * 16)
    assert scan(api, store, foreign).finding is Finding.INCONCLUSIVE


def test_a_list_that_lacks_what_was_accepted_since_proves_nothing(api: Any, store: Any) -> None:
    store.create(submitted(a_post(OTHER, fingerprint="other"), "theirs", NOW + 1))
    assert scan(api, store, now=NOW + 60).finding is Finding.UNDECIDED
    late = scan(api, store, now=NOW + P.list_lag + 2)
    assert late.finding is Finding.INCONCLUSIVE
    assert "theirs" in late.reason


def test_another_key_proves_an_absence_only_with_a_request_of_the_first_key(api: Any, store: Any) -> None:
    mine = replace(a_post(), key_id="aaaaaaaa")
    assert "API key" in scan(api, store, mine).reason
    theirs = api.add({"seed": 1})
    stored = submitted(a_post(OTHER, fingerprint="other", seed=1), theirs.request_id, NOW)
    store.create(replace(stored, key_id="aaaaaaaa"))
    assert scan(api, store, mine).finding is Finding.ABSENT
    ours = api.add(SENT)
    assert scan(api, store, mine).record == ours


def test_a_list_that_has_to_be_filtered_proves_an_absence_only_with_a_request_of_the_same_model(
    api: Any, store: Any
) -> None:
    refuse_unfiltered(api)
    assert "filtered by model" in scan(api, store).reason
    theirs = api.add({"seed": 1})
    store.create(submitted(a_post(OTHER, fingerprint="other", seed=1), theirs.request_id, NOW))
    assert scan(api, store).finding is Finding.ABSENT
    ours = api.add(SENT)
    assert scan(api, store).record == ours


def refuse_unfiltered(api: Any) -> None:
    list_requests = api.list_requests

    def filtered_only(*, all_models: bool = False, **more: Any) -> Any:
        if all_models:
            raise WanBadRequestError("HTTP 400: model_id (Required parameter is missing)")
        return list_requests(**more)

    api.list_requests = filtered_only


def test_a_request_that_was_filed_under_another_model_is_found(api: Any, store: Any) -> None:
    ours = api.add(SENT, model="wan2.6-i2v-internal")
    list_requests = api.list_requests

    def by_model(*, model_id: str | None = None, all_models: bool = False, **more: Any) -> Any:
        page = list_requests(**more)
        records = tuple(record for record in page.records if all_models or record.model == model_id)
        return replace(page, records=records, size=len(records))

    api.list_requests = by_model
    assert scan(api, store).record == ours


def test_a_hidden_seed_beside_another_length_is_not_ours(api: Any, store: Any) -> None:
    api.add({"prompt": "a cat", "duration": 10})
    assert scan(api, store).finding is Finding.ABSENT
    api.add({"prompt": "a cat", "duration": 5}, request_id="odd")
    assert scan(api, store).candidates == ("odd",)


def test_a_record_that_can_not_be_fetched_on_its_own_may_be_ours(api: Any, store: Any) -> None:
    api.add({}, request_id="mute")

    def unreadable(request_id: str) -> Any:
        raise WanLookupError("HTTP 502")

    api.get_request = unreadable
    result = scan(api, store, now=NOW + 2 * P.settling_time)
    assert (result.finding, result.candidates) == (Finding.INCONCLUSIVE, ("mute",))


@pytest.mark.parametrize("payload", [{}, {**SENT, "prompt": "elaborated"}], ids=["hidden", "rewritten"])
def test_a_request_whose_payload_the_list_hides_or_rewrites_may_run_though_the_list_calls_it_failed(
    api: Any, store: Any, payload: dict[str, Any]
) -> None:
    entry = a_post(drawn=not payload)
    running = api.add(payload or SENT)
    list_requests = api.list_requests

    def list_as_failed(**given: Any) -> RequestPage:
        page: RequestPage = list_requests(**given)
        failed: dict[str, Any] = {"status": RequestStatus.FAILED, "status_text": "failed", "payload": payload}
        changed = (replace(each, **failed) if each.request_id == running.request_id else each for each in page.records)
        return replace(page, records=tuple(changed))

    api.list_requests = list_as_failed
    expected = Finding.INCONCLUSIVE if payload else Finding.FOUND
    assert scan(api, store, entry, now=NOW + P.settling_time + 1).finding is expected
    api.turn(running.request_id, "failed")
    assert scan(api, store, entry, now=NOW + P.settling_time + 1).finding is Finding.ABSENT


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_hidden_payload_that_is_not_charged_does_not_matter(api: Any, store: Any, status: str) -> None:
    api.add({}, status)
    assert scan(api, store).finding is Finding.ABSENT


@pytest.mark.parametrize(
    ("value", "finding"),
    [
        ("seven", Finding.INCONCLUSIVE),
        (True, Finding.INCONCLUSIVE),
        (7.5, Finding.INCONCLUSIVE),
        (float("inf"), Finding.INCONCLUSIVE),
        ("nan", Finding.INCONCLUSIVE),
        ([7], Finding.INCONCLUSIVE),
        ("7" * 50, Finding.ABSENT),
        ("+7", Finding.FOUND),
        ("-7", Finding.ABSENT),
        ("7e0", Finding.FOUND),
    ],
)
def test_a_seed_that_is_no_number_is_a_hidden_one(api: Any, store: Any, value: Any, finding: Finding) -> None:
    api.add({**SENT, "seed": value})
    assert scan(api, store).finding is finding


def test_a_seed_is_found_in_lists_and_under_any_capitals_and_not_deeper_than_services_write_it(
    api: Any, store: Any
) -> None:
    api.add({"inputs": [{"image": "x"}, {"SEED": 7}]}, request_id="listed")
    assert scan(api, store).record.request_id == "listed"
    api.records = [record for record in api.records if record.request_id != "listed"]
    api.add({"a": {"b": {"c": {"d": {"seed": 7}}}}}, request_id="deep")
    assert scan(api, store).candidates == ("deep",)


def test_a_prompt_that_the_service_may_not_elaborate_contradicts_unless_one_is_the_beginning_of_the_other(
    api: Any, store: Any
) -> None:
    verbatim = replace(REQUEST, prompt_extend=False)
    entry = replace(a_post(), payload_sha256=hash_payload(verbatim.with_seed(7).to_payload()))
    for prompt, finding in [
        ("a dog", Finding.INCONCLUSIVE),
        ("a cat, cut", Finding.FOUND),
        ("a  c", Finding.FOUND),
        (None, Finding.FOUND),
    ]:
        record = api.add({"seed": 7, "prompt": prompt})
        assert scan(api, store, entry, verbatim).finding is finding, prompt
        api.records.remove(record)


@pytest.mark.parametrize(
    "echo", ["cafe\u0301 & co", "caf\u00e9 &amp; co", "CAF\u00c9  &\u00a0CO"], ids=["decomposed", "HTML", "capitals"]
)
def test_a_prompt_whose_characters_the_service_writes_in_another_form_does_not_contradict(
    api: Any, store: Any, echo: str
) -> None:
    verbatim = replace(REQUEST, prompt="caf\u00e9 & co", prompt_extend=False)
    entry = replace(a_post(), payload_sha256=hash_payload(verbatim.with_seed(7).to_payload()))
    for payload, finding in [({"seed": 7}, Finding.FOUND), ({}, Finding.INCONCLUSIVE)]:
        record = api.add({**payload, "img_url": SENT["img_url"], "prompt": echo})
        assert scan(api, store, entry, verbatim).finding is finding
        api.records.remove(record)


def test_with_the_users_seed_an_echo_may_write_the_same_values_in_another_way(api: Any, store: Any) -> None:
    entry = a_post(drawn=False)
    cases: list[tuple[dict[str, Any], Finding]] = [
        ({"seed": "7", "duration": "5", "resolution": "720p", "watermark": "false"}, Finding.FOUND),
        ({"seed": 7.0, "audio_url": None}, Finding.FOUND),
        ({"seed": "7", "duration": "5.0", "worker": "w1"}, Finding.FOUND),
        ({"seed": "7", "duration": "10"}, Finding.ABSENT),
        ({"seed": "7", "watermark": "true"}, Finding.ABSENT),
    ]
    for change, finding in cases:
        record = api.add({**SENT, **change})
        assert scan(api, store, entry).finding is finding, change
        # Without the request nobody can tell.
        unknown = Finding.ABSENT if change.get("duration") == "10" else Finding.UNDECIDED
        assert scan(api, store, entry, None).finding is unknown, change
        api.records.remove(record)
    record = api.add({"img_url": SENT["img_url"], "seed": "7"})  # defaults may be left out
    assert scan(api, store, entry).finding is Finding.FOUND
    api.records.remove(record)
    without_image = {name: value for name, value in SENT.items() if name != "img_url"}
    api.add({**without_image, "seed": "7"})
    assert scan(api, store, entry).finding is Finding.UNDECIDED


@pytest.mark.parametrize(
    ("sent", "listed", "finding"),
    [
        ("short", "SHORT", Finding.FOUND),
        ("short", "long", Finding.ABSENT),
        (5, "5.0", Finding.FOUND),
        (5, 10, Finding.ABSENT),
    ],
)
def test_with_the_users_seed_the_duration_of_a_raw_payload_is_a_number_if_it_was_sent_as_one(
    api: Any, store: Any, sent: Any, listed: Any, finding: Finding
) -> None:
    raw = RawRequest("wan9-x2v", {"prompt": "a cat", "duration": sent, "seed": 7})
    digest = hash_payload(raw.to_payload(), raw.model)
    entry = replace(a_post(drawn=False), model=raw.model, payload_sha256=digest, resolution="", duration=raw.duration)
    api.add({**raw.payload, "duration": listed, "fps": 24})
    assert scan(api, store, entry, raw).finding is finding


def test_with_the_users_seed_a_payload_of_an_unknown_model_is_compared_field_by_field(api: Any, store: Any) -> None:
    raw = RawRequest(
        "wan9-x2v", {"prompt": "a cat", "image": "https://x.example/cat.png?sig=1", "style": "photo", "seed": 7}
    )
    digest = hash_payload(raw.to_payload(), raw.model)
    entry = replace(a_post(drawn=False), model=raw.model, payload_sha256=digest, resolution="", duration=0)
    cases: list[tuple[dict[str, Any], Finding]] = [
        ({"image": "https://x.example/cat.png?sig=2", "seed": "7", "fps": 24, "duration": 5}, Finding.FOUND),
        ({"prompt": "A CAT ", "fps": 24}, Finding.FOUND),
        ({"prompt": "a dog", "fps": 24}, Finding.UNDECIDED),
        ({"image": "https://storage.service.example/copy.png"}, Finding.UNDECIDED),
        ({"prompt": "a dog", "style": "drawn"}, Finding.ABSENT),
    ]
    for change, finding in cases:
        record = api.add({**raw.payload, **change})
        assert scan(api, store, entry, raw).finding is finding, change
        api.records.remove(record)
    partly = {name: value for name, value in raw.payload.items() if name != "prompt"}
    api.add({**partly, "fps": 24})
    assert scan(api, store, entry, raw).finding is Finding.UNDECIDED


def test_with_the_users_seed_a_request_without_a_time_is_inconclusive(api: Any, store: Any) -> None:
    api.add(SENT, request_id="timeless", created_at=None)
    result = scan(api, store, a_post(drawn=False))
    assert (result.finding, result.candidates) == (Finding.INCONCLUSIVE, ("timeless",))
    assert "no time" in result.reason


def test_with_the_users_seed_several_posts_of_one_entry_may_have_several_requests(api: Any, store: Any) -> None:
    entry = replace(a_post(drawn=False), posts=2)
    one, two = api.add(SENT, created_at=NOW + 1), api.add(SENT, created_at=NOW + 2)
    result = scan(api, store, entry)
    assert (result.record, result.duplicates) == (one, (two,))
    api.add(SENT, created_at=NOW + 3)
    assert scan(api, store, entry).finding is Finding.INCONCLUSIVE


# The late scan for a second request.


def late_scan(api: Any, store: Any, entry: Any) -> Any:
    found = find_duplicates(api, store, entry, P)
    return None if found is None else [record.request_id for record in found]


def test_the_late_scan_finds_what_is_charged_beside_the_request_of_the_entry(api: Any, store: Any) -> None:
    entry = submitted(a_post(), "mine", NOW)
    api.add(SENT, request_id="mine")
    api.add(SENT, "failed", request_id="dead")
    api.add({**SENT, "seed": 8}, request_id="foreign")
    api.add({**SENT, "duration": 10}, request_id="longer")
    api.add(SENT, request_id="second")
    api.add({**SENT, "prompt": "elaborated"}, request_id="third")
    assert late_scan(api, store, entry) == ["third", "second"]
    store.create(submitted(a_post(OTHER, fingerprint="other"), "third", NOW))
    assert late_scan(api, store, entry) == ["second"]


def test_a_list_that_writes_ids_in_other_capitals_shows_neither_a_duplicate_nor_a_request_of_nobody(
    api: Any, store: Any
) -> None:
    api.add(SENT, request_id="0b8f2c1e-abc")
    mine = submitted(a_post(), "0B8F2C1E-ABC", NOW)
    assert late_scan(api, store, mine) == []
    again = reclaim(failed(mine, "internal error", False, NOW), a_claim())
    assert scan(api, store, in_doubt(again, "reset", NOW)).finding is Finding.ABSENT
    store.create(replace(mine, fingerprint="other", owner=str(OTHER), seed_drawn=False))
    assert scan(api, store, a_post(drawn=False)).finding is Finding.ABSENT


def test_the_late_scan_covers_all_seeds_that_were_ever_sent(api: Any, store: Any) -> None:
    again = replace(reclaim(in_doubt(a_post(), "reset", NOW), a_claim(seed=9, now=NOW + 400)), intent_at=NOW + 400)
    api.add(SENT, request_id="first")
    api.add({**SENT, "seed": 9}, request_id="mine")
    assert late_scan(api, store, submitted(again, "mine", NOW + 401)) == ["first"]


def test_the_late_scan_with_the_users_seed_takes_only_the_same_payload_in_time_and_waits_for_twins(
    api: Any, store: Any
) -> None:
    entry = submitted(a_post(drawn=False), "mine", NOW)
    until = NOW + P.settling_time + P.clock_margin
    api.add(SENT, request_id="second", created_at=until)
    api.add(SENT, request_id="later", created_at=until + 1)
    api.add({**SENT, "prompt": "a dog"}, request_id="dog")
    assert late_scan(api, store, entry) == ["second"]
    store.create(in_doubt(a_post(OTHER, drawn=False, fingerprint="other"), "reset", NOW))
    assert late_scan(api, store, entry) is None


def test_the_late_scan_finds_out_nothing_from_a_list_that_is_empty_or_lacks_the_request_that_is_known(
    api: Any, store: Any
) -> None:
    entry = submitted(a_post(), "mine", NOW)
    # Of a clip that has no request any more, a list that reaches back is enough.
    assert late_scan(api, store, in_doubt(a_post(), "reset", NOW)) == []
    api.records.clear()
    assert late_scan(api, store, entry) is None
    api.add({**SENT, "seed": 8}, created_at=NOW + 60)
    assert late_scan(api, store, entry) is None
    api.add(SENT, request_id="mine")
    assert late_scan(api, store, entry) == []


def test_the_late_scan_finds_out_nothing_from_a_list_that_can_not_be_read(api: Any, store: Any) -> None:
    api.list_error = WanLookupError("HTTP 502")
    assert late_scan(api, store, submitted(a_post(), "mine", NOW)) is None


@pytest.mark.parametrize(
    "payload",
    [
        {"input": {"prompt": "a cat"}, "parameters": {"seed": 42}},
        {"prompt": "a cat", "shots": [{"seed": 1}, {"seed": 2}]},
        {"prompt": "a cat"},
    ],
    ids=str,
)
def test_an_unknown_model_that_drops_our_seed_and_shows_another_is_inconclusive(
    api: Any, store: Any, payload: dict[str, Any]
) -> None:
    raw = RawRequest("wan9-x2v", payload).with_seed(7)
    digest = hash_payload(raw.to_payload(), raw.model)
    entry = replace(a_post(), model=raw.model, payload_sha256=digest, resolution="", duration=0)
    echo = payload if "seed" in str(payload) else {**payload, "seed": 100_000}
    api.add(echo)
    assert scan(api, store, entry, raw).finding is Finding.INCONCLUSIVE
    assert scan(api, store, entry, None).finding is Finding.INCONCLUSIVE
    api.records.clear()
    api.add({"seed": 1}, "success", created_at=NOW - 7200)
    api.add({**echo, "prompt": "a dog", "input": {"prompt": "a dog"}})
    assert scan(api, store, entry, raw).finding is Finding.ABSENT
