# SPDX-License-Identifier: Apache-2.0
"""Lost answers, and claims of others: the words, the waits and the looks."""

from __future__ import annotations

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
    Submission,
)
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.words import doubt_text
from dev.testkit.ledger import FINGERPRINT, ME, MY_RETRY, NOW, OTHER, REQUEST, a_claim, a_post

LOST = WanInDoubtError("The submission got no answer")
P = Policy()


def held(store):
    return store.read(FINGERPRINT).entry


def test_a_lost_answer_is_found_in_the_list(ensure, api, clock):
    api.answers = [("accepted", LOST)]
    got = ensure()
    assert (got.entry.request_id, got.paid_now, len(api.posts), clock.slept) == ("r1", False, 1, [])


def test_a_lost_submission_is_sent_again_after_two_looks_with_the_same_seed(ensure, api, clock):
    api.answers = [LOST]
    got = ensure()
    assert got.paid_now
    assert clock.slept == [P.settle]
    assert len(api.pages) == 2
    assert api.posts[0] == api.posts[1]
    assert [past.ended for past in got.entry.history] == ["absent"]


def test_what_is_advised_can_be_done_where_the_entry_lies(store):
    class Hidden:
        lists = False

    entry = a_post()
    assert f"wan-provider reconcile {entry.fingerprint}" in doubt_text(entry, "why", store)
    assert "wan-provider" not in doubt_text(entry, "why", Hidden())
    assert f"seed {entry.seed}" in doubt_text(entry, "why", Hidden())


def test_a_request_that_turns_up_between_the_looks_is_adopted(ensure, api, clock):
    api.answers = [LOST]
    clock.on_sleep = lambda: api.add(api.posts[0])
    assert (ensure().entry.request_id, len(api.posts)) == ("r1", 1)


def test_before_the_second_look_the_deadline_stops_it_and_says_so(ensure, store, api, clock):
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError, match="second look in 90 s"):
        ensure(deadline=NOW + 30)
    assert (held(store).state, len(api.posts)) == (EntryState.IN_DOUBT, 1)
    clock.now += P.settle
    assert ensure().paid_now


def test_another_process_starts_its_two_looks_anew(ensure, api, store, clock):
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError):
        ensure(deadline=NOW)
    clock.now += P.settle
    Submission(api, store, clock=clock, sleep=clock.sleep).ensure(REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY)
    assert clock.slept == [P.settle]


def test_on_doubt_fail_stops_without_looking_and_tells_a_person_what_to_do(ensure, api, store):
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError) as caught:
        ensure(on_doubt="fail")
    told = str(caught.value)
    assert api.pages == []
    for word in (FINGERPRINT, "2023-11-14T22:13:20+00:00", f"seed {held(store).seed}", "--request-id", "--absent"):
        assert word in told
    assert "sig=1" not in told


def test_a_list_that_does_not_tell_stops_it(ensure, api):
    api.answers = [LOST]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError, match="HTTP 502"):
        ensure()
    api.list_error = None
    assert ensure(MY_RETRY).paid_now


def test_a_persons_verdict_settles_a_doubt(ensure, api, submission, store):
    api.answers = [("accepted", LOST)]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        ensure()
    submission.adopt(FINGERPRINT, "r1")
    assert (ensure().entry.request_id, len(api.posts)) == ("r1", 1)


def test_a_persons_verdict_that_nothing_came_lets_it_be_submitted(ensure, api, submission):
    api.answers = [LOST]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        ensure()
    submission.absent(FINGERPRINT)
    assert ensure().paid_now


def test_another_task_waits_for_the_one_that_pays_and_follows_it(ensure, store, api, clock):
    version = store.create(a_post(OTHER))

    def other_gets_its_answer():
        if len(clock.slept) == 5:
            theirs = api.add(REQUEST.with_seed(7).to_payload())
            store.replace(entries.submitted(a_post(OTHER), theirs.request_id, clock.now), version)

    clock.on_sleep = other_gets_its_answer
    got = ensure()
    assert (got.entry.request_id, got.paid_now, api.posts) == ("r1", False, [])


def test_following_ends_at_the_deadline_with_the_name_of_the_other(ensure, store, api):
    store.create(a_post(OTHER))
    with pytest.raises(LedgerBusyError, match="dag/other/clip/-1"):
        ensure(deadline=NOW + 20)
    assert api.posts == []


def test_a_claim_without_a_sign_of_life_is_taken_over_only_after_two_looks(ensure, store, api, clock):
    store.create(a_post(OTHER))
    got = ensure()
    assert got.paid_now
    assert sum(clock.slept) >= P.lease + P.settle
    assert len(api.pages) == 2
    assert [past.ended for past in got.entry.history] == ["absent"]


def test_a_stale_claim_whose_post_arrived_is_adopted(ensure, store, api):
    store.create(a_post(OTHER))
    api.add(REQUEST.with_seed(7).to_payload())
    assert (ensure().entry.request_id, api.posts) == ("r1", [])


def test_our_own_claim_under_which_nothing_was_sent_is_taken_over_at_once(ensure, store, clock):
    store.create(a_claim(ME))
    got = ensure(MY_RETRY)
    assert (got.paid_now, clock.slept, [past.ended for past in got.entry.history]) == (True, [], ["unsent"])


def test_an_owner_that_was_taken_over_while_it_waited_does_not_submit(api, store, clock):
    api.answers = [WanRateLimitError("429", 60.0)]
    slow = Submission(api, store, clock=clock, sleep=clock.sleep)
    taken = []

    def take_over():
        if not taken:
            taken.append(None)
            quick = Submission(api, store, clock=clock, sleep=clock.sleep)
            taken[0] = quick.ensure(REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY)

    clock.on_sleep = take_over
    got = slow.ensure(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    assert (got.paid_now, taken[0].paid_now) == (False, True)
    assert got.entry.request_id == taken[0].entry.request_id
    assert len(api.posts) == 2  # the refused one, and the one that was paid for


def test_an_acceptance_after_a_take_over_is_kept_as_a_stray_and_its_cancellation_asked_for(ensure, store, api):
    submit = api.submit

    def taken_over_meanwhile(request):
        held_now = store.read(FINGERPRINT)
        theirs = api.add({**REQUEST.to_payload(), "seed": 9})
        reclaimed = entries.posting(entries.reclaim(held_now.entry, a_claim(OTHER, seed=9)), NOW)
        store.replace(entries.submitted(reclaimed, theirs.request_id, NOW), held_now.version)
        return submit(request)

    api.submit = taken_over_meanwhile
    got = ensure()
    assert (got.entry.request_id, got.paid_now) == ("r1", False)
    assert [(past.request_id, past.ended) for past in got.entry.history] == [(None, "absent"), ("r2", "stray")]
    assert api.cancelled == ["r2"]
