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
    archived                  ─relocated→      archived              it is gone there, and was archived anew
    submitted                 ─failed→         failed
    submitted                 ─cancelled→      cancelled
    failed · cancelled · in_doubt · claimed  ─reclaim→  claimed          with proof; see rules.py

``intent_at`` is written immediately before the paid POST: a claim without it proves that nothing was
sent. An entry holds no prompt, no query string of a URL and no key; text from outside is cleaned where it enters.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_wan.api.config import Account
from airflow_provider_wan.api.record import normalize_id
from airflow_provider_wan.api.redaction import clean_text, public_url, redact
from airflow_provider_wan.ledger.errors import (
    IllegalTransitionError,
    LedgerCorruptError,
    LedgerVersionError,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERSION = 3
MAX_ERROR_LENGTH = 500
MAX_HISTORY = 50
MAX_REUSES = 20
MAX_URI_LENGTH = 2000

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
        return f"{self.attempt}#{self.nonce}"

    @property
    def attempt(self) -> str:
        """Name of the task instance's attempt: a task that resumes after a deferral has the same one."""
        return f"{clean_text(self.task)}#{self.try_number}"

    @staticmethod
    def parse_task(owner: str) -> str:
        """Return the task instance named by an entry's ``owner``."""
        return owner.rsplit("#", 2)[0]

    @staticmethod
    def parse_attempt(owner: str) -> str:
        """Return the attempt named by an entry's ``owner``."""
        return owner.rsplit("#", 1)[0]

    def supersedes(self, owner: str) -> bool:
        """Return whether this is a later try of the task instance that an entry's ``owner`` names."""
        task, _, try_number = self.parse_attempt(owner).rpartition("#")
        return task == clean_text(self.task) and try_number.isdecimal() and int(try_number) < self.try_number


@dataclass(frozen=True)
class TaskReference:
    """
    Where in Airflow a clip was asked for. It informs people, and is never part of a name.

    :param dag_id: id of the Dag.
    :param run_id: id of the Dag run.
    :param task_id: id of the task.
    :param map_index: index of the mapped task instance; None if it is not mapped.
    :param source_uri: ``s3://`` or ``http(s)://`` URI of the image; None if only its bytes are known.
    """

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    source_uri: str | None = None


NO_REFERENCE = TaskReference()


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
    :param submitted_at: Unix seconds of the acceptance, if it was accepted.
    :param cost: US dollars charged for it, as far as prices are known.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    request_id: str | None
    seed: int
    ended: PastEnd
    ended_at: float
    error: str | None = None
    submitted_at: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class ReuseRecord:
    """
    A task that was given the clip instead of paying for it.

    :param task: name of the task instance.
    :param at: Unix seconds.
    :param dag_id: id of the Dag.
    :param run_id: id of the Dag run.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    task: str
    at: float
    dag_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """
    What is known of one clip.

    :param fingerprint: key of the entry.
    :param state: state of the clip.
    :param account: id of the account that the clip is paid by: a hash of the service's address and the organisation.
    :param account_name: address and organisation of the account, for people.
    :param key_id: short hash of the API key; it is only compared.
    :param model: model id as sent.
    :param scope: where the clip is shared: a Dag run, a task instance, or everywhere (empty).
    :param owner: the :class:`Owner` of the last claim, as text.
    :param claimed_at: Unix seconds of the claim, by the owner's clock.
    :param renewed_at: Unix seconds of the owner's last sign of life.
    :param intent_at: Unix seconds just before the paid POST; None if nothing was sent under this claim.
    :param first_intent_at: ``intent_at`` of the first paid POST for the clip that may have been accepted.
    :param posts: number of paid POSTs for the clip that may have been accepted: all that were sent, except those that
        the service's own answer refused.
    :param repeats_after_absence: attempts (task and try number) that sent a POST after an earlier one was found in the
        API's list to be absent; each attempt may do so once.
    :param duplicate_scan_due: whether the API's list has to be scanned once more, for a request that was accepted late.
    :param seed: the seed sent: the user's, or one that was drawn.
    :param seed_drawn: whether the seed was drawn for this claim, and so is unique.
    :param payload_sha256: SHA-256 of the payload as sent, without query strings.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video.
    :param request_id: the API's id, once the request is accepted.
    :param submitted_at: Unix seconds of the acceptance.
    :param outcome: how the request ended.
    :param history: earlier requests for the same clip, oldest first.
    :param price: US dollars per second of video at the time of the claim; None without a price.
    :param cost_estimate: US dollars, by that price.
    :param cost: US dollars charged, as far as prices are known: the estimate after a success, 0 after a failure.
    :param archive_uri: where the clip was archived.
    :param archive_sha256: SHA-256 of the archived clip.
    :param model_family: the registry's name for the model's kind of payload; None for a raw payload.
    :param dag_id: see :class:`TaskReference`, as the following.
    :param run_id: id of the Dag run.
    :param task_id: id of the task.
    :param map_index: index of the mapped task instance.
    :param source_uri: URI of the image, without a query.
    :param reuse_count: number of tasks that were given the clip instead of paying for it.
    :param reuses: the last of them.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = _STRICT

    fingerprint: str
    state: EntryState
    account: str
    account_name: str
    key_id: str
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
    first_intent_at: float | None = None
    posts: int = 0
    repeats_after_absence: tuple[str, ...] = ()
    duplicate_scan_due: bool = False
    request_id: str | None = None
    submitted_at: float | None = None
    outcome: Outcome | None = None
    history: tuple[PastRequest, ...] = ()
    price: float | None = None
    cost_estimate: float | None = None
    cost: float | None = None
    archive_uri: str | None = None
    archive_sha256: str | None = None
    model_family: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    source_uri: str | None = None
    reuse_count: int = 0
    reuses: tuple[ReuseRecord, ...] = ()

    @property
    def request_ids(self) -> frozenset[str]:
        """Ids of all requests that were ever made for the clip."""
        ids = {self.request_id, *(past.request_id for past in self.history)}
        return frozenset(request_id for request_id in ids if request_id)

    def is_own_request(self, request_id: str) -> bool:
        """Return whether a request was made for the clip, in whatever capitals its id is written."""
        return normalize_id(request_id) in map(normalize_id, self.request_ids)

    @property
    def attempts(self) -> int:
        """Number of requests that the API has accepted for the clip."""
        return len(self.request_ids)

    @property
    def duplicates(self) -> tuple[PastRequest, ...]:
        """Duplicate charges: requests that were accepted beside another one."""
        return tuple(past for past in self.history if past.ended is PastEnd.DUPLICATE)

    @property
    def charged(self) -> float | None:
        """US dollars charged for the clip, duplicate charges included; None while that is unknown."""
        return None if self.cost is None else round(self.cost + sum(past.cost or 0.0 for past in self.duplicates), 6)

    @property
    def may_have_been_sent(self) -> bool:
        """Whether a paid POST may have been accepted whose request id is unknown."""
        return self.state is EntryState.IN_DOUBT or (self.state is EntryState.CLAIMED and self.intent_at is not None)

    @property
    def is_repeat(self) -> bool:
        """
        Whether a POST that is sent now follows one whose absence is known from the API's list only.

        ``posts`` counts all that may have been accepted; for those that were, a request id is known.
        """
        return self.posts > len(self.request_ids)

    @property
    def last_sent_at(self) -> float:
        """Unix seconds of the last intent to send, or else of the claim."""
        return self.claimed_at if self.intent_at is None else self.intent_at

    @property
    def finished_at(self) -> float | None:
        """Unix seconds at which the request was known to have ended; None before."""
        return self.outcome.finished_at if self.outcome and self.state in _ENDED else None

    @property
    def times(self) -> tuple[float, ...]:
        """All Unix seconds that it names."""
        times = [self.claimed_at, self.renewed_at, self.intent_at, self.first_intent_at, self.submitted_at]
        times += [self.outcome.finished_at if self.outcome else None, *(each.at for each in self.reuses)]
        times += [moment for past in self.history for moment in (past.ended_at, past.submitted_at)]
        return tuple(moment for moment in times if moment is not None)

    @property
    def seeds(self) -> frozenset[int]:
        """All seeds that were ever sent for the clip."""
        return frozenset({self.seed, *(past.seed for past in self.history)})

    def to_json(self) -> str:
        """
        Return the entry as JSON that any reader takes, with keys in a fixed order.

        :raises ValueError: if it holds a number that JSON does not have.
        """
        content = {"version": VERSION, **asdict(self)}
        text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
        return clean_text(text)

    @classmethod
    def from_json(cls, text: str | bytes, fingerprint: str | None = None) -> LedgerEntry:
        """
        Read an entry. Unknown fields are ignored.

        :param text: the entry as it is stored.
        :param fingerprint: the key that it is stored under; None if that is not to be compared.
        :raises LedgerVersionError: if it has the format of an older or newer version.
        :raises LedgerCorruptError: if it is not a complete entry, or that of another clip.
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
        if any(not 0 <= moment < _LAST_TIME for moment in entry.times):
            raise LedgerCorruptError(f"A ledger entry holds an impossible time. {_REPAIR}")
        if fingerprint not in (None, entry.fingerprint):
            raise LedgerCorruptError(f"Ledger entry {fingerprint} is a copy of that of {entry.fingerprint}. {_REPAIR}")
        return entry


def claim(
    *,
    fingerprint: str,
    owner: Owner,
    account: Account,
    scope: str,
    now: float,
    model: str,
    resolution: str,
    duration: int,
    seed: int,
    seed_drawn: bool,
    payload_sha256: str,
    price: float | None,
    cost_estimate: float | None,
    model_family: str | None = None,
    reference: TaskReference = NO_REFERENCE,
) -> LedgerEntry:
    """Return the first entry of a clip."""
    return LedgerEntry(
        fingerprint=fingerprint,
        state=EntryState.CLAIMED,
        account=account.id,
        account_name=clean_text(account.name, MAX_ERROR_LENGTH),
        key_id=account.key_id,
        model=clean_text(model),
        scope=clean_text(scope),
        owner=str(owner),
        claimed_at=now,
        renewed_at=now,
        seed=seed,
        seed_drawn=seed_drawn,
        payload_sha256=payload_sha256,
        resolution=resolution,
        duration=duration,
        price=price,
        cost_estimate=cost_estimate,
        model_family=model_family,
        dag_id=_clean_name(reference.dag_id),
        run_id=_clean_name(reference.run_id),
        task_id=_clean_name(reference.task_id),
        map_index=reference.map_index,
        source_uri=clean_text(public_url(reference.source_uri), MAX_URI_LENGTH) if reference.source_uri else None,
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
    past = PastRequest(
        entry.request_id,
        entry.seed,
        ended,
        fresh.claimed_at,
        entry.outcome.error if entry.outcome else None,
        entry.submitted_at,
        0.0,
    )
    return replace(
        fresh,
        history=_bound_history([*entry.history, past]),
        first_intent_at=entry.first_intent_at,
        posts=entry.posts,
        repeats_after_absence=entry.repeats_after_absence,
        duplicate_scan_due=entry.duplicate_scan_due,
    )


def renew(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the owner of a claim is alive while it waits."""
    _only_from(entry, "renew", EntryState.CLAIMED)
    return replace(entry, renewed_at=now)


def record_intent(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Record that the paid POST is about to be sent."""
    _only_from(entry, "record_intent", EntryState.CLAIMED)
    if entry.intent_at is not None:
        return replace(entry, intent_at=now, renewed_at=now)
    repeats = entry.repeats_after_absence
    if entry.is_repeat:
        repeats = (*repeats, Owner.parse_attempt(entry.owner))[-MAX_HISTORY:]
    return replace(
        entry,
        intent_at=now,
        renewed_at=now,
        posts=entry.posts + 1,
        first_intent_at=now if entry.first_intent_at is None else entry.first_intent_at,
        repeats_after_absence=repeats,
        duplicate_scan_due=entry.duplicate_scan_due or entry.is_repeat,
    )


def clear_intent(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Undo :func:`record_intent`: it is proven that nothing was accepted."""
    _only_from(entry, "clear_intent", EntryState.CLAIMED)
    return replace(_without_intent(entry), renewed_at=now)


def submitted(entry: LedgerEntry, request_id: str, now: float, *, found: bool = False) -> LedgerEntry:
    """
    Record the API's request id: from here on the clip is paid for.

    :param found: whether the request was found after a doubt; then the list is scanned once more, for another one.
    """
    _only_from(entry, "submitted", EntryState.CLAIMED, EntryState.IN_DOUBT)
    if not request_id:
        raise IllegalTransitionError(f"Ledger entry {entry.fingerprint}: submitted without a request id")
    return replace(
        entry,
        state=EntryState.SUBMITTED,
        request_id=request_id,
        submitted_at=now,
        outcome=None,
        duplicate_scan_due=entry.duplicate_scan_due or found or entry.state is EntryState.IN_DOUBT,
    )


def rejected(entry: LedgerEntry, error: str, now: float) -> LedgerEntry:
    """Record that the API accepted nothing. Another attempt costs nothing, so it is never permanent."""
    _only_from(entry, "rejected", EntryState.CLAIMED, EntryState.IN_DOUBT)
    outcome = Outcome(clean_reason(error), False, now)
    return replace(_without_intent(entry), state=EntryState.FAILED, outcome=outcome, cost=0.0)


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


def relocated(entry: LedgerEntry, uri: str, sha256: str) -> LedgerEntry:
    """Record where the clip was archived anew, because it is no longer where it was."""
    _only_from(entry, "relocated", EntryState.ARCHIVED)
    return replace(entry, archive_uri=uri, archive_sha256=sha256)


def record_duplicate(entry: LedgerEntry, request_id: str, seed: int, now: float) -> LedgerEntry:
    """Record a duplicate charge: a request that was accepted beside the one that is waited for."""
    if entry.is_own_request(request_id):
        return entry
    past = PastRequest(request_id, seed, PastEnd.DUPLICATE, now, submitted_at=now, cost=entry.cost_estimate)
    return replace(entry, history=_bound_history([*entry.history, past]))


def require_duplicate_scan(entry: LedgerEntry) -> LedgerEntry:
    """Record that one more POST of the clip is in doubt, although another process has reconciled the entry."""
    return replace(entry, duplicate_scan_due=True)


def duplicates_scanned(entry: LedgerEntry) -> LedgerEntry:
    """Record that the late scan for a second request was made."""
    return replace(entry, duplicate_scan_due=False)


def reused(entry: LedgerEntry, task: str, reference: TaskReference, now: float) -> LedgerEntry:
    """Record that a task was given the clip instead of paying for it."""
    record = ReuseRecord(clean_text(task), now, _clean_name(reference.dag_id), _clean_name(reference.run_id))
    return replace(entry, reuse_count=entry.reuse_count + 1, reuses=(*entry.reuses, record)[-MAX_REUSES:])


def clean_reason(text: str) -> str:
    """Shorten a reason, and remove the secrets in its URLs."""
    return redact(text, MAX_ERROR_LENGTH)


#: Unix seconds after which no date can be shown; some 3,000 years ahead.
_LAST_TIME = 1e11
_REPAIR = (
    "Nothing is paid while it is there. Restore it from a copy, or, once the API's list of requests shows "
    "that no clip was made for it, delete it."
)
_ENDED = (EntryState.SUCCEEDED, EntryState.ARCHIVED, EntryState.FAILED, EntryState.CANCELLED)
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


def _bound_history(history: list[PastRequest]) -> tuple[PastRequest, ...]:
    # Past requests without an id prove nothing later, so they are the first to be dropped.
    while len(history) > MAX_HISTORY:
        history.remove(next((past for past in history if past.request_id is None), history[0]))
    return tuple(history)


def _without_intent(entry: LedgerEntry) -> LedgerEntry:
    if entry.intent_at is None:
        return entry
    posts, repeats = entry.posts - 1, entry.repeats_after_absence
    # What the service itself refused is no repeat either.
    if repeats and repeats[-1] == Owner.parse_attempt(entry.owner):
        repeats = repeats[:-1]
    return replace(
        entry,
        intent_at=None,
        posts=posts,
        first_intent_at=entry.first_intent_at if posts else None,
        repeats_after_absence=repeats,
    )


def _clean_name(name: str | None) -> str | None:
    return None if name is None else clean_text(name, MAX_ERROR_LENGTH)


def _only_from(entry: LedgerEntry, transition: str, *states: EntryState) -> None:
    if entry.state not in states:
        raise IllegalTransitionError(
            f"Ledger entry {entry.fingerprint} is {entry.state}: '{transition}' is allowed only from "
            f"{', '.join(states)}"
        )
