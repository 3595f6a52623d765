# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.ledger.decision import (
    ANSWERS,
    STATES,
    AfterPost,
    Decision,
    Policy,
    Situation,
    as_markdown,
    decide,
    judge,
)
from airflow_provider_wan.ledger.entry import EntryState, Outcome
from dev.testkit.ledger import ME, MY_RETRY, NOW, OTHER, a_claim, a_post

P = Policy()


def _in(state, permanent=False):
    return replace(a_post(), state=state, request_id="r1", outcome=Outcome("x", permanent, NOW))


@pytest.mark.parametrize(
    ("entry", "owner", "unchanged", "later", "decision"),
    [
        (None, ME, 0, 0, Decision.ABSENT),
        (_in(EntryState.ARCHIVED), OTHER, 0, 0, Decision.ARCHIVED),
        (_in(EntryState.SUCCEEDED), OTHER, 0, 0, Decision.FINISHED),
        (_in(EntryState.SUBMITTED), OTHER, 0, 0, Decision.RUNNING),
        (_in(EntryState.FAILED, permanent=True), ME, 0, 0, Decision.FAILED_PERMANENT),
        (_in(EntryState.FAILED), ME, 0, 0, Decision.FAILED_RETRY),
        (_in(EntryState.CANCELLED), ME, 0, 0, Decision.CANCELLED),
        (_in(EntryState.IN_DOUBT), OTHER, 0, 0, Decision.IN_DOUBT),
        (a_claim(), MY_RETRY, 0, 0, Decision.CLAIM_UNSENT),
        (a_post(), MY_RETRY, 0, 0, Decision.CLAIM_STALE),
        (a_claim(), OTHER, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, 0, 0, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, P.lease - 1, P.lease, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, P.lease, P.lease, Decision.CLAIM_STALE),
        (a_claim(), OTHER, P.lease, P.lease, Decision.CLAIM_UNSENT),
        # A clock that is off does not make a living owner dead.
        (a_post(), OTHER, 0, P.lease + P.clock_margin - 1, Decision.CLAIMED_BY_OTHER),
        (a_post(), OTHER, 0, P.lease + P.clock_margin, Decision.CLAIM_STALE),
        (a_post(), OTHER, 0, -9999, Decision.CLAIMED_BY_OTHER),
    ],
)
def test_what_the_next_attempt_makes_of_an_entry(entry, owner, unchanged, later, decision):
    assert decide(Situation(entry, owner, NOW + later, unchanged, P)) is decision


def test_every_decision_has_one_row():
    assert [row.decision for row in STATES] == list(Decision)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, AfterPost.ACCEPTED),
        (errors.WanRateLimitError("429"), AfterPost.WAIT),
        (errors.WanCapacityError("503"), AfterPost.WAIT),
        (errors.WanConnectError("refused"), AfterPost.WAIT),
        (errors.WanBadRequestError("400"), AfterPost.REFUSED),
        (errors.WanAuthError("401"), AfterPost.REFUSED),
        (errors.WanCreditError("402"), AfterPost.REFUSED),
        (errors.WanNotFoundError("404"), AfterPost.REFUSED),
        (errors.WanInDoubtError("reset"), AfterPost.DOUBT),
        # Not what a submission should raise; so nothing is known, and nothing is guessed.
        (errors.WanProtocolError("no id"), AfterPost.DOUBT),
        (errors.WanLookupError("?"), AfterPost.DOUBT),
    ],
)
def test_what_an_answer_to_the_paid_post_means(error, verdict):
    assert judge(error) is verdict


def test_only_a_refusal_frees_the_claim():
    for row in ANSWERS:
        if row.verdict in (AfterPost.WAIT, AfterPost.REFUSED):
            assert all(issubclass(error, errors.WanRefusedError) for error in row.errors)


def test_a_claim_outlives_the_longest_post_and_so_does_the_proof():
    from airflow_provider_wan.api.wire import CONNECT_TIMEOUT, SUBMIT_TIMEOUT

    assert P.lease > P.settle > CONNECT_TIMEOUT + SUBMIT_TIMEOUT


def test_the_documentation_tells_every_row():
    told = as_markdown()
    assert all(row.action in told for row in (*STATES, *ANSWERS))
