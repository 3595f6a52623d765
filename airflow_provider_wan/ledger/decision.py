# SPDX-License-Identifier: Apache-2.0
"""
What the next attempt does: pure, and the one source of it. The documentation's tables are made from here.

:data:`STATES` says what an attempt does that finds an entry; :func:`decide` is its first row that applies.
:data:`ANSWERS` says what an answer to the paid POST means; :func:`judge` is its first row that applies.
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
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner


@dataclass(frozen=True)
class Policy:
    """
    Times, in seconds, and limits of submitting and reconciling.

    :param lease: a claim is alive while its owner was heard of within this time. More than the POST's
        own time-outs (10 s to connect, 60 s to answer).
    :param settle: time between the two looks into the API's list that prove an absence. More than the
        POST's own time-outs, so that a POST under way at the first look has ended by the second.
    :param clock_margin: how far the clocks of workers, of the API and of the store may be apart.
    :param follow_interval: how often a claim of somebody else's is looked at.
    :param backoff: first wait after a 429 or 503 without ``Retry-After``; it doubles.
    :param backoff_limit: the longest such wait.
    :param post_within: the POST leaves within this time after it was announced in the ledger, or is
        announced again.
    :param post_tries: how often it is announced before the ledger counts as too slow.
    :param connect_tries: how often a connection is tried before it is given up.
    :param page_size: how many requests a page of the list has.
    :param max_pages: how many pages are read before the list counts as too long to tell.
    :param record_tries: how often noting an accepted request is tried.
    """

    lease: float = 180.0
    settle: float = 90.0
    clock_margin: float = 300.0
    follow_interval: float = 3.0
    backoff: float = 5.0
    backoff_limit: float = 120.0
    post_within: float = 10.0
    post_tries: int = 3
    connect_tries: int = 6
    page_size: int = 100
    max_pages: int = 200
    record_tries: int = 6


class Decision(StrEnum):
    """What an attempt makes of the entry that it finds."""

    ABSENT = "absent"
    ARCHIVED = "archived"
    FINISHED = "finished"
    RUNNING = "running"
    FAILED_PERMANENT = "failed, permanent"
    FAILED_RETRY = "failed, passing"
    CANCELLED = "cancelled"
    IN_DOUBT = "in doubt"
    CLAIM_UNSENT = "claim, nothing sent"
    CLAIM_STALE = "claim, owner gone"
    CLAIMED_BY_OTHER = "claim, owner alive"


@dataclass(frozen=True)
class Situation:
    """
    What a decision is made from.

    :param entry: what the ledger holds; None for nothing.
    :param owner: who asks.
    :param now: Unix seconds by the clock of who asks.
    :param unchanged: for how long who asks has seen the entry unchanged, in seconds.
    """

    entry: LedgerEntry | None
    owner: Owner
    now: float
    unchanged: float = 0.0
    policy: Policy = Policy()

    def is_(self, *states: EntryState) -> bool:
        """Tell whether the entry is in one of these states."""
        return self.entry is not None and self.entry.state in states

    @property
    def permanent(self) -> bool:
        """Whether it failed for good."""
        return bool(self.entry and self.entry.outcome and self.entry.outcome.permanent)

    @property
    def owner_gone(self) -> bool:
        """
        Whether the owner of a claim is gone.

        The same task instance with another process is our own past: Airflow starts no second try while
        the first is alive. Anybody else is gone after a lease without a sign of life, by our own watch;
        or at once, where the last sign is older than any clock could be wrong.
        """
        if self.entry is None:
            return False
        if Owner.task_of(self.entry.owner) == self.owner.task:
            return True
        silent = self.now - self.entry.renewed_at
        return self.unchanged >= self.policy.lease or silent >= self.policy.lease + self.policy.clock_margin

    @property
    def sent(self) -> bool:
        """Whether the paid POST may have left under the claim."""
        return self.entry is not None and self.entry.posting_at is not None


@dataclass(frozen=True)
class StateRow:
    """One row of *what the next attempt does*."""

    decision: Decision
    found: str
    action: str
    pays: str
    applies: Callable[[Situation], bool]


@dataclass(frozen=True)
class AnswerRow:
    """One row of *what an answer to the paid POST means*."""

    verdict: AfterPost
    answer: str
    noted: str
    action: str
    errors: tuple[type[Exception], ...]


class AfterPost(StrEnum):
    """What an answer to the paid POST means for the money."""

    ACCEPTED = "accepted"
    WAIT = "refused for now"
    REFUSED = "refused"
    DOUBT = "in doubt"


STATES: tuple[StateRow, ...] = (
    StateRow(
        Decision.ABSENT,
        "no entry",
        "checks the budget, claims, submits once, notes the request id",
        "once",
        lambda s: s.entry is None,
    ),
    StateRow(
        Decision.ARCHIVED,
        "`archived`",
        "returns the archived clip",
        "no",
        lambda s: s.is_(EntryState.ARCHIVED),
    ),
    StateRow(
        Decision.FINISHED,
        "`succeeded`",
        "asks the API for the result anew and returns it",
        "no",
        lambda s: s.is_(EntryState.SUCCEEDED),
    ),
    StateRow(
        Decision.RUNNING,
        "`submitted`",
        "asks the API how it stands and waits for it; if it failed or was cancelled, as below",
        "no",
        lambda s: s.is_(EntryState.SUBMITTED),
    ),
    StateRow(
        Decision.FAILED_PERMANENT,
        "`failed`, permanent (content refused, bad media)",
        "fails with the reason; `force_new` makes it again",
        "no",
        lambda s: s.is_(EntryState.FAILED) and s.permanent,
    ),
    StateRow(
        Decision.FAILED_RETRY,
        "`failed`, passing, or refused before payment",
        "claims anew and submits; the API has proved that the first is not charged",
        "once",
        lambda s: s.is_(EntryState.FAILED),
    ),
    StateRow(
        Decision.CANCELLED,
        "`cancelled`",
        "claims anew and submits; the API has proved that the first is not charged",
        "once",
        lambda s: s.is_(EntryState.CANCELLED),
    ),
    StateRow(
        Decision.IN_DOUBT,
        "`in_doubt`",
        "looks for the request in the API's list: found, adopts it; absent twice, `settle` apart, submits; "
        "can't tell, stops with `WanInDoubtError`",
        "after proof",
        lambda s: s.is_(EntryState.IN_DOUBT),
    ),
    StateRow(
        Decision.CLAIM_UNSENT,
        "`claimed`, owner gone, nothing sent yet",
        "looks into the list once, takes the claim over (the owner, if it still lives, then can't submit), submits",
        "once",
        lambda s: s.is_(EntryState.CLAIMED) and s.owner_gone and not s.sent,
    ),
    StateRow(
        Decision.CLAIM_STALE,
        "`claimed`, owner gone, POST may have left",
        "as `in_doubt`",
        "after proof",
        lambda s: s.is_(EntryState.CLAIMED) and s.owner_gone,
    ),
    StateRow(
        Decision.CLAIMED_BY_OTHER,
        "`claimed` by another task that is alive",
        "waits for its request id and then for its clip; `LedgerBusyError` at the deadline",
        "no",
        lambda s: s.is_(EntryState.CLAIMED),
    ),
)

ANSWERS: tuple[AnswerRow, ...] = (
    AnswerRow(
        AfterPost.ACCEPTED,
        "200, 201 with a request id",
        "`submitted`",
        "waits for it",
        (),
    ),
    AnswerRow(
        AfterPost.WAIT,
        "429, 503, never connected",
        "`claimed`, nothing sent; at the deadline `failed`, passing",
        "waits as told by `Retry-After`, else longer and longer, and submits again under the same claim",
        (WanRateLimitError, WanCapacityError, WanConnectError),
    ),
    AnswerRow(
        AfterPost.REFUSED,
        "400, 401, 402, 403, 404, 422, a 500 around a 400",
        "`failed`, nothing paid",
        "fails with the reason; once a person has set it right, the next attempt submits",
        (WanBadRequestError, WanAuthError, WanCreditError, WanNotFoundError, WanRefusedError),
    ),
    AnswerRow(
        AfterPost.DOUBT,
        "reset, time-out after sending, 408, any other 5xx, an answer that can't be read",
        "`in_doubt`",
        'looks into the list at once (`on_doubt="fail"`: stops)',
        (WanError,),
    ),
)


def decide(situation: Situation) -> Decision:
    """Return what an attempt makes of what it finds."""
    return next(row.decision for row in STATES if row.applies(situation))


def judge(error: WanError | None) -> AfterPost:
    """Return what came of the paid POST; ``None`` stands for a request record."""
    if error is None:
        return AfterPost.ACCEPTED
    return next(row.verdict for row in ANSWERS if isinstance(error, row.errors))


def as_markdown() -> str:
    """Return both tables for the documentation."""
    lines = ["| the ledger holds | the next attempt | pays |", "|---|---|---|"]
    lines += [f"| {row.found} | {row.action} | {row.pays} |" for row in STATES]
    lines += ["", "| answer to the submission | the ledger notes | this attempt |", "|---|---|---|"]
    lines += [f"| {row.answer} | {row.noted} | {row.action} |" for row in ANSWERS]
    return "\n".join(lines)
