# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.ledger.entry import EntryState, Outcome
from airflow_provider_wan.ledger.rules import (
    ENTRY_RULES,
    RESPONSE_RULES,
    Decision,
    DecisionInput,
    Policy,
    SubmitOutcome,
    as_markdown,
    classify_response,
    decide,
)
from dev.testkit.ledger import ME, MY_RETRY, NOW, OTHER, a_claim, a_post

P = Policy()


def _in(state: Any, permanent: bool = False) -> Any:
    return replace(a_post(), state=state, request_id="r1", outcome=Outcome("x", permanent, NOW))


@pytest.mark.parametrize(
    ("entry", "owner", "unchanged", "later", "decision"),
    [
        (None, ME, 0, 0, Decision.ABSENT),
        (_in(EntryState.ARCHIVED), OTHER, 0, 0, Decision.ARCHIVED),
        (_in(EntryState.SUCCEEDED), OTHER, 0, 0, Decision.FINISHED),
        (_in(EntryState.SUBMITTED), OTHER, 0, 0, Decision.RUNNING),
        (_in(EntryState.FAILED, permanent=True), ME, 0, 0, Decision.FAILED_PERMANENT),
        (_in(EntryState.FAILED), ME, 0, 0, Decision.FAILED_TRANSIENT),
        (_in(EntryState.CANCELLED), ME, 0, 0, Decision.CANCELLED),
        (_in(EntryState.IN_DOUBT), OTHER, 0, 0, Decision.IN_DOUBT),
        (a_claim(), MY_RETRY, 0, 0, Decision.CLAIM_UNSENT),
        (a_post(), MY_RETRY, 0, 0, Decision.CLAIM_STALE),
        (a_claim(MY_RETRY), ME, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_post(MY_RETRY), ME, P.lease, P.lease, Decision.CLAIM_STALE),
        (a_claim(ME), ME, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_claim(), OTHER, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, P.lease - 1, P.lease, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, P.lease, P.lease, Decision.CLAIM_STALE),
        (a_claim(), OTHER, P.lease, P.lease, Decision.CLAIM_UNSENT),
        # A wrong clock does not make a living owner look gone.
        (a_post(), OTHER, 0, P.lease + P.clock_margin - 1, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, 0, P.lease + P.clock_margin, Decision.CLAIM_STALE),
        (a_post(), OTHER, 0, -9999, Decision.CLAIMED_BY_OTHER),
    ],
)
def test_the_next_attempt_decides_by_the_entry(
    entry: Any, owner: Any, unchanged: Any, later: Any, decision: Any
) -> None:
    assert decide(DecisionInput(entry, owner, NOW + later, unchanged, P)) is decision


def test_every_decision_has_one_rule() -> None:
    assert [rule.decision for rule in ENTRY_RULES] == list(Decision)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, SubmitOutcome.ACCEPTED),
        (errors.WanRateLimitError("429"), SubmitOutcome.WAIT),
        (errors.WanCapacityError("503"), SubmitOutcome.WAIT),
        (errors.WanConnectError("refused"), SubmitOutcome.WAIT),
        (errors.WanBadRequestError("400"), SubmitOutcome.REJECTED),
        (errors.WanAuthError("401"), SubmitOutcome.REJECTED),
        (errors.WanCreditError("402"), SubmitOutcome.REJECTED),
        (errors.WanNotFoundError("404"), SubmitOutcome.REJECTED),
        (errors.WanInDoubtError("reset"), SubmitOutcome.IN_DOUBT),
        # A submission should not raise these, so whether it was accepted is unknown.
        (errors.WanProtocolError("no id"), SubmitOutcome.IN_DOUBT),
        (errors.WanLookupError("?"), SubmitOutcome.IN_DOUBT),
    ],
)
def test_a_response_to_the_paid_post_is_classified(error: Any, outcome: Any) -> None:
    assert classify_response(error) is outcome


def test_only_a_refusal_releases_the_claim() -> None:
    for rule in RESPONSE_RULES:
        if rule.outcome in (SubmitOutcome.WAIT, SubmitOutcome.REJECTED):
            assert all(issubclass(error, errors.WanRefusedError) for error in rule.errors)


def test_a_claim_outlives_connecting_and_the_post() -> None:
    from airflow_provider_wan.api.wire import CONNECT_TIMEOUT, SUBMIT_TIMEOUT

    assert P.lease > CONNECT_TIMEOUT + P.max_intent_age * P.max_intent_tries + SUBMIT_TIMEOUT


def test_the_two_scans_are_further_apart_than_the_latest_acceptance_can_show() -> None:
    assert P.absence_confirm_interval >= P.max_intent_age + P.longest_post + P.list_lag
    assert P.pause_allowance == 50
    with pytest.raises(ValueError, match="absence_confirm_interval"):
        Policy(absence_confirm_interval=P.max_intent_age + P.longest_post + P.list_lag - 1)
    with pytest.raises(ValueError, match="post_timeout"):
        Policy(post_timeout=P.longest_post + 1)


def test_the_documentation_contains_every_rule() -> None:
    text = as_markdown()
    assert all(rule.action in text for rule in ENTRY_RULES)
    assert all(rule.action in text for rule in RESPONSE_RULES)


def test_without_an_entry_nobody_owns_the_clip() -> None:
    nothing = DecisionInput(None, ME, NOW, P.lease, P)
    assert (nothing.owner_gone, nothing.sent, nothing.permanent) == (False, False, False)
