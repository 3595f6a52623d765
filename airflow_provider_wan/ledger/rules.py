# SPDX-License-Identifier: Apache-2.0
"""
The rules of the next attempt. They are pure; the tables in the documentation are generated from them.

:data:`ENTRY_RULES` says what an attempt does with the entry that it finds; :func:`decide` returns its first rule
that applies. :data:`RESPONSE_RULES` says what a response to the paid POST means; :func:`classify_response` returns
its first rule that applies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.api.errors import (
    WanAuthError,
    WanBadRequestError,
    WanCapacityError,
    WanConnectError,
    WanCreditError,
    WanError,
    WanNotFoundError,
    WanRateLimitError,
    WanRefusedError,
)
from airflow_provider_wan.api.wire import SUBMIT_TIMEOUT
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner


@dataclass(frozen=True)
class Policy:
    """
    Times, in seconds, and limits of submitting and reconciling.

    :param lease: a claim is alive if its owner renewed it within this time. Longer than connecting, one write of the
        ledger and the POST take.
    :param post_timeout: total deadline of the paid POST: from its first byte to the last byte of the response.
    :param longest_post: how long after its first byte the service may still accept a POST, whether or not the client
        still waits: a gateway goes on where a client gives up.
    :param list_lag: how long after the acceptance a request may be missing in the API's list.
    :param max_intent_age: the POST is sent within this time after the intent was recorded, or not at all: the intent is
        recorded again.
    :param absence_confirm_interval: time between the two scans of the API's list that prove an absence. At least
        ``max_intent_age + longest_post + list_lag``; what is left over is :attr:`pause_allowance`.
    :param clock_margin: how far the clocks of the workers, the API and the store may differ.
    :param claim_poll_interval: how often another task's claim is polled.
    :param doubt_poll_interval: how often the list is scanned between the two scans that prove an absence.
    :param backoff: first wait after a 429 or 503 without ``Retry-After``; it doubles.
    :param backoff_limit: the longest such wait.
    :param max_intent_tries: how often the intent is recorded before the ledger is considered too slow.
    :param connect_tries: how often a connection is tried before the attempt gives up.
    :param page_size: requests per page of the list.
    :param max_pages: pages that are read before the list is considered too long to be conclusive.
    :param record_tries: how often recording an accepted request is tried.
    """

    lease: float = 180.0
    post_timeout: float = SUBMIT_TIMEOUT
    longest_post: float = 180.0
    list_lag: float = 120.0
    max_intent_age: float = 10.0
    absence_confirm_interval: float = 360.0
    clock_margin: float = 300.0
    claim_poll_interval: float = 3.0
    doubt_poll_interval: float = 60.0
    backoff: float = 5.0
    backoff_limit: float = 120.0
    max_intent_tries: int = 3
    connect_tries: int = 6
    page_size: int = 100
    max_pages: int = 200
    record_tries: int = 6

    def __post_init__(self) -> None:
        """Refuse times with which a clip could be paid for twice.

        :raises ValueError: if they are inconsistent.
        """
        if self.pause_allowance < 0:
            raise ValueError(
                "absence_confirm_interval must be at least max_intent_age + longest_post + list_lag: "
                f"{self.absence_confirm_interval} < {self.settling_time}"
            )
        if self.post_timeout > self.longest_post:
            raise ValueError(f"post_timeout must be at most longest_post: {self.post_timeout} > {self.longest_post}")

    @property
    def settling_time(self) -> float:
        """Seconds after the intent within which its request is accepted and shown in the list, or never."""
        return self.max_intent_age + self.longest_post + self.list_lag

    @property
    def pause_allowance(self) -> float:
        """How long a worker may be frozen between its last check and the first byte of the POST, unnoticed."""
        return self.absence_confirm_interval - self.settling_time


class Decision(StrEnum):
    """What an attempt does with the entry that it finds."""

    ABSENT = "absent"
    ARCHIVED = "archived"
    FINISHED = "finished"
    RUNNING = "running"
    FAILED_PERMANENT = "failed, permanent"
    FAILED_TRANSIENT = "failed, transient"
    CANCELLED = "cancelled"
    IN_DOUBT = "in doubt"
    CLAIM_UNSENT = "claim, nothing sent"
    CLAIM_STALE = "claim, owner gone"
    CLAIMED_BY_OTHER = "claim, owner alive"


@dataclass(frozen=True)
class DecisionInput:
    """
    What a decision is based on.

    :param entry: the ledger's entry; None if there is none.
    :param owner: the process that asks.
    :param now: Unix seconds by that process's clock.
    :param unchanged: for how long that process has seen the entry unchanged, in seconds.
    :param policy: times and limits.
    """

    entry: LedgerEntry | None
    owner: Owner
    now: float
    unchanged: float = 0.0
    policy: Policy = Policy()

    def has_state(self, *states: EntryState) -> bool:
        """Return whether the entry is in one of these states."""
        return self.entry is not None and self.entry.state in states

    @property
    def permanent(self) -> bool:
        """Whether the clip failed permanently."""
        return bool(self.entry and self.entry.outcome and self.entry.outcome.permanent)

    @property
    def owner_gone(self) -> bool:
        """
        Whether the owner of a claim is gone.

        A later try of the same task instance supersedes an earlier one: Airflow starts it when the earlier one is
        dead, or is taken for dead. Any other owner is gone after a lease without a renewal, measured by this
        process; or at once, if its last renewal is older than any clock difference explains.
        """
        if self.entry is None:
            return False
        if self.owner.supersedes(self.entry.owner):
            return True
        silent = self.now - self.entry.renewed_at
        return self.unchanged >= self.policy.lease or silent >= self.policy.lease + self.policy.clock_margin

    @property
    def sent(self) -> bool:
        """Whether the paid POST may have been sent under the claim."""
        return self.entry is not None and self.entry.intent_at is not None


@dataclass(frozen=True)
class EntryRule:
    """
    One row of the table *What the next attempt does*.

    :param decision: the decision.
    :param found: what the ledger holds, for the documentation.
    :param action: what the attempt does, for the documentation.
    :param pays: whether it pays, for the documentation.
    :param applies: the condition.
    """

    decision: Decision
    found: str
    action: str
    pays: str
    applies: Callable[[DecisionInput], bool]


class SubmitOutcome(StrEnum):
    """What a response to the paid POST means for the money."""

    ACCEPTED = "accepted"
    WAIT = "refused for now"
    REJECTED = "rejected"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True)
class ResponseRule:
    """
    One row of the table *What a response to the paid POST means*.

    :param outcome: the meaning.
    :param response: the response, for the documentation.
    :param recorded: what the ledger records, for the documentation.
    :param action: what the attempt does, for the documentation.
    :param errors: the errors that the client raises for it.
    """

    outcome: SubmitOutcome
    response: str
    recorded: str
    action: str
    errors: tuple[type[Exception], ...]


ENTRY_RULES: tuple[EntryRule, ...] = (
    EntryRule(
        Decision.ABSENT,
        "no entry",
        "checks the budget, claims, submits once, records the request id",
        "once",
        lambda s: s.entry is None,
    ),
    EntryRule(
        Decision.ARCHIVED,
        "`archived`",
        "looks for the clip and returns it; if it is gone there, archives it anew from the service, or fails",
        "no",
        lambda s: s.has_state(EntryState.ARCHIVED),
    ),
    EntryRule(
        Decision.FINISHED,
        "`succeeded`",
        "fetches the result from the API again and returns it",
        "no",
        lambda s: s.has_state(EntryState.SUCCEEDED),
    ),
    EntryRule(
        Decision.RUNNING,
        "`submitted`",
        "polls the request and waits for it; if it failed or was cancelled, as below",
        "no",
        lambda s: s.has_state(EntryState.SUBMITTED),
    ),
    EntryRule(
        Decision.FAILED_PERMANENT,
        "`failed`, permanent (content refused, bad media)",
        "fails with the reason; a new `idempotency_key` makes it again",
        "no",
        lambda s: s.has_state(EntryState.FAILED) and s.permanent,
    ),
    EntryRule(
        Decision.FAILED_TRANSIENT,
        "`failed`, transient, or rejected before payment",
        "claims again and submits; the API has proved that the first request is not charged",
        "once",
        lambda s: s.has_state(EntryState.FAILED),
    ),
    EntryRule(
        Decision.CANCELLED,
        "`cancelled`",
        "claims again and submits; the API has proved that the first request is not charged",
        "once",
        lambda s: s.has_state(EntryState.CANCELLED),
    ),
    EntryRule(
        Decision.IN_DOUBT,
        "`in_doubt`",
        "scans the API's list for the request: if found, adopts it; if it is proven absent twice, "
        "`absence_confirm_interval` apart, submits, at most once for each attempt; if inconclusive, stops with "
        "`WanInDoubtError`",
        "after proof",
        lambda s: s.has_state(EntryState.IN_DOUBT),
    ),
    EntryRule(
        Decision.CLAIM_UNSENT,
        "`claimed`, owner gone, nothing sent yet",
        "takes the claim over (if the owner is alive after all, it can no longer submit), submits; if an earlier POST "
        "was in doubt, scans the list for it before",
        "once",
        lambda s: s.has_state(EntryState.CLAIMED) and s.owner_gone and not s.sent,
    ),
    EntryRule(
        Decision.CLAIM_STALE,
        "`claimed`, owner gone, POST may have been sent",
        "as `in_doubt`",
        "after proof",
        lambda s: s.has_state(EntryState.CLAIMED) and s.owner_gone,
    ),
    EntryRule(
        Decision.CLAIMED_BY_OTHER,
        "`claimed` by another task that is alive",
        "waits for its request id and then for its clip; `LedgerBusyError` at the deadline",
        "no",
        lambda s: s.has_state(EntryState.CLAIMED),
    ),
)

RESPONSE_RULES: tuple[ResponseRule, ...] = (
    ResponseRule(
        SubmitOutcome.ACCEPTED,
        "200, 201 with a request id",
        "`submitted`",
        "waits for it",
        (),
    ),
    ResponseRule(
        SubmitOutcome.WAIT,
        "the service's own 429 or 503, never connected",
        "`claimed`, nothing sent; at the deadline `failed`, transient",
        "waits as `Retry-After` says, else with exponential backoff, and submits again under the same claim",
        (WanRateLimitError, WanCapacityError, WanConnectError),
    ),
    ResponseRule(
        SubmitOutcome.REJECTED,
        "the service's own 400, 401, 402, 403, 404, 422, or 500 that wraps a 400",
        "`failed`, nothing paid",
        "fails with the reason; once the cause is fixed, the next attempt submits",
        (WanBadRequestError, WanAuthError, WanCreditError, WanNotFoundError, WanRefusedError),
    ),
    ResponseRule(
        SubmitOutcome.IN_DOUBT,
        "reset, timeout after sending, 408, 409 (the conflict may be with this very request), any other 5xx, a "
        "redirect, an unreadable response, and any error that is not the service's own JSON: a gateway or firewall "
        "proves nothing",
        "`in_doubt`",
        'scans the list at once (`on_doubt="fail"`: stops)',
        (WanError,),
    ),
)


def decide(given: DecisionInput) -> Decision:
    """Return what an attempt does with the entry that it finds."""
    return next(rule.decision for rule in ENTRY_RULES if rule.applies(given))


def classify_response(error: WanError | None) -> SubmitOutcome:
    """Return what a response to the paid POST means.

    :param error: the error that the client raised; None for a request record.
    """
    if error is None:
        return SubmitOutcome.ACCEPTED
    return next(rule.outcome for rule in RESPONSE_RULES if isinstance(error, rule.errors))


def as_markdown() -> str:
    """Return both tables for the documentation."""
    lines = ["| the ledger holds | the next attempt | pays |", "|---|---|---|"]
    lines += [f"| {rule.found} | {rule.action} | {rule.pays} |" for rule in ENTRY_RULES]
    lines += ["", "| response to the submission | the ledger records | this attempt |", "|---|---|---|"]
    lines += [f"| {rule.response} | {rule.recorded} | {rule.action} |" for rule in RESPONSE_RULES]
    return "\n".join(lines)
