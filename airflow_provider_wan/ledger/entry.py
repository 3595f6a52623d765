# SPDX-License-Identifier: Apache-2.0
"""
The ledger's entry: what is known of one clip, and the only ways in which it may change.

::

    (none)                    ─claim→      claimed
    claimed                   ─posting→    claimed, posting_at set    the paid POST leaves now
    claimed                   ─renew→      claimed                    its owner is alive
    claimed                   ─unsent→     claimed, posting_at unset  a 429: nothing was accepted
    claimed                   ─in_doubt→   in_doubt                   the answer was lost
    claimed · in_doubt        ─submitted→  submitted                  accepted, or found in the list
    claimed · in_doubt        ─refused→    failed                     nothing was accepted
    submitted                 ─succeeded→  succeeded ─archived→ archived
    submitted                 ─failed→     failed
    submitted                 ─cancelled→  cancelled
    failed · cancelled · in_doubt · claimed  ─reclaim→  claimed       with proof; see decision.py

``posting_at`` is written immediately before the paid POST: a claim without it proves that nothing was
sent. An entry holds no prompt, no query string of a URL and no key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.redact import redact
from airflow_provider_wan.ledger.errors import (
    IllegalTransitionError,
    LedgerCorruptError,
    LedgerVersionError,
)

VERSION = 1
MAX_ERROR = 500
MAX_HISTORY = 50


class EntryState(StrEnum):
    """Where a clip stands."""

    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True)
class Owner:
    """
    Who claims a clip: one process of one task instance.

    :param task: names the task instance for good, through retries and clears: ``dag/run/task/map index``.
    :param attempt: its try number.
    :param nonce: drawn anew by each process, so that no two claims are equal.
    """

    task: str
    attempt: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.task}#{self.attempt}#{self.nonce}"

    @staticmethod
    def task_of(owner: str) -> str:
        """Return the task instance that an entry's ``owner`` names."""
        return owner.rsplit("#", 2)[0]


@dataclass(frozen=True)
class Outcome:
    """
    How it ended, or why nothing is known.

    :param error: the reason in few words; None after a success.
    :param permanent: whether the same clip would fail again.
    :param finished_at: Unix seconds.
    """

    error: str | None
    permanent: bool
    finished_at: float


@dataclass(frozen=True)
class Attempt:
    """
    An earlier request for the same clip.

    :param request_id: its id, or None where none was ever given.
    :param seed: the seed that it was sent with.
    :param ended: ``failed``, ``cancelled``, ``absent`` (proven never to have arrived), ``unsent``, or
        ``stray`` (accepted beside another one: paid for, and not the one that is waited for).
    :param ended_at: Unix seconds.
    :param error: the reason, where there is one.
    """

    request_id: str | None
    seed: int
    ended: str
    ended_at: float
    error: str | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """
    What is known of one clip.

    :param fingerprint: under which it lies.
    :param state: where it stands.
    :param model: model id as sent.
    :param scope: within what it is shared: a dag run, a task instance, or empty for everything.
    :param owner: the :class:`Owner` that claimed it last, as text.
    :param claimed_at: Unix seconds of the claim, by the owner's clock.
    :param renewed_at: Unix seconds of the owner's last sign of life.
    :param posting_at: Unix seconds just before the paid POST; None: nothing was sent under this claim.
    :param seed: the seed sent, the user's or drawn.
    :param seed_drawn: whether it was drawn for this claim, and so is found nowhere else.
    :param payload_sha256: of the payload as sent, without query strings.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video.
    :param request_id: the API's id, once accepted.
    :param submitted_at: Unix seconds of the acceptance.
    :param outcome: how it ended.
    :param history: earlier requests for the same clip, the oldest first.
    :param cost_estimate: US dollars, by the connection's prices at the claim; None without a price.
    :param cost: US dollars charged, as far as prices tell: the estimate after a success, 0 after a failure.
    :param archive_uri: where the clip was archived.
    :param archive_sha256: of the archived clip.
    """

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
    posting_at: float | None = None
    request_id: str | None = None
    submitted_at: float | None = None
    outcome: Outcome | None = None
    history: tuple[Attempt, ...] = ()
    cost_estimate: float | None = None
    cost: float | None = None
    archive_uri: str | None = None
    archive_sha256: str | None = None

    @property
    def request_ids(self) -> frozenset[str]:
        """Return the ids of every request that was ever made for the clip."""
        known = {self.request_id, *(attempt.request_id for attempt in self.history)}
        return frozenset(request_id for request_id in known if request_id)

    @property
    def attempts(self) -> int:
        """Return how many requests the API has accepted for the clip."""
        return len(self.request_ids)

    def to_json(self) -> str:
        """Return the entry as JSON, with keys in a fixed order."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> LedgerEntry:
        """
        Read an entry.

        :raises LedgerVersionError: a newer version wrote it.
        :raises LedgerCorruptError: it is anything else than a whole entry.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise LedgerCorruptError(f"A ledger entry of {len(text)} characters is not JSON. {_REPAIR}") from None
        if not isinstance(data, dict):
            raise LedgerCorruptError(f"A ledger entry is not a JSON object. {_REPAIR}")
        version = data.pop("version", None)
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            raise LedgerVersionError(
                f"Ledger entry {data.get('fingerprint')} is of version {version}; this provider reads up to "
                f"{VERSION}. Upgrade airflow-provider-wan here to the version that wrote it."
            )
        if version != VERSION:
            raise LedgerCorruptError(f"A ledger entry names no known version ({version!r}). {_REPAIR}")
        entry: LedgerEntry = _read(cls, data)
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
    """Make the first entry of a clip."""
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
    Claim a clip anew, and keep what was there in its history.

    :param fresh: the claim as :func:`claim` makes it.
    """
    _only_from(entry, "reclaim", EntryState.FAILED, EntryState.CANCELLED, EntryState.IN_DOUBT, EntryState.CLAIMED)
    ended = {
        EntryState.FAILED: "failed",
        EntryState.CANCELLED: "cancelled",
        EntryState.IN_DOUBT: "absent",
    }.get(entry.state, "absent" if entry.posting_at is not None else "unsent")
    error = entry.outcome.error if entry.outcome else None
    past = Attempt(entry.request_id, entry.seed, ended, fresh.claimed_at, error)
    # Those without an id prove nothing later, and a long wait may make many: the last ones will do.
    history = [*entry.history, past]
    while len(history) > MAX_HISTORY:
        history.remove(next((a for a in history if a.request_id is None), history[0]))
    return replace(fresh, history=tuple(history))


def renew(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Show that the owner of a claim is alive while it waits."""
    _only_from(entry, "renew", EntryState.CLAIMED)
    return replace(entry, renewed_at=now)


def posting(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Say that the paid POST is about to leave."""
    _only_from(entry, "posting", EntryState.CLAIMED)
    return replace(entry, posting_at=now, renewed_at=now)


def unsent(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Take :func:`posting` back: the API has proved that it accepted nothing."""
    _only_from(entry, "unsent", EntryState.CLAIMED)
    return replace(entry, posting_at=None, renewed_at=now)


def submitted(entry: LedgerEntry, request_id: str, now: float) -> LedgerEntry:
    """Note the API's id: from here on the clip is paid for."""
    _only_from(entry, "submitted", EntryState.CLAIMED, EntryState.IN_DOUBT)
    if not request_id:
        raise IllegalTransitionError(f"Ledger entry {entry.fingerprint}: submitted without a request id")
    return replace(entry, state=EntryState.SUBMITTED, request_id=request_id, submitted_at=now, outcome=None)


def refused(entry: LedgerEntry, error: str, now: float) -> LedgerEntry:
    """Note that the API accepted nothing. Asking again costs nothing, so it is never permanent."""
    _only_from(entry, "refused", EntryState.CLAIMED, EntryState.IN_DOUBT)
    return replace(entry, state=EntryState.FAILED, posting_at=None, outcome=Outcome(scrub(error), False, now), cost=0.0)


def in_doubt(entry: LedgerEntry, reason: str, now: float) -> LedgerEntry:
    """Note that the paid POST may have been accepted."""
    _only_from(entry, "in_doubt", EntryState.CLAIMED)
    return replace(entry, state=EntryState.IN_DOUBT, outcome=Outcome(scrub(reason), False, now))


def succeeded(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Note that the clip was made."""
    _only_from(entry, "succeeded", EntryState.SUBMITTED)
    return replace(entry, state=EntryState.SUCCEEDED, outcome=Outcome(None, False, now), cost=entry.cost_estimate)


def failed(entry: LedgerEntry, error: str | None, permanent: bool, now: float) -> LedgerEntry:
    """Note that the API accepted the request and then failed it; it does not charge for that."""
    _only_from(entry, "failed", EntryState.SUBMITTED)
    outcome = Outcome(scrub(error or "the API gave no reason"), permanent, now)
    return replace(entry, state=EntryState.FAILED, outcome=outcome, cost=0.0)


def cancelled(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Note that the request was cancelled; the API does not charge for that."""
    _only_from(entry, "cancelled", EntryState.SUBMITTED)
    return replace(entry, state=EntryState.CANCELLED, outcome=Outcome("cancelled", False, now), cost=0.0)


def archived(entry: LedgerEntry, uri: str, sha256: str) -> LedgerEntry:
    """Note where the clip lies for good."""
    _only_from(entry, "archived", EntryState.SUCCEEDED)
    return replace(entry, state=EntryState.ARCHIVED, archive_uri=uri, archive_sha256=sha256)


def strayed(entry: LedgerEntry, request_id: str, seed: int, now: float) -> LedgerEntry:
    """Note a request that was accepted beside the one that is waited for, so that it can be harvested."""
    if request_id in entry.request_ids:
        return entry
    return replace(entry, history=(*entry.history, Attempt(request_id, seed, "stray", now)))


def scrub(text: str) -> str:
    """Shorten a reason, and take out what is secret in its URLs."""
    return redact(text)[:MAX_ERROR]


_REPAIR = (
    "Nothing is paid while it is there. Restore it from a copy, or, once the API's list of requests shows "
    "that no clip was made for it, delete it."
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "EntryState": (str,),
    "Outcome": (dict,),
    "tuple[Attempt, ...]": (list,),
    "None": (type(None),),
}
_ID_STATES = (EntryState.SUBMITTED, EntryState.SUCCEEDED, EntryState.ARCHIVED, EntryState.CANCELLED)


def _read(kind: type[Any], data: dict[str, Any]) -> Any:
    """Build a dataclass of this module from JSON, strictly."""
    known = {field.name: str(field.type) for field in fields(kind)}
    if set(data) != set(known):
        odd = sorted(set(data) ^ set(known))
        raise LedgerCorruptError(f"A ledger entry lacks or has too many fields: {odd}. {_REPAIR}")
    values = dict(data)
    for name, declared in known.items():
        value = data[name]
        allowed = tuple(t for part in declared.split(" | ") for t in _TYPES[part])
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise LedgerCorruptError(f"A ledger entry's {name} is of the wrong type. {_REPAIR}")
    if kind is LedgerEntry:
        try:
            values["state"] = EntryState(data["state"])
        except ValueError:
            raise LedgerCorruptError(f"A ledger entry's state is {data['state']!r}. {_REPAIR}") from None
        if values["state"] in _ID_STATES and not data["request_id"]:
            raise LedgerCorruptError(f"A ledger entry is {values['state']} without a request id. {_REPAIR}")
        values["outcome"] = _read(Outcome, data["outcome"]) if data["outcome"] is not None else None
        if not all(isinstance(item, dict) for item in data["history"]):
            raise LedgerCorruptError(f"A ledger entry's history is not a list of objects. {_REPAIR}")
        values["history"] = tuple(_read(Attempt, item) for item in data["history"])
    return kind(**values)


def _only_from(entry: LedgerEntry, change: str, *states: EntryState) -> None:
    if entry.state not in states:
        raise IllegalTransitionError(
            f"Ledger entry {entry.fingerprint} is {entry.state}: '{change}' is allowed only from {', '.join(states)}"
        )
