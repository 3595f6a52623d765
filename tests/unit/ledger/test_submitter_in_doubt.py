# SPDX-License-Identifier: Apache-2.0
"""Lost responses and claims of other tasks: messages, delays and scans."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import (
    Paid,
    WanConnectError,
    WanCreditError,
    WanInDoubtError,
    WanLookupError,
    WanRateLimitError,
)
from airflow_provider_wan.ledger import (
    EntryState,
    LedgerBusyError,
    LedgerUnavailableError,
    Policy,
    SubmitRequest,
    Submitter,
)
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.errors import ConflictError, LedgerAccountError
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
    assert (sum(clock.slept), max(clock.slept)) == (P.absence_confirm_interval, P.doubt_poll_interval)
    assert api.posts[0] == api.posts[1]
    assert [past.ended for past in got.entry.history] == ["absent"]


@pytest.mark.parametrize("echo", [{"prompt": "A fluffy cat"}, {"img_url": "https://storage.service.example/copy.png"}])
def test_with_the_users_seed_a_request_whose_echo_is_rewritten_is_not_paid_for_again(
    submit: Any, api: Any, store: Any, clock: Any, echo: dict[str, Any]
) -> None:
    api.answers = [("accepted", LOST)]
    accept = api.add
    api.add = lambda payload, *args, **more: accept({**payload, **echo}, *args, **more)
    with pytest.raises(WanInDoubtError, match=r"r1 \(it has our seed, and another prompt or image\).*--request-id"):
        submit(request=REQUEST.with_seed(7))
    assert (len(api.posts), entry_in(store).state) == (1, EntryState.IN_DOUBT)
    assert sum(clock.slept) >= P.settling_time


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


def test_a_request_that_was_found_with_the_time_of_another_zone_does_not_vouch_for_the_clock_of_the_list(
    submitter: Any, api: Any, clock: Any
) -> None:
    accept = api.add
    api.add = lambda payload, *args, **more: accept(payload, *args, created_at=api.clock() - 8 * 3600, **more)
    waiting = SubmitRequest(REQUEST, FINGERPRINT, ME)
    api.answers = [("accepted", LOST)]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        submitter.try_submit(waiting)
    for number in range(120):
        api.add({"seed": number})
        clock.now += 1.0
    api.list_error = None
    api.answers = [("accepted", LOST)]
    found = submitter.try_submit(SubmitRequest(REQUEST, "another", ME))
    assert found.entry.request_id == "r122"
    assert submitter.try_submit(waiting).entry.request_id == "r1"
    assert found.entry.submitted_at == clock.now


def test_another_process_starts_its_two_scans_again(submit: Any, api: Any, store: Any, clock: Any) -> None:
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError):
        submit(deadline=NOW)
    clock.now += P.absence_confirm_interval
    Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep).submit_once(
        REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY
    )
    assert sum(clock.slept) == P.absence_confirm_interval


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
    results: list[Any] = []

    def take_over() -> None:
        if not results:
            results.append(None)
            quick = Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep)
            results[0] = quick.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY)

    clock.on_sleep = take_over
    got = slow.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    assert (got.paid_now, results[0].paid_now) == (False, True)
    assert got.entry.request_id == results[0].entry.request_id
    assert len(api.posts) == 2  # the refused one, and the one that was paid for


def test_an_acceptance_after_a_take_over_is_recorded_as_a_duplicate_charge_and_cancelled(
    submit: Any, store: Any, api: Any
) -> None:
    api_submit = api.submit

    def submit_after_reclaim(request: Any) -> Any:
        stored = store.read(FINGERPRINT)
        theirs = api.add({**REQUEST.to_payload(), "seed": 9})
        reclaimed = entries.record_intent(entries.reclaim(stored.entry, a_claim(OTHER, seed=9)), NOW)
        store.replace(entries.submitted(reclaimed, theirs.request_id, NOW), stored.version)
        return api_submit(request)

    api.submit = submit_after_reclaim
    got = submit()
    assert (got.entry.request_id, got.paid_now) == ("r1", False)
    assert [(past.request_id, past.ended) for past in got.entry.history] == [(None, "absent"), ("r2", "duplicate")]
    assert api.cancelled == ["r2"]


def test_a_request_that_another_process_found_in_other_capitals_is_neither_a_duplicate_nor_cancelled(
    submit: Any, store: Any, api: Any
) -> None:
    accept = api.submit

    def submit_while_it_is_found(request: Any) -> Any:
        record = accept(request)
        stored = store.read(FINGERPRINT)
        found = entries.submitted(stored.entry, record.request_id.upper(), NOW, found=True)
        store.replace(found, stored.version)
        return record

    api.submit = submit_while_it_is_found
    got = submit()
    assert (got.entry.request_id, got.entry.duplicates, api.cancelled) == ("R1", (), [])


def test_an_attempt_sends_at_most_one_more_post_after_a_proof_of_absence(
    submit: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [LOST] * 9
    with pytest.raises(WanInDoubtError, match="once already"):
        submit()
    assert (len(api.posts), entry_in(store).posts) == (2, 2)
    with pytest.raises(WanInDoubtError, match="once already"):
        submit()
    assert len(api.posts) == 2
    with pytest.raises(WanInDoubtError, match="once already"):
        submit(MY_RETRY)
    assert (len(api.posts), entry_in(store).posts) == (3, 3)
    assert entry_in(store).repeats_after_absence == (ME.attempt, MY_RETRY.attempt)


def test_a_stepped_wall_clock_does_not_shorten_the_time_between_the_scans(api: Any, store: Any, clock: Any) -> None:
    api.answers = [LOST]
    steps = iter([3600.0, -7200.0, 0.0])
    wall_offset = 0.0

    def sleep(seconds: float) -> None:
        nonlocal wall_offset
        clock.sleep(seconds)
        wall_offset += next(steps, 0.0)

    submitter = Submitter(api, store, clock=lambda: clock.now + wall_offset, monotonic=clock, sleep=sleep)
    submitter.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    assert sum(clock.slept) == P.absence_confirm_interval


@pytest.mark.parametrize("suspended", ["monotonic", "wall"])
def test_an_intent_that_grew_old_by_either_clock_is_not_followed_by_a_post(
    api: Any, store: Any, suspended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = {"monotonic": NOW, "wall": NOW}
    replace_entry = store.replace

    def slow(entry: Any, version: Any) -> Any:
        if entry.intent_at is not None:
            time["wall" if suspended == "monotonic" else "monotonic"] += P.max_intent_age + 1
        return replace_entry(entry, version)

    monkeypatch.setattr(store, "replace", slow)
    submitter = Submitter(api, store, clock=lambda: time["wall"], monotonic=lambda: time["monotonic"])
    with pytest.raises(LedgerUnavailableError, match="too long to pay"):
        submitter.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    assert (api.posts, entry_in(store).intent_at, entry_in(store).posts) == ([], None, 0)


def test_a_connection_that_is_never_made_leaves_no_intent(api: Any, store: Any, submit: Any) -> None:
    seen = []

    def no_connection(request: Any) -> Any:
        seen.append(entry_in(store).intent_at)
        raise WanConnectError("eleven dead addresses")

    api.prepare_submission = no_connection
    with pytest.raises(WanConnectError):
        submit()
    assert set(seen) == {None}
    assert (entry_in(store).posts, entry_in(store).first_intent_at) == (0, None)


def test_an_entry_of_another_account_is_neither_used_nor_changed(submit: Any, api: Any, store: Any) -> None:
    api.answers = [("accepted", LOST)]
    api.list_error = WanLookupError("HTTP 502")
    with pytest.raises(WanInDoubtError):
        submit()
    before = entry_in(store)
    api.account = WanConfig(
        api_key="tests-key-1f9d3b", base_url="https://other.example.com/queue", organization_id="acme"
    ).account
    api.list_error, api.records = None, []
    with pytest.raises(LedgerAccountError, match=r"api\.example\.com.*other\.example\.com.*acme.*idempotency_key"):
        submit(MY_RETRY)
    assert (entry_in(store), len(api.posts)) == (before, 1)


def test_a_request_that_is_found_and_not_known_by_id_yet_is_waited_for(submit: Any, api: Any, store: Any) -> None:
    api.answers = [("accepted", LOST)]
    api.hidden.add("r1")
    got = submit()
    assert (got.entry.request_id, got.record.request_id, got.record.status.is_terminal) == ("r1", "r1", False)
    again = submit(MY_RETRY)
    assert (again.record.request_id, again.record.status.is_terminal, len(api.posts)) == ("r1", False, 1)


def test_a_second_request_that_appears_after_reconciliation_is_recorded_and_counted(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers = [LOST]
    assert submit().paid_now
    late = api.add(api.posts[0], created_at=NOW + 400)
    assert submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success")).duplicate_scan_due
    clock.now += P.absence_confirm_interval + P.clock_margin
    entry = submitter.ledger.record_result(FINGERPRINT, api.get_request("r1"))
    assert [(past.request_id, past.cost) for past in entry.duplicates] == [(late.request_id, 0.5)]
    assert not entry.duplicate_scan_due
    assert "paid for twice" in caplog.text


def test_the_late_scan_stays_due_while_the_list_can_not_be_read(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    clock.now += P.absence_confirm_interval
    api.list_error = WanLookupError("HTTP 502")
    assert submitter.scan_for_duplicates(FINGERPRINT).duplicate_scan_due
    api.list_error = None
    clock.now += P.clock_margin
    assert not submitter.scan_for_duplicates(FINGERPRINT).duplicate_scan_due


def test_an_entry_that_changes_all_the_time_ends_the_attempt(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflict(entry: Any, version: Any) -> Any:
        raise ConflictError("has changed")

    store.create(a_claim(ME))
    monkeypatch.setattr(store, "replace", conflict)
    with pytest.raises(LedgerUnavailableError, match="changed 10 times"):
        submit(MY_RETRY)
    assert api.posts == []


def test_a_doubt_that_the_ledger_can_not_record_is_still_a_doubt(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_entry = store.replace

    def away(entry: Any, version: Any) -> Any:
        if entry.state is EntryState.IN_DOUBT:
            raise LedgerUnavailableError("S3 is away")
        return replace_entry(entry, version)

    monkeypatch.setattr(store, "replace", away)
    api.answers = [LOST]
    with pytest.raises(WanInDoubtError, match="S3 is away") as caught:
        submit()
    assert caught.value.paid is Paid.MAYBE


def test_a_doubt_that_another_process_has_reconciled_meanwhile_owes_one_more_scan(
    submit: Any, api: Any, store: Any
) -> None:
    def submit_after_reconciliation(request: Any) -> Any:
        stored = store.read(FINGERPRINT)
        theirs = api.add({**REQUEST.to_payload(), "seed": 9})
        reclaimed = entries.record_intent(entries.reclaim(stored.entry, a_claim(OTHER, seed=9)), NOW)
        reconciled = entries.duplicates_scanned(entries.submitted(reclaimed, theirs.request_id, NOW))
        store.replace(reconciled, stored.version)
        raise LOST

    api.submit = submit_after_reconciliation
    assert submit().entry.request_id == "r1"
    assert entry_in(store).duplicate_scan_due


def test_a_rejected_repeat_does_not_give_its_attempt_another_one(submit: Any, api: Any, store: Any) -> None:
    api.answers = [LOST, WanCreditError("402"), LOST, LOST, LOST]
    with pytest.raises(WanCreditError):
        submit()
    with pytest.raises(WanInDoubtError, match="once already"):
        submit()
    assert (len(api.posts), entry_in(store).posts) == (3, 2)


def test_a_claim_without_an_intent_that_follows_a_doubt_is_scanned_for_before_it_is_taken_over(
    submit: Any, store: Any, api: Any
) -> None:
    doubtful = entries.in_doubt(a_post(ME), "reset", NOW)
    store.create(entries.reclaim(doubtful, a_claim(ME, now=NOW + 1)))
    ours = api.add(REQUEST.with_seed(7).to_payload())
    got = submit(MY_RETRY)
    assert (got.entry.request_id, got.paid_now, api.posts) == (ours.request_id, False, [])


def test_a_claim_without_an_intent_is_taken_over_if_the_scan_does_not_find_the_earlier_post(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    doubtful = entries.in_doubt(a_post(ME), "reset", NOW)
    store.create(entries.reclaim(doubtful, a_claim(ME, now=NOW + 1)))
    got = submit(MY_RETRY)
    assert (got.paid_now, got.entry.seed, clock.slept) == (True, 7, [])


def test_further_requests_that_are_found_are_recorded_as_duplicate_charges(submit: Any, store: Any, api: Any) -> None:
    store.create(entries.in_doubt(a_post(ME), "reset", NOW))
    one, two, three = (api.add(REQUEST.with_seed(7).to_payload(), created_at=NOW + n) for n in range(3))
    got = submit(MY_RETRY)
    assert (got.entry.request_id, got.entry.submitted_at) == (one.request_id, NOW)
    assert [(past.request_id, past.seed) for past in got.entry.duplicates] == [
        (two.request_id, 7),
        (three.request_id, 7),
    ]


def test_of_two_processes_that_find_the_request_one_records_it_and_the_other_follows(
    submit: Any, store: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(entries.in_doubt(a_post(ME), "reset", NOW))
    ours = api.add(REQUEST.with_seed(7).to_payload())
    replace_entry = store.replace
    first: list[str] = []

    def overtaken(entry: Any, version: Any) -> Any:
        if not first:
            first.append(replace_entry(entry, version))
        return replace_entry(entry, version)

    monkeypatch.setattr(store, "replace", overtaken)
    got = submit(MY_RETRY)
    assert (got.entry.request_id, got.paid_now, len(api.posts)) == (ours.request_id, False, 0)


def test_a_scan_that_stays_undecided_is_repeated_and_then_given_up(store: Any, api: Any, clock: Any) -> None:
    # A request of the web console, or ours; by a wall clock that stands still, ours need not be known by its id yet.
    store.create(entries.in_doubt(a_post(ME), "reset", NOW))
    api.add({}, request_id="mute")
    api.hidden.add("mute")
    entry = entry_in(store)
    slow = Submitter(api, store, clock=lambda: NOW, monotonic=clock, sleep=clock.sleep)
    with pytest.raises(WanInDoubtError, match="mute"):
        slow.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=MY_RETRY)
    assert 2 * P.absence_confirm_interval < sum(clock.slept) <= 2 * P.absence_confirm_interval + P.doubt_poll_interval
    assert (set(clock.slept), api.posts, entry_in(store)) == ({P.doubt_poll_interval}, [], entry)


def test_an_undecided_scan_between_two_that_show_an_absence_begins_the_proof_anew(
    submit: Any, store: Any, api: Any, clock: Any
) -> None:
    api.answers = [LOST]

    def lag_once() -> None:
        # Another clip is accepted, and the list does not show it for a while.
        if len(clock.slept) == 3:
            theirs = entries.submitted(a_post(OTHER, fingerprint="other", seed=8), "theirs", clock.now)
            store.create(theirs)
        if len(clock.slept) == 4:
            api.add({"seed": 8}, request_id="theirs")

    clock.on_sleep = lag_once
    assert submit().paid_now
    assert sum(clock.slept) == 4 * P.doubt_poll_interval + P.absence_confirm_interval


def test_the_late_scan_of_an_archived_clip_is_made_by_the_next_task_that_asks_for_it(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success"))
    submitter.ledger.record_archive(FINGERPRINT, "r1", "s3://b/k.mp4", "f" * 64)
    late = api.add(api.posts[0])
    assert submit(MY_RETRY).entry.duplicate_scan_due  # too early: it may still be on its way
    clock.now += P.absence_confirm_interval
    got = submit(MY_RETRY)
    assert [past.request_id for past in got.entry.duplicates] == [late.request_id]
    assert (got.entry, got.record) == (entry_in(store), None)


@pytest.mark.parametrize("ahead", [0.0, P.clock_margin])
def test_a_clock_that_is_ahead_does_not_end_the_late_scan_too_early(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any, ahead: float
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    clock.now += P.absence_confirm_interval - 1 + ahead
    assert submitter.scan_for_duplicates(FINGERPRINT).duplicate_scan_due
    late = api.add(api.posts[0])

    clock.now += 1
    entry = submitter.scan_for_duplicates(FINGERPRINT)

    assert [past.request_id for past in entry.duplicates] == [late.request_id]
    assert entry.duplicate_scan_due is (ahead == 0.0)


def test_the_late_scan_finds_nothing_to_do_where_none_is_due(submit: Any, submitter: Any, api: Any) -> None:
    assert submitter.scan_for_duplicates("unknown") is None
    entry = submit().entry
    assert submitter.scan_for_duplicates(FINGERPRINT) == entry
    assert api.pages == []


def test_the_late_scan_leaves_the_clip_of_another_account_alone(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    clock.now += P.absence_confirm_interval
    api.account = WanConfig(api_key="tests-key-1f9d3b", base_url="https://other.example.com/queue").account
    pages = len(api.pages)
    assert submitter.scan_for_duplicates(FINGERPRINT).duplicate_scan_due
    assert len(api.pages) == pages


def test_a_ledger_that_is_away_does_not_stop_the_late_scan_with_an_error(
    submit: Any, submitter: Any, api: Any, store: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    clock.now += P.absence_confirm_interval

    def away(*, modified_since: Any = None) -> Any:
        raise LedgerUnavailableError("S3 is away")

    monkeypatch.setattr(store, "entries", away)
    assert submitter.scan_for_duplicates(FINGERPRINT) is None
    assert "can't scan for a second request now: S3 is away" in caplog.text
    assert entry_in(store).duplicate_scan_due


def test_the_late_scan_of_a_clip_that_is_waited_for_is_made_before_it_is_returned(
    submit: Any, api: Any, store: Any, clock: Any
) -> None:
    api.answers = [("accepted", LOST)]
    submit()
    clock.now += P.absence_confirm_interval + P.clock_margin
    api.turn("r1", "success")
    got = submit(MY_RETRY)
    assert (got.entry.state, got.entry.duplicate_scan_due) == (EntryState.SUCCEEDED, False)
    assert got.record.status == "success"
