# SPDX-License-Identifier: Apache-2.0
"""What the exploration in ``tests/explore`` can't show: the words, the waits, the order, the figures."""

from __future__ import annotations

import pytest

from airflow_provider_wan.api.errors import (
    WanBudgetError,
    WanCapacityError,
    WanClipFailedError,
    WanConnectError,
    WanCreditError,
    WanInDoubtError,
    WanRateLimitError,
    WanValidationError,
)
from airflow_provider_wan.ledger import (
    EntryState,
    LedgerUnavailableError,
    LedgerUnsafeError,
    Policy,
    cost_of,
)
from dev.testkit.ledger import FINGERPRINT, ME, MY_RETRY, NOW, REQUEST
from tests.unit.ledger.conftest import PRICES

P = Policy()


def held(store):
    return store.read(FINGERPRINT).entry


def test_a_new_clip_is_claimed_submitted_once_and_noted(ensure, store, api):
    got = ensure(scope="run:d/1")
    assert (got.paid_now, got.record.request_id, got.entry) == (True, "r1", held(store))
    entry = got.entry
    assert (entry.state, entry.request_id, entry.owner, entry.scope) == (
        EntryState.SUBMITTED,
        "r1",
        str(ME),
        "run:d/1",
    )
    assert (entry.cost_estimate, entry.cost, entry.seed_drawn) == (0.5, None, True)
    assert api.posts == [REQUEST.with_seed(entry.seed).to_payload()]


def test_the_users_seed_is_sent_and_none_is_drawn(ensure, store, api):
    ensure(request=REQUEST.with_seed(0))
    assert api.posts[0]["seed"] == 0
    assert (held(store).seed, held(store).seed_drawn) == (0, False)


def test_the_seed_is_in_the_ledger_before_it_is_sent(ensure, store, api, clock):
    seen = []
    submit = api.submit
    api.submit = lambda request: (seen.append((held(store), request.seed)), submit(request))[1]
    ensure()
    ((entry, seed),) = seen
    assert (entry.state, entry.seed, entry.posting_at) == (EntryState.CLAIMED, seed, NOW)


def test_a_second_call_picks_up_the_first_and_pays_nothing(ensure, api):
    ensure()
    again = ensure(MY_RETRY)
    assert (again.paid_now, again.record.request_id, len(api.posts)) == (False, "r1", 1)


def test_what_fails_before_the_payment_leaves_nothing_behind(ensure, store, api):
    def build(entry):
        assert entry.fingerprint == FINGERPRINT
        raise TypeError("can't serialize the trigger")

    with pytest.raises(TypeError, match="serialize"):
        ensure(before_pay=build)
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


@pytest.mark.parametrize(
    ("prices", "max_cost", "words"),
    [(PRICES, 0.49, r"\$0.50"), ({}, 10.0, "no price for 720P"), (None, 1.0, "no price")],
)
def test_a_clip_over_budget_is_not_paid_for(submission, api, store, prices, max_cost, words):
    with pytest.raises(WanBudgetError, match=words):
        submission.ensure(REQUEST, fingerprint=FINGERPRINT, owner=ME, prices=prices, max_cost=max_cost)
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


def test_a_budget_that_is_just_enough_is_enough(ensure):
    assert ensure(max_cost=0.5).paid_now


def test_a_budget_does_not_stop_what_is_paid_for_already(ensure, api):
    ensure()
    assert not ensure(MY_RETRY, max_cost=0.01).paid_now


def test_the_price_of_a_clip_is_by_second_and_resolution():
    assert cost_of(REQUEST, PRICES) == 0.5
    assert cost_of(REQUEST, {"1080P": 1}) is None


def test_a_store_that_ignores_conditions_is_refused_before_any_payment(ensure, store, api, monkeypatch):
    monkeypatch.setattr(store, "probe", lambda: (_ for _ in ()).throw(LedgerUnsafeError("ignores If-None-Match")))
    with pytest.raises(LedgerUnsafeError):
        ensure()
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


def test_retry_after_is_obeyed_under_the_same_claim(ensure, store, api, clock):
    api.answers = [WanRateLimitError("429", 700.0)]
    ensure()
    assert sum(clock.slept) == pytest.approx(700)
    assert max(clock.slept) <= P.lease / 3
    assert api.posts[0] == api.posts[1]
    assert held(store).history == ()


def test_while_it_waits_the_claim_shows_that_nothing_was_sent_and_that_it_lives(ensure, store, api, clock):
    api.answers = [WanCapacityError("503", 600.0)]
    seen = []
    clock.on_sleep = lambda: seen.append((held(store).posting_at, clock.now - held(store).renewed_at))
    ensure()
    assert {posting for posting, _ in seen} == {None}
    assert max(silent for _, silent in seen) <= P.lease / 3


def test_without_retry_after_the_waits_grow_and_stay_bounded(ensure, api, clock):
    api.answers = [WanCapacityError("503") for _ in range(12)]
    waits, last = [], NOW
    submit = api.submit

    def timed(request):
        nonlocal last
        waits.append(clock.now - last)
        last = clock.now
        return submit(request)

    api.submit = timed
    ensure()
    assert waits[1] <= P.backoff < waits[3] < waits[5] <= P.backoff_limit
    assert max(waits) <= P.backoff_limit


def test_at_the_deadline_a_refusal_is_told_and_the_clip_may_be_tried_again(ensure, store, api, clock):
    api.answers = [WanRateLimitError("429", 100.0)]
    with pytest.raises(WanRateLimitError):
        ensure(deadline=NOW + 99)
    assert clock.slept == []
    assert (held(store).state, held(store).outcome.permanent, held(store).cost) == (EntryState.FAILED, False, 0)
    assert ensure(MY_RETRY).paid_now


def test_a_connection_that_never_comes_about_is_given_up_after_some_tries(ensure, api):
    api.answers = [WanConnectError("refused") for _ in range(99)]
    with pytest.raises(WanConnectError):
        ensure()
    assert len(api.posts) == P.connect_tries


def test_once_credit_is_there_a_refused_clip_is_submitted(ensure, api):
    api.answers = [WanCreditError("402")]
    with pytest.raises(WanCreditError):
        ensure()
    got = ensure(MY_RETRY)
    assert (got.paid_now, got.entry.history[0].request_id, got.entry.history[0].error) == (True, None, "402")


def test_a_failure_that_passes_is_paid_for_again_with_another_seed(ensure, api, submission):
    first = ensure().entry
    assert submission.finish(FINGERPRINT, api.turn("r1", "failed", "internal error")).state is EntryState.FAILED
    again = ensure(MY_RETRY)
    assert (again.paid_now, again.entry.request_id, again.entry.attempts) == (True, "r2", 2)
    assert again.entry.seed != first.seed


def test_a_failure_for_good_is_not_paid_for_again_and_names_the_way_out(ensure, api, submission):
    ensure()
    submission.finish(FINGERPRINT, api.turn("r1", "failed", "DataInspectionFailed"))
    with pytest.raises(WanClipFailedError, match=r"DataInspectionFailed.*force_new") as caught:
        ensure(MY_RETRY)
    assert (caught.value.permanent, len(api.posts)) == (True, 1)


def test_media_that_could_not_be_fetched_twice_is_not_tried_a_third_time(ensure, api, submission):
    for request_id in ("r1", "r2"):
        ensure()
        submission.finish(FINGERPRINT, api.turn(request_id, "failed", "Failed to download media"))
    with pytest.raises(WanClipFailedError):
        ensure()


def test_a_request_seen_cancelled_is_submitted_anew_once(ensure, api):
    ensure()
    api.turn("r1", "cancelled")
    assert ensure(MY_RETRY).entry.request_id == "r2"
    assert ensure(MY_RETRY).entry.request_id == "r2"
    assert len(api.posts) == 2


def test_a_finished_clip_comes_with_a_fresh_record_and_an_archived_one_without_a_call(ensure, api, submission):
    ensure()
    submission.finish(FINGERPRINT, api.turn("r1", "success"))
    assert ensure().record.status == "success"
    assert submission.archive(FINGERPRINT, "r1", "s3://b/k.mp4", "f" * 64).state is EntryState.ARCHIVED
    api.hidden.add("r1")
    got = ensure()
    assert (got.record, got.entry.archive_uri, got.paid_now) == (None, "s3://b/k.mp4", False)


def test_a_finished_clip_that_the_api_forgot_is_told_without_a_record(ensure, api, submission):
    ensure()
    submission.finish(FINGERPRINT, api.turn("r1", "success"))
    api.hidden.add("r1")
    assert (ensure().record, len(api.posts)) == (None, 1)


def test_a_running_clip_that_the_api_does_not_know_is_not_paid_for_again(ensure, api):
    ensure()
    api.hidden.add("r1")
    with pytest.raises(WanInDoubtError, match=r"r1.*same account"):
        ensure(MY_RETRY)
    assert len(api.posts) == 1


def test_a_ledger_that_is_away_when_the_id_must_be_noted_is_tried_again(ensure, store, api, clock, monkeypatch):
    replace, failures = store.replace, [3]

    def flaky(entry, version):
        if entry.state is EntryState.SUBMITTED and failures[0]:
            failures[0] -= 1
            raise LedgerUnavailableError("S3 is away")
        return replace(entry, version)

    monkeypatch.setattr(store, "replace", flaky)
    assert ensure().paid_now
    assert (held(store).request_id, clock.slept) == ("r1", [1, 2, 4])


def test_a_ledger_that_stays_away_loses_nothing(ensure, store, api, monkeypatch, caplog):
    replace = store.replace

    def away(entry, version):
        if entry.state is EntryState.SUBMITTED:
            raise LedgerUnavailableError("S3 is away")
        return replace(entry, version)

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", away)
        with pytest.raises(LedgerUnavailableError):
            ensure()
    assert "paid for as request r1" in caplog.text
    assert (ensure(MY_RETRY).entry.request_id, len(api.posts)) == ("r1", 1)


def test_a_ledger_that_can_not_be_read_stops_before_the_payment(ensure, store, api, monkeypatch):
    def away(fingerprint):
        raise LedgerUnavailableError("S3 is away")

    monkeypatch.setattr(store, "read", away)
    with pytest.raises(LedgerUnavailableError):
        ensure()
    assert api.posts == []


def test_the_outcome_of_an_earlier_request_does_not_touch_a_later_one(ensure, api, submission, store):
    ensure()
    old = api.turn("r1", "cancelled")
    ensure(MY_RETRY)
    assert submission.finish(FINGERPRINT, old).request_id == "r2"
    submission.archive(FINGERPRINT, "r1", "s3://b/k", "0" * 64)
    assert held(store).state is EntryState.SUBMITTED


def test_noting_an_outcome_twice_changes_nothing(ensure, api, submission, store):
    ensure()
    done = api.turn("r1", "success")
    first = submission.finish(FINGERPRINT, done)
    assert submission.finish(FINGERPRINT, done) == first == held(store)
    assert submission.finish("unknown", done) is None


def test_an_unknown_way_to_treat_a_doubt_is_refused(ensure):
    with pytest.raises(WanValidationError, match="on_doubt"):
        ensure(on_doubt="guess")
