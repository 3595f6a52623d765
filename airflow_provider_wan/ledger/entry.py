# SPDX-License-Identifier: Apache-2.0
"""
The ledger entry: what is known of one clip, and the only transitions that it may make.

::

    (none)                    ─claim→          claimed
    claimed                   ─record_intent→  claimed, intent_at set    the paid POST is about to be sent
    claimed                   ─renew→          claimed                   its owner is alive
    claimed                   ─clear_intent→   claimed, intent_at unset  nothing was accepted (a 429, for example)
    claimed                   ─in_doubt→       in_doubt                  the response was lost
    claimed · in_doubt        ─submitted→      submitted                 accepted, or found in the list
    claimed · in_doubt        ─rejected→       failed                    nothing was accepted
    submitted                 ─succeeded→      succeeded ─archived→ archived
    submitted                 ─failed→         failed
    submitted                 ─cancelled→      cancelled
    failed · cancelled · in_doubt · claimed  ─reclaim→  claimed          with proof; see rules.py

``intent_at`` is written immediately before the paid POST: a claim without it proves that nothing was
sent. An entry holds no prompt, no query string of a URL and no key.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_wan.api.redaction import redact
from airflow_provider_wan.ledger.errors import (
    IllegalTransitionError,
    LedgerCorruptError,
    LedgerVersionError,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERSION = 2
MAX_ERROR_LENGTH = 500
MAX_HISTORY = 50

# For pydantic, which reads a dataclass's settings from this attribute. Unknown fields are ignored.
_STRICT = {"strict": True, "allow_inf_nan": False}


class EntryState(StrEnum):
    """State of a clip."""

    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"


class PastEnd(StrEnum):
    """How an earlier request for a clip ended."""

    FAILED = "failed"
    CANCELLED = "cancelled"
    ABSENT = "absent"
    UNSENT = "unsent"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Owner:
    """
    The process of a task instance that claims a clip.

    :param task: name of the task instance, stable across retries and clears: ``dag/run/task/map index``.
    :param try_number: Airflow's try number.
    :param nonce: random for each process, so that no two claims are equal.
    """

    task: str
    try_number: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.task}#{self.try_number}#{self.nonce}"

    @staticmethod
    def parse_task(owner: str) -> str:
        """Return the task instance named by an entry's ``owner``."""
        return owner.rsplit("#", 2)[0]


@dataclass(frozen=True)
class Outcome:
    """
    How the current request ended, or why its state is unknown.

    :param error: the reason; None after a success.
    :param permanent: whether the same clip would fail again.
    :param finished_at: Unix seconds.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    error: str | None
    permanent: bool
    finished_at: float


@dataclass(frozen=True)
class PastRequest:
    """
    An earlier request for the same clip.

    :param request_id: its id, or None if the API never returned one.
    :param seed: the seed it was sent with.
    :param ended: how it ended: ``failed``, ``cancelled``, ``absent`` (proven never to have been accepted), ``unsent``,
        or ``duplicate`` (accepted beside another request: charged, and not the one that is waited for).
    :param ended_at: Unix seconds.
    :param error: the reason, if there is one.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    request_id: str | None
    seed: int
    ended: PastEnd
    ended_at: float
    error: str | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """
    What is known of one clip.

    :param fingerprint: key of the entry.
    :param state: state of the clip.
    :param model: model id as sent.
    :param scope: where the clip is shared: a dag run, a task instance, or everywhere (empty).
    :param owner: the :class:`Owner` of the last claim, as text.
    :param claimed_at: Unix seconds of the claim, by the owner's clock.
    :param renewed_at: Unix seconds of the owner's last sign of life.
    :param intent_at: Unix seconds just before the paid POST; None if nothing was sent under this claim.
    :param seed: the seed sent: the user's, or one that was drawn.
    :param seed_drawn: whether the seed was drawn for this claim, and so is unique.
    :param payload_sha256: SHA-256 of the payload as sent, without query strings.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video.
    :param request_id: the API's id, once the request is accepted.
    :param submitted_at: Unix seconds of the acceptance.
    :param outcome: how the request ended.
    :param history: earlier requests for the same clip, oldest first.
    :param cost_estimate: US dollars, by the connection's prices at the time of the claim; None without a price.
    :param cost: US dollars charged, as far as prices are known: the estimate after a success, 0 after a failure.
    :param archive_uri: where the clip was archived.
    :param archive_sha256: SHA-256 of the archived clip.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    fingerprint: str
    state: EntryState
    model: str
    scope: str
    owner: str
    claimed_at: float
    renewed_at: float
    seed: int
    seed_drawn: bool
    payload_sha256: str
    resolution: str
    duration: int
    intent_at: float | None = None
    request_id: str | None = None
    submitted_at: float | None = None
    outcome: Outcome | None = None
    history: tuple[PastRequest, ...] = ()
    cost_estimate: float | None = None
    cost: float | None = None
    archive_uri: str | None = None
    archive_sha256: str | None = None

    @property
    def request_ids(self) -> frozenset[str]:
        """Ids of all requests that were ever made for the clip."""
        ids = {self.request_id, *(past.request_id for past in self.history)}
        return frozenset(request_id for request_id in ids if request_id)

    @property
    def attempts(self) -> int:
        """Number of requests that the API has accepted for the clip."""
        return len(self.request_ids)

    @property
    def duplicates(self) -> tuple[PastRequest, ...]:
        """Duplicate charges: requests that were accepted beside another one."""
        return tuple(past for past in self.history if past.ended is PastEnd.DUPLICATE)

    @property
    def may_have_been_sent(self) -> bool:
        """Whether a paid POST may have been accepted whose request id is unknown."""
        return self.state is EntryState.IN_DOUBT or (self.state is EntryState.CLAIMED and self.intent_at is not None)

    @property
    def last_sent_at(self) -> float:
        """Unix seconds of the last intent to send, or else of the claim."""
        return self.claimed_at if self.intent_at is None else self.intent_at

    def to_json(self) -> str:
        """Return the entry as JSON, with keys in a fixed order."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> LedgerEntry:
        """
        Read an entry. Unknown fields are ignored.

        :raises LedgerVersionError: if it has the format of an older or newer version.
        :raises LedgerCorruptError: if it is not a complete entry.
        """
        from pydantic import ValidationError

        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise LedgerCorruptError(f"A ledger entry of {len(text)} characters is not JSON. {_REPAIR}") from None
        if not isinstance(data, dict):
            raise LedgerCorruptError(f"A ledger entry is not a JSON object. {_REPAIR}")
        _check_version(data)
        # A field with a default is required too: an absent `intent_at` must not be read as "nothing was sent".
        missing = sorted({field.name for field in fields(cls)} - data.keys())
        if missing:
            raise LedgerCorruptError(f"A ledger entry lacks these fields: {', '.join(missing)}. {_REPAIR}")
        try:
            entry = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise LedgerCorruptError(f"A ledger entry's {where} is invalid: {first['msg']}. {_REPAIR}") from None
        if entry.state in _STATES_WITH_ID and not entry.request_id:
            raise LedgerCorruptError(f"A ledger entry is {entry.state} without a request id. {_REPAIR}")
        return entry


def claim(
    *,
    fingerprint: str,
    owner: Owner,
    scope: str,
    now: float,
    model: str,
    resolution: str,
    duration: int,
    seed: int,
    seed_drawn: bool,
    payload_sha256: str,
    cost_estimate: float | None,
) -> LedgerEntry:
    """Return the first entry of a clip."""
    return LedgerEntry(
        fingerprint=fingerprint,
        state=EntryState.CLAIMED,
        model=model,
        scope=scope,
        owner=str(owner),
        claimed_at=now,
        renewed_at=now,
        seed=seed,
        seed_drawn=seed_drawn,
        payload_sha256=payload_sha256,
        resolution=resolution,
        duration=duration,
        cost_estimate=cost_estimate,
    )


def reclaim(entry: LedgerEntry, fresh: LedgerEntry) -> LedgerEntry:
    """
    Claim a clip again, and move its last request to the history.

    :param fresh: the new claim, from :func:`claim`.
    """
    _only_from(entry, "reclaim", EntryState.FAILED, EntryState.CANCELLED, EntryState.IN_DOUBT, EntryState.CLAIMED)
    if entry.state is EntryState.CLAIMED:
        ended = PastEnd.UNSENT if entry.intent_at is None else PastEnd.ABSENT
    else:
        ended = _PAST_ENDS[entry.state]
    error = entry.outcome.error if entry.outcome else None
    history = [*entry.history, PastRequest(entry.request_id, entry.seed, ended, fresh.claimed_at, error)]
    # Past requests without an id prove nothing later, so they are the first to be dropped.
    while len(history) > MAX_HISTORY:
        history.remove(next((past for past in history if past.request_id is None), history[0]))
    return replace(fresh, history=tuple(history))


def renew(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the owner of a claim is alive while it waits."""
    _only_from(entry, "renew", EntryState.CLAIMED)
    return replace(entry, renewed_at=now)


def record_intent(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the paid POST is about to be sent."""
    _only_from(entry, "record_intent", EntryState.CLAIMED)
    return replace(entry, intent_at=now, renewed_at=now)


def clear_intent(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Undo :func:`record_intent`: it is proven that nothing was accepted."""
    _only_from(entry, "clear_intent", EntryState.CLAIMED)
    return replace(entry, intent_at=None, renewed_at=now)


def submitted(entry: LedgerEntry, request_id: str, now: float) -> LedgerEntry:
    """Record the API's request id: from here on the clip is paid for."""
    _only_from(entry, "submitted", EntryState.CLAIMED, EntryState.IN_DOUBT)
    if not request_id:
        raise IllegalTransitionError(f"Ledger entry {entry.fingerprint}: submitted without a request id")
    return replace(entry, state=EntryState.SUBMITTED, request_id=request_id, submitted_at=now, outcome=None)


def rejected(entry: LedgerEntry, error: str, now: float) -> LedgerEntry:
    """Record that the API accepted nothing. Another attempt costs nothing, so it is never permanent."""
    _only_from(entry, "rejected", EntryState.CLAIMED, EntryState.IN_DOUBT)
    outcome = Outcome(clean_reason(error), False, now)
    return replace(entry, state=EntryState.FAILED, intent_at=None, outcome=outcome, cost=0.0)


def in_doubt(entry: LedgerEntry, reason: str, now: float) -> LedgerEntry:
    """Record that the paid POST may have been accepted."""
    _only_from(entry, "in_doubt", EntryState.CLAIMED)
    return replace(entry, state=EntryState.IN_DOUBT, outcome=Outcome(clean_reason(reason), False, now))


def succeeded(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the clip was made."""
    _only_from(entry, "succeeded", EntryState.SUBMITTED)
    return replace(entry, state=EntryState.SUCCEEDED, outcome=Outcome(None, False, now), cost=entry.cost_estimate)


def failed(entry: LedgerEntry, error: str | None, permanent: bool, now: float) -> LedgerEntry:
    """Record that the API accepted the request and then failed it; it does not charge for that."""
    _only_from(entry, "failed", EntryState.SUBMITTED)
    outcome = Outcome(clean_reason(error or "the API gave no reason"), permanent, now)
    return replace(entry, state=EntryState.FAILED, outcome=outcome, cost=0.0)


def cancelled(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the request was cancelled; the API does not charge for that."""
    _only_from(entry, "cancelled", EntryState.SUBMITTED)
    return replace(entry, state=EntryState.CANCELLED, outcome=Outcome("cancelled", False, now), cost=0.0)


def archived(entry: LedgerEntry, uri: str, sha256: str) -> LedgerEntry:
    """Record where the clip is archived."""
    _only_from(entry, "archived", EntryState.SUCCEEDED)
    return replace(entry, state=EntryState.ARCHIVED, archive_uri=uri, archive_sha256=sha256)


def record_duplicate(entry: LedgerEntry, request_id: str, seed: int, now: float) -> LedgerEntry:
    """Record a duplicate charge: a request that was accepted beside the one that is waited for."""
    if request_id in entry.request_ids:
        return entry
    return replace(entry, history=(*entry.history, PastRequest(request_id, seed, PastEnd.DUPLICATE, now)))


def clean_reason(text: str) -> str:
    """Shorten a reason, and remove the secrets in its URLs."""
    return redact(text, MAX_ERROR_LENGTH)


_REPAIR = (
    "Nothing is paid while it is there. Restore it from a copy, or, once the API's list of requests shows "
    "that no clip was made for it, delete it."
)
_STATES_WITH_ID = (EntryState.SUBMITTED, EntryState.SUCCEEDED, EntryState.ARCHIVED, EntryState.CANCELLED)
_PAST_ENDS = {
    EntryState.FAILED: PastEnd.FAILED,
    EntryState.CANCELLED: PastEnd.CANCELLED,
    EntryState.IN_DOUBT: PastEnd.ABSENT,
}


@cache
def _adapter() -> TypeAdapter[LedgerEntry]:
    # Imported at the first entry that is read: a Dag file that is only parsed does not need it.
    from pydantic import TypeAdapter

    return TypeAdapter(LedgerEntry)


def _check_version(data: dict[str, Any]) -> None:
    version = data.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise LedgerCorruptError(f"A ledger entry names no known version ({version!r}). {_REPAIR}")
    if version > VERSION:
        raise LedgerVersionError(
            f"Ledger entry {data.get('fingerprint')} has version {version}; this provider reads version {VERSION}. "
            "Upgrade airflow-provider-wan here to the version that wrote it."
        )
    if version < VERSION:
        raise LedgerVersionError(
            f"Ledger entry {data.get('fingerprint')} has version {version}, written by an older airflow-provider-wan; "
            f"this one reads version {VERSION}. Nothing is paid for this clip while the entry is there. Let the "
            "version that wrote it finish its clips, or use another ledger_uri."
        )


def _only_from(entry: LedgerEntry, transition: str, *states: EntryState) -> None:
    if entry.state not in states:
        raise IllegalTransitionError(
            f"Ledger entry {entry.fingerprint} is {entry.state}: '{transition}' is allowed only from "
            f"{', '.join(states)}"
        )
