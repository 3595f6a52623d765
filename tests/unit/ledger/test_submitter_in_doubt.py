# SPDX-License-Identifier: Apache-2.0
"""Lost responses and claims of other tasks: messages, delays and scans."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.api.errors import (
    WanInDoubtError,
    WanLookupError,
    WanRateLimitError,
)
from airflow_provider_wan.ledger import (
    EntryState,
    LedgerBusyError,
    Policy,
    Submitter,
)
from airflow_provider_wan.ledger import entry as entries
from dev.testkit.ledger import FINGERPRINT, ME, MY_RETRY, NOW, OTHER, REQUEST, a_claim, a_post

LOST = WanInDoubtError("The submission got no response")
P = Policy()


def entry_in(store: Any) -> Any:
    return store.read(FINGERPRINT).entry


def test_a_lost_response_is_found_in_the_list(submit: Any, api: Any, clock: Any) -> None:
    api.answers = [("accepted", LOST)]
    got = submit()
    assert (got.entry.request_id, got.paid_now, len(api.posts), clock.slept) == ("r1", False, 1, [])


def test_a_lost_submission_is_sent_again_after_two_scans_with_the_same_seed(submit: Any, api: Any, clock: Any) -> None:
    api.answers = [LOST]
    got = submit()
    assert got.paid_now
    assert clock.slept == [P.absence_confirm_interval]
    assert len(api.pages) == 2
    assert api.posts[0] == api.posts[1]
    assert [past.ended for past in got.entry.history] == ["absent"]


def test_a_request_that_appears_between_the_scans_is_adopted(submit: Any, api: Any, clock: Any) -> None:
    api.answers = [LOST]
    clock.on_sleep = lambda: api.add(api.posts[0])
    assert (submit().entry.request_id, len(api.posts)) == ("r1", 1)


def test_a_deadline_before_the_second_scan_stops_with_an_explanation(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError, match="second scan in 360 s"):
        submit(deadline=NOW + 30)
    assert (entry_in(store).state, len(api.posts)) == (EntryState.IN_DOUBT, 1)
    clock.now += P.absence_confirm_interval
    assert submit().paid_now


def test_another_process_starts_its_two_scans_again(submit: Any, api: Any, store: Any, clock: Any) -> None:
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError):
        submit(deadline=NOW)
    clock.now += P.absence_confirm_interval
    Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep).submit_once(
        REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY
    )
    assert clock.slept == [P.absence_confirm_interval]


def test_on_doubt_fail_stops_without_a_scan_and_says_what_to_do(submit: Any, api: Any, store: Any) -> None:
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError) as caught:
        submit(on_doubt="fail")
    message = str(caught.value)
    assert api.pages == []
    for word in (FINGERPRINT, "2023-11-14T22:13:20+00:00", f"seed {entry_in(store).seed}", "--request-id", "--absent"):
        assert word in message
    assert "sig=1" not in message


def test_an_unreadable_list_stops_the_submission(submit: Any, api: Any) -> None:
    api.answers = [LOST]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError, match="HTTP 502"):
        submit()
    api.list_error = None
    assert submit(MY_RETRY).paid_now


def test_a_person_can_adopt_a_request(submit: Any, api: Any, submitter: Any, store: Any) -> None:
    api.answers = [("accepted", LOST)]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        submit()
    submitter.ledger.adopt_request(FINGERPRINT, "r1")
    assert (submit().entry.request_id, len(api.posts)) == ("r1", 1)


def test_a_person_can_confirm_the_absence(submit: Any, api: Any, submitter: Any) -> None:
    api.answers = [LOST]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        submit()
    submitter.ledger.confirm_absence(FINGERPRINT)
    assert submit().paid_now


def test_another_task_waits_for_the_owner_and_continues_with_its_request(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    version = store.create(a_post(OTHER))

    def owner_gets_its_response() -> None:
        if len(clock.slept) == 5:
            theirs = api.add(REQUEST.with_seed(7).to_payload())
            store.replace(entries.submitted(a_post(OTHER), theirs.request_id, clock.now), version)

    clock.on_sleep = owner_gets_its_response
    got = submit()
    assert (got.entry.request_id, got.paid_now, api.posts) == ("r1", False, [])


def test_waiting_for_the_owner_ends_at_the_deadline_and_names_it(submit: Any, store: Any, api: Any) -> None:
    store.create(a_post(OTHER))
    with pytest.raises(LedgerBusyError, match="dag/other/clip/-1"):
        submit(deadline=NOW + 20)
    assert api.posts == []


def test_an_expired_claim_is_taken_over_only_after_two_scans(submit: Any, store: Any, api: Any, clock: Any) -> None:
    store.create(a_post(OTHER))
    got = submit()
    assert got.paid_now
    assert sum(clock.slept) >= P.lease + P.absence_confirm_interval
    assert len(api.pages) == 2
    assert [past.ended for past in got.entry.history] == ["absent"]


def test_an_expired_claim_whose_post_was_accepted_is_adopted(submit: Any, store: Any, api: Any) -> None:
    store.create(a_post(OTHER))
    api.add(REQUEST.with_seed(7).to_payload())
    assert (submit().entry.request_id, api.posts) == ("r1", [])


def test_our_own_claim_under_which_nothing_was_sent_is_taken_over_at_once(submit: Any, store: Any, clock: Any) -> None:
    store.create(a_claim(ME))
    got = submit(MY_RETRY)
    assert (got.paid_now, clock.slept, [past.ended for past in got.entry.history]) == (True, [], ["unsent"])


def test_an_owner_whose_claim_was_taken_over_while_it_waited_does_not_submit(api: Any, store: Any, clock: Any) -> None:
    api.answers = [WanRateLimitError("429", 60.0)]
    slow = Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep)
    taken: list[Any] = []

    def take_over() -> None:
        if not taken:
            taken.append(None)
            quick = Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep)
            taken[0] = quick.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY)

    clock.on_sleep = take_over
    got = slow.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    assert (got.paid_now, taken[0].paid_now) == (False, True)
    assert got.entry.request_id == taken[0].entry.request_id
    assert len(api.posts) == 2  # the refused one, and the one that was paid for


def test_an_acceptance_after_a_take_over_is_recorded_as_a_duplicate_charge_and_cancelled(
    submit: Any, store: Any, api: Any
) -> None:
    api_submit = api.submit

    def taken_over_meanwhile(request: Any) -> Any:
        stored = store.read(FINGERPRINT)
        theirs = api.add({**REQUEST.to_payload(), "seed": 9})
        reclaimed = entries.record_intent(entries.reclaim(stored.entry, a_claim(OTHER, seed=9)), NOW)
        store.replace(entries.submitted(reclaimed, theirs.request_id, NOW), stored.version)
        return api_submit(request)

    api.submit = taken_over_meanwhile
    got = submit()
    assert (got.entry.request_id, got.paid_now) == ("r1", False)
    assert [(past.request_id, past.ended) for past in got.entry.history] == [(None, "absent"), ("r2", "duplicate")]
    assert api.cancelled == ["r2"]
