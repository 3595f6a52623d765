# SPDX-License-Identifier: Apache-2.0
"""What the exploration in ``dev/explore`` can't show: messages, delays, order and costs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import (
    Paid,
    Retry,
    WanBudgetError,
    WanCapacityError,
    WanClipFailedError,
    WanConnectError,
    WanCreditError,
    WanLookupError,
    WanRateLimitError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.ledger import (
    EntryState,
    LedgerUnavailableError,
    LedgerUnsafeError,
    Policy,
    SubmitRequest,
    SubmitResult,
    Submitter,
    WaitReason,
)
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import submitter as submitter_module
from airflow_provider_wan.ledger.errors import LedgerRecordError
from dev.testkit.ledger import FINGERPRINT, ME, MY_RETRY, NOW, OTHER, REQUEST, PreparedCall, a_claim, a_post
from tests.unit.ledger.conftest import PRICES

P = Policy()
GRACE = submitter_module._DEADLINE_GRACE


def entry_in(store: Any) -> Any:
    return store.read(FINGERPRINT).entry


def test_a_new_clip_is_claimed_submitted_once_and_recorded(submit: Any, store: Any, api: Any) -> None:
    got = submit(scope="run:d/1")
    assert (got.paid_now, got.record.request_id, got.entry) == (True, "r1", entry_in(store))
    entry = got.entry
    assert (entry.state, entry.request_id, entry.owner, entry.scope) == (
        EntryState.SUBMITTED,
        "r1",
        str(ME),
        "run:d/1",
    )
    assert (entry.cost_estimate, entry.cost, entry.seed_drawn) == (0.5, None, True)
    assert api.posts == [REQUEST.with_seed(entry.seed).to_payload()]


def test_the_users_seed_is_sent_and_none_is_drawn(submit: Any, store: Any, api: Any) -> None:
    submit(request=REQUEST.with_seed(0))
    assert api.posts[0]["seed"] == 0
    assert (entry_in(store).seed, entry_in(store).seed_drawn) == (0, False)


def test_the_seed_is_in_the_ledger_before_it_is_sent(submit: Any, store: Any, api: Any, clock: Any) -> None:
    seen = []
    api_submit = api.submit

    def observed(request: Any) -> Any:
        seen.append((entry_in(store), request.seed))
        return api_submit(request)

    api.submit = observed
    submit()
    ((entry, seed),) = seen
    assert (entry.state, entry.seed, entry.intent_at) == (EntryState.CLAIMED, seed, NOW)


def test_a_second_call_picks_up_the_first_and_pays_nothing(submit: Any, api: Any) -> None:
    submit()
    again = submit(MY_RETRY)
    assert (again.paid_now, again.record.request_id, len(api.posts)) == (False, "r1", 1)


def test_what_fails_before_the_payment_leaves_nothing_behind(submit: Any, store: Any, api: Any) -> None:
    def build(entry: Any) -> None:
        assert entry.fingerprint == FINGERPRINT
        raise TypeError("can't serialize the trigger")

    with pytest.raises(TypeError, match="serialize"):
        submit(before_pay=build)
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


@pytest.mark.parametrize(
    ("prices", "max_cost", "words"),
    [(PRICES, 0.49, r"\$0.50"), ({}, 10.0, "no price for wan2.6-i2v at 720P"), (None, 1.0, "no price")],
)
def test_a_clip_over_budget_is_not_paid_for(
    submitter: Any, api: Any, store: Any, prices: Any, max_cost: float, words: str
) -> None:
    with pytest.raises(WanBudgetError, match=words):
        submitter.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME, prices=prices, max_cost=max_cost)
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


def test_a_budget_that_is_just_enough_is_enough(submit: Any) -> None:
    assert submit(max_cost=0.5).paid_now


def test_a_budget_does_not_stop_what_is_paid_for_already(submit: Any, api: Any) -> None:
    submit()
    assert not submit(MY_RETRY, max_cost=0.01).paid_now


def test_a_store_that_ignores_conditions_is_refused_before_any_payment(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "probe", lambda: (_ for _ in ()).throw(LedgerUnsafeError("ignores If-None-Match")))
    with pytest.raises(LedgerUnsafeError):
        submit()
    assert (store.read(FINGERPRINT), api.posts) == (None, [])


def test_retry_after_is_obeyed_under_the_same_claim(submit: Any, store: Any, api: Any, clock: Any) -> None:
    api.answers = [WanRateLimitError("429", 700.0)]
    submit()
    assert sum(clock.slept) == pytest.approx(700)
    assert max(clock.slept) <= P.lease / 3
    assert api.posts[0] == api.posts[1]
    assert entry_in(store).history == ()


def test_a_waiting_claim_shows_that_nothing_was_sent_and_is_renewed(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    api.answers = [WanCapacityError("503", 600.0)]
    seen = []
    clock.on_sleep = lambda: seen.append((entry_in(store).intent_at, clock.now - entry_in(store).renewed_at))
    submit()
    assert {intent_at for intent_at, _ in seen} == {None}
    assert max(silent for _, silent in seen) <= P.lease / 3


def test_without_retry_after_the_waits_grow_and_stay_bounded(submit: Any, api: Any, clock: Any) -> None:
    api.answers = [WanCapacityError("503") for _ in range(12)]
    waits, last = [], NOW
    api_submit = api.submit

    def timed(request: Any) -> Any:
        nonlocal last
        waits.append(clock.now - last)
        last = clock.now
        return api_submit(request)

    api.submit = timed
    submit()
    assert waits[1] <= P.backoff < waits[3] < waits[5] <= P.backoff_limit
    assert max(waits) <= P.backoff_limit


def test_at_the_deadline_a_refusal_is_raised_and_the_clip_may_be_retried(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    api.answers = [WanRateLimitError("429", 100.0)]
    with pytest.raises(WanRateLimitError):
        submit(deadline=NOW + 99)
    assert clock.slept == []
    assert (entry_in(store).state, entry_in(store).outcome.permanent, entry_in(store).cost) == (
        EntryState.FAILED,
        False,
        0,
    )
    assert submit(MY_RETRY).paid_now


def test_failing_connections_are_given_up_after_some_tries(submit: Any, api: Any) -> None:
    api.answers = [WanConnectError("refused") for _ in range(99)]
    with pytest.raises(WanConnectError):
        submit()
    assert len(api.posts) == P.connect_tries


def test_once_credit_is_there_a_refused_clip_is_submitted(submit: Any, api: Any) -> None:
    api.answers = [WanCreditError("402")]
    with pytest.raises(WanCreditError):
        submit()
    got = submit(MY_RETRY)
    assert (got.paid_now, got.entry.history[0].request_id, got.entry.history[0].error) == (True, None, "402")


def test_a_transient_failure_is_paid_for_again_with_another_seed(submit: Any, api: Any, submitter: Any) -> None:
    first = submit().entry
    assert (
        submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "failed", "internal error")).state
        is EntryState.FAILED
    )
    again = submit(MY_RETRY)
    assert (again.paid_now, again.entry.request_id, again.entry.attempts) == (True, "r2", 2)
    assert again.entry.seed != first.seed


def test_a_permanent_failure_is_not_paid_for_again_and_names_the_remedy(submit: Any, api: Any, submitter: Any) -> None:
    submit()
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "failed", "DataInspectionFailed"))
    with pytest.raises(WanClipFailedError, match=r"DataInspectionFailed.*idempotency_key") as caught:
        submit(MY_RETRY)
    assert (caught.value.permanent, len(api.posts)) == (True, 1)


def test_media_that_could_not_be_fetched_twice_is_not_tried_a_third_time(submit: Any, api: Any, submitter: Any) -> None:
    for request_id in ("r1", "r2"):
        submit()
        submitter.ledger.record_result(FINGERPRINT, api.turn(request_id, "failed", "Failed to download media"))
    with pytest.raises(WanClipFailedError):
        submit()


def test_a_cancelled_request_is_submitted_again_once(submit: Any, api: Any) -> None:
    submit()
    api.turn("r1", "cancelled")
    assert submit(MY_RETRY).entry.request_id == "r2"
    assert submit(MY_RETRY).entry.request_id == "r2"
    assert len(api.posts) == 2


def test_a_finished_clip_has_a_fresh_record_and_an_archived_one_without_a_call(
    submit: Any, api: Any, submitter: Any
) -> None:
    submit()
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success"))
    assert submit().record.status == "success"
    assert submitter.ledger.record_archive(FINGERPRINT, "r1", "s3://b/k.mp4", "f" * 64).state is EntryState.ARCHIVED
    api.hidden.add("r1")
    got = submit()
    assert (got.record, got.entry.archive_uri, got.paid_now) == (None, "s3://b/k.mp4", False)


def test_a_finished_clip_that_the_api_forgot_has_no_record(submit: Any, api: Any, submitter: Any) -> None:
    submit()
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success"))
    api.hidden.add("r1")
    assert (submit().record, len(api.posts)) == (None, 1)


def test_a_running_clip_that_the_api_does_not_know_is_waited_for_and_not_paid_for_again(submit: Any, api: Any) -> None:
    submit()
    api.hidden.add("r1")
    got = submit(MY_RETRY)
    assert (got.entry.request_id, got.record.status.is_terminal, len(api.posts)) == ("r1", False, 1)


def test_a_ledger_that_is_away_when_the_id_must_be_recorded_is_tried_again(
    submit: Any, store: Any, api: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, failures = store.replace, [3]

    def flaky(entry: Any, version: Any) -> Any:
        if entry.state is EntryState.SUBMITTED and failures[0]:
            failures[0] -= 1
            raise LedgerUnavailableError("S3 is away")
        return replace(entry, version)

    monkeypatch.setattr(store, "replace", flaky)
    assert submit().paid_now
    assert (entry_in(store).request_id, clock.slept) == ("r1", [1, 2, 4])


def test_a_ledger_that_stays_away_loses_nothing(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replace = store.replace

    def away(entry: Any, version: Any) -> Any:
        if entry.state is EntryState.SUBMITTED:
            raise LedgerUnavailableError("S3 is away")
        return replace(entry, version)

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", away)
        with pytest.raises(LedgerRecordError, match=r"r1.*--request-id r1") as caught:
            submit()
    assert (caught.value.paid, caught.value.retry) == (Paid.YES, Retry.RECONCILE)
    assert "paid for as request r1" in caplog.text
    assert (submit(MY_RETRY).entry.request_id, len(api.posts)) == ("r1", 1)


def test_a_ledger_that_can_not_be_read_stops_before_the_payment(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(fingerprint: Any) -> None:
        raise LedgerUnavailableError("S3 is away")

    monkeypatch.setattr(store, "read", away)
    with pytest.raises(LedgerUnavailableError):
        submit()
    assert api.posts == []


def test_an_unknown_on_doubt_is_refused(submit: Any) -> None:
    with pytest.raises(WanValidationError, match="on_doubt"):
        submit(on_doubt="guess")


def build_submission(request: Any = REQUEST, **more: Any) -> SubmitRequest:
    return SubmitRequest(request, FINGERPRINT, ME, prices=PRICES, **more)


def test_a_refused_clip_that_is_tried_again_too_early_waits_for_the_rest_of_its_time(
    submitter: Any, api: Any, clock: Any
) -> None:
    api.answers = [WanRateLimitError("429", 50.0)]
    first = submitter.try_submit(build_submission())
    assert (first.reason, first.delay) == (WaitReason.REFUSED, 50.0)
    clock.now += 20.0
    early = submitter.try_submit(build_submission())
    assert (early.reason, early.delay, early.entry, len(api.posts)) == (WaitReason.REFUSED, 30.0, first.entry, 1)
    clock.now += 30.0
    assert submitter.try_submit(build_submission()).paid_now


def test_a_refused_clip_whose_budget_has_shrunk_meanwhile_is_not_sent(submitter: Any, api: Any, clock: Any) -> None:
    api.answers = [WanRateLimitError("429", 50.0)]
    submitter.try_submit(build_submission(max_cost=0.5))
    clock.now += 50.0
    with pytest.raises(WanBudgetError):
        submitter.try_submit(build_submission(max_cost=0.4))
    assert len(api.posts) == 1


def test_a_refused_clip_whose_image_has_moved_is_claimed_anew_and_paid_for_once(
    submitter: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [WanRateLimitError("429", 50.0)]
    submitter.try_submit(build_submission())
    moved = build_submission(replace(REQUEST, img_url="https://elsewhere.example.com/cat.png"))
    clock.now += 50.0
    later = submitter.try_submit(moved)
    while not isinstance(later, SubmitResult):
        clock.now += later.delay
        later = submitter.try_submit(moved)
    assert (later.paid_now, [each["img_url"] for each in api.posts]) == (
        True,
        [REQUEST.img_url, "https://elsewhere.example.com/cat.png"],
    )
    assert clock.now - NOW >= P.lease


def test_a_claim_that_is_taken_over_while_it_is_renewed_is_not_sent(
    submit: Any, submitter: Any, store: Any, api: Any, clock: Any
) -> None:
    api.answers = [WanRateLimitError("429", 700.0)]
    stolen: list[Any] = []

    def take_over() -> None:
        if not stolen:
            stored = store.read(FINGERPRINT)
            reclaimed = entries.record_intent(entries.reclaim(stored.entry, a_claim(OTHER, seed=9)), clock.now)
            theirs = api.add({**REQUEST.to_payload(), "seed": 9})
            stolen.append(store.replace(entries.submitted(reclaimed, theirs.request_id, clock.now), stored.version))

    clock.on_sleep = take_over
    got = submit()
    assert (got.paid_now, got.entry.owner, len(api.posts)) == (False, str(OTHER), 1)
    assert sum(clock.slept) == P.lease / 3


def test_the_cost_is_reserved_under_the_claim_before_the_intent_and_a_refusal_of_it_ends_the_claim(
    submitter: Any, store: Any, api: Any
) -> None:
    reserved: list[Any] = []

    def reserve(claim: Any) -> None:
        reserved.append((claim, entry_in(store).intent_at, len(api.posts)))
        if len(reserved) == 1:
            raise WanBudgetError("nothing is left")

    with pytest.raises(WanBudgetError, match="nothing is left"):
        submitter.try_submit(build_submission(reserve=reserve))
    failed = entry_in(store)
    assert (failed.state, failed.outcome.error, failed.posts) == (EntryState.FAILED, "nothing is left", 0)
    assert submitter.try_submit(build_submission(reserve=reserve)).paid_now
    assert [(intent_at, posts) for _, intent_at, posts in reserved] == [(None, 0), (None, 0)]


def test_a_setting_of_the_connection_that_is_wrong_ends_the_claim_and_is_raised(
    submit: Any, store: Any, api: Any
) -> None:
    def no_bundle(request: Any) -> Any:
        raise WanValidationError("ca_bundle", "/nowhere", "does not exist")

    api.prepare_submission = no_bundle
    with pytest.raises(WanValidationError, match="ca_bundle"):
        submit()
    assert (entry_in(store).state, entry_in(store).posts) == (EntryState.FAILED, 0)


def test_a_made_clip_whose_state_can_not_be_read_now_is_an_error_and_a_running_one_is_waited_for(
    submit: Any, submitter: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()

    def unreadable(request_id: str) -> Any:
        raise WanLookupError("HTTP 502")

    with monkeypatch.context() as patch:
        patch.setattr(api, "get_request", unreadable)
        running = submit(MY_RETRY)
    assert (running.record.request_id, running.record.status, running.record.created_at) == (
        "r1",
        RequestStatus.UNKNOWN,
        NOW,
    )
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success"))
    monkeypatch.setattr(api, "get_request", unreadable)
    with pytest.raises(WanLookupError, match="502"):
        submit(MY_RETRY)
    assert len(api.posts) == 1


def test_a_post_that_was_accepted_after_its_claim_had_expired_is_the_clips_if_nobody_else_has_sent_one(
    submit: Any, store: Any, api: Any
) -> None:
    api_submit = api.submit

    def stolen_meanwhile(request: Any) -> Any:
        stored = store.read(FINGERPRINT)
        store.replace(entries.reclaim(stored.entry, a_claim(OTHER, seed=9)), stored.version)
        return api_submit(request)

    api.submit = stolen_meanwhile
    got = submit()
    assert (got.paid_now, got.entry.request_id, got.entry.duplicates, api.cancelled) == (True, "r1", (), [])


def test_a_store_is_probed_before_the_first_payment_and_not_again(
    submit: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = []
    monkeypatch.setattr(store, "probe", lambda: probes.append(1))
    submit()
    submit(MY_RETRY)
    assert probes == [1]


def test_a_post_has_no_more_time_than_the_deadline_leaves_and_some_grace(submitter: Any, api: Any) -> None:
    timeouts = []

    class Timed(PreparedCall):
        def send(self, timeout: float) -> Any:
            timeouts.append(timeout)
            return super().send(timeout)

    api.prepare_submission = lambda request: Timed(lambda: api.submit(request))
    for number, deadline in enumerate((None, NOW + 1000, NOW + 10, NOW - 5)):
        submission = replace(build_submission(), fingerprint=f"clip{number}", deadline=deadline)
        assert submitter.try_submit(submission).paid_now
    assert timeouts == [P.post_timeout, P.post_timeout, 10.0 + GRACE, GRACE]


def answer_with(api: Any, **change: Any) -> None:
    """Let the next POST be answered with another record than that of the request that it made."""
    accept = api.submit
    api.submit = lambda request: replace(accept(request), **change)


@pytest.mark.parametrize("payload", [{}, {"seed": 99}], ids=str)
def test_a_time_hours_ago_does_not_make_a_response_anothers(submit: Any, store: Any, api: Any, payload: Any) -> None:
    # The API may give local time as Unix seconds. With the user's seed, the list would then prove an absence.
    answer_with(api, created_at=NOW - 5 * 3600, payload=payload)
    got = submit(request=REQUEST.with_seed(7))
    assert (got.paid_now, entry_in(store).request_id, len(api.posts)) == (True, "r1", 1)


def test_a_post_that_is_answered_with_the_request_of_another_entry_is_in_doubt(
    submit: Any, store: Any, api: Any
) -> None:
    theirs = api.add(REQUEST.with_seed(99).to_payload(), request_id="theirs")
    store.create(entries.submitted(a_claim(OTHER, fingerprint="other"), theirs.request_id, NOW))
    answer_with(api, request_id="theirs", payload={"seed": 99})
    submit()
    assert (entry_in(store).request_id, len(api.posts)) == ("r2", 1)


@pytest.mark.parametrize("ledger_is_away", [False, True])
def test_a_process_that_stood_still_does_not_share_the_request_that_another_clip_in_doubt_took_meanwhile(
    submit: Any, store: Any, api: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, ledger_is_away: bool
) -> None:
    accept, read_entries = api.submit, store.entries

    def stand_still(request: Any) -> Any:
        record = accept(request)
        if len(api.posts) == 1:
            clock.now += 600.0
            other = a_post(OTHER, drawn=False, fingerprint="other", now=NOW - 5.0)
            store.create(entries.submitted(other, record.request_id, clock.now))
            if ledger_is_away:
                monkeypatch.setattr(store, "entries", be_away)
        return record

    def be_away(**_: Any) -> Any:
        monkeypatch.setattr(store, "entries", read_entries)
        raise LedgerUnavailableError("away")

    api.submit = stand_still
    submit(request=REQUEST.with_seed(7))
    assert (entry_in(store).request_id, len(api.posts)) == ("r2", 2)


@pytest.mark.parametrize("request_sent", [REQUEST, REQUEST.with_seed(7)], ids=["a drawn seed", "the user's"])
def test_a_late_response_is_the_clips_own_if_no_other_entry_has_its_request(
    submit: Any, store: Any, api: Any, clock: Any, request_sent: Any
) -> None:
    accept = api.submit

    def stand_still(request: Any) -> Any:
        clock.now += 600.0
        return accept(request)

    api.submit = stand_still
    assert submit(request=request_sent).paid_now
    assert (entry_in(store).request_id, len(api.posts)) == ("r1", 1)


def test_a_post_that_is_answered_as_an_earlier_one_of_the_same_process_is_in_doubt(
    submitter: Any, store: Any, api: Any
) -> None:
    first = submitter.try_submit(replace(build_submission(), fingerprint="clip1"))
    # As documented, the response has no payload: nothing in it shows whose it is.
    answer_with(api, request_id=first.entry.request_id, payload={})
    second = submitter.try_submit(replace(build_submission(), fingerprint="clip2"))
    assert (first.entry.request_id, second.entry.request_id) == ("r1", "r2")
    assert len(api.posts) == 2


def test_of_the_requests_of_a_long_batch_the_newest_are_remembered(
    submitter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitter_module, "_MAX_ACCEPTED", 3, raising=False)
    for number in range(5):
        submitter.try_submit(replace(build_submission(), fingerprint=f"clip{number}"))
    assert list(submitter._accepted) == ["r3", "r4", "r5"]


@pytest.mark.parametrize("seed", [None, 7], ids=["drawn", "the user's"])
def test_a_post_that_is_answered_with_the_failed_request_of_its_own_clip_is_in_doubt(
    submit: Any, store: Any, api: Any, clock: Any, seed: int | None
) -> None:
    request = REQUEST if seed is None else REQUEST.with_seed(seed)
    submit(request=request)
    api.turn("r1", "failed", "rate limit exceeded")
    # Another process, as in a retry.
    retry = Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep, rng=random.Random(2))
    answer_with(api, request_id="r1", payload={})
    got = retry.submit_once(request, fingerprint=FINGERPRINT, owner=MY_RETRY)
    assert (got.entry.request_id, len(api.posts)) == ("r2", 2)


@pytest.mark.parametrize(
    "change",
    [{"payload": {"seed": 99}}, {"payload": {"seed": 99}, "created_at": None}, {"payload": {}}],
    ids=str,
)
def test_an_echo_that_differs_does_not_make_a_response_anothers(
    submit: Any, store: Any, api: Any, change: dict[str, Any]
) -> None:
    answer_with(api, **change)
    got = submit()
    assert (got.paid_now, got.record.request_id, entry_in(store).state) == (True, "r1", EntryState.SUBMITTED)


def test_a_ledger_that_can_not_be_listed_leaves_an_answer_as_it_is(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise LedgerUnavailableError("away")

    answer_with(api, payload={"seed": 99})
    monkeypatch.setattr("airflow_provider_wan.ledger.reconcile.OtherEntries.read", fail)
    assert submit().paid_now
