# SPDX-License-Identifier: Apache-2.0
"""
Finds out from the API's list whether a POST was accepted whose response was lost.

The API has no idempotency key. A request is identified by its seed: a drawn one is unique. There are four findings:

* **found**: one record is ours.
* **absent**: a scan of the list shows nothing that can be ours, and a positive control shows that it would have been
  there: the list was read, newest first and without a gap, down to a request that is older than the POST; and every
  request that the ledger knows to have been accepted since is in it. One such scan proves nothing while the POST may be
  in flight; two, ``absence_confirm_interval`` apart, do.
* **undecided**: not yet known; a later scan may show it.
* **inconclusive**: the list can't be read, contradicts itself, or shows requests that may be ours. That stops
  everything.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from airflow_provider_wan.api.config import Account
from airflow_provider_wan.api.errors import WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus, normalize_id
from airflow_provider_wan.api.request import MODELS, PROMPT_PARAMETERS, WanRequest
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import LedgerUnavailableError
from airflow_provider_wan.ledger.fingerprint import hash_payload, normalize_payload
from airflow_provider_wan.ledger.request_history import (
    MAX_ZONE_DIFFERENCE,
    RequestHistory,
    RequestLister,
    list_requests_since,
)
from airflow_provider_wan.ledger.rules import Policy
from airflow_provider_wan.ledger.stores.base import LedgerStore

# The list is read back this much further (in seconds) than necessary: it costs little, and clocks may be wrong.
EXTRA_DEPTH = 3600.0


class RequestReader(RequestLister, Protocol):
    """The part of the client that is used here."""

    @property
    def account(self) -> Account:
        """The account whose requests it reads."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""


_IMAGE_FIELDS = {"img_url", "first_frame", "last_frame", "first_clip"}


class Finding(StrEnum):
    """What a scan of the list shows."""

    FOUND = "found"
    ABSENT = "absent"
    UNDECIDED = "undecided"
    INCONCLUSIVE = "inconclusive"


class Match(StrEnum):
    """Whether a record is ours."""

    YES = "yes"
    NO = "no"
    PAYLOAD_HIDDEN = "its seed is hidden"
    SEED_ONLY = "it has our seed and another payload"
    REWRITTEN = "it has our seed, and another prompt or image"


@dataclass(frozen=True)
class ReconcileResult:
    """
    The result of one scan of the list.

    :param finding: found, absent, undecided or inconclusive.
    :param record: our request, if found.
    :param reason: why the scan is undecided or inconclusive.
    :param duplicates: further requests that are ours: accepted and charged, beside the one that is adopted.
    :param candidates: ids of requests that may be ours, if the scan is inconclusive because of them.
    """

    finding: Finding
    record: RequestRecord | None = None
    reason: str = ""
    duplicates: tuple[RequestRecord, ...] = ()
    candidates: tuple[str, ...] = ()


def reconcile_entry(
    api: RequestReader,
    store: LedgerStore,
    entry: LedgerEntry,
    request: WanRequest | None,
    policy: Policy,
    now: float,
) -> ReconcileResult:
    """
    Scan the API's list for the request of an entry.

    :param api: the client.
    :param store: the ledger's store, for what other entries say.
    :param entry: the entry.
    :param request: what this attempt would send, if known; it makes the comparison more precise.
    :param policy: times and limits.
    :param now: Unix seconds.
    """
    since = get_first_sent_at(entry) - policy.clock_margin
    # Before the list is read: what they say was accepted must then be in it.
    others = OtherEntries.read(store, entry, since)
    histories = read_histories(api, entry.model, since, policy, others.known)
    ours: list[RequestRecord] = []
    unclear: dict[str, str] = {}
    rewritten: list[RequestRecord] = []
    pending: list[str] = []
    old_enough = now - entry.last_sent_at > policy.settling_time
    for record in _merge(histories):
        if entry.is_own_request(record.request_id):
            continue
        match = match_record(entry, request, record)
        if others.own(record) and not (match is Match.YES and entry.seed_drawn):
            continue
        hides = match in (Match.PAYLOAD_HIDDEN, Match.REWRITTEN)
        if hides and not _may_be_charged_for(api, entry, record, policy):
            match = Match.NO
        if match is Match.PAYLOAD_HIDDEN:
            match, is_known = _match_single(api, entry, request, record)
            if not is_known:
                # A request of the web console; or one that was just accepted, which GET does not show yet.
                if old_enough:
                    continue
                pending.append(record.request_id)
                continue
        if match is Match.YES:
            ours.append(record)
        elif match is Match.REWRITTEN:
            rewritten.append(record)
        elif match is not Match.NO:
            unclear[record.request_id] = str(match)
    if entry.seed_drawn:
        decided = _rank_drawn(ours)
    else:
        # After the list was read: whoever sent what it shows has recorded the intent by now.
        others = others.merge(OtherEntries.read(store, entry, since)) if ours or rewritten else others
        rewritten = [record for record in rewritten if not others.explain(record)]
        ours = [_confirm_end(api, record) for record in ours]
        decided = _rank_given(entry, ours, others, policy, now)
        shifted = [record for record in ours if is_charged(record) and _is_hours_apart(entry, record, policy)]
        if decided is None and shifted and not any(history.clock_is_right for history in histories):
            earlier = OtherEntries.read(store, entry, since - MAX_ZONE_DIFFERENCE)
            unclear |= {record.request_id: _OTHER_HOUR for record in shifted if not earlier.own(record)}
    if decided is not None:
        return decided
    if rewritten and not old_enough:
        names = _name_first(record.request_id for record in rewritten)
        return ReconcileResult(Finding.UNDECIDED, reason=f"these requests may be it ({Match.REWRITTEN}): {names}")
    unclear |= {record.request_id: str(Match.REWRITTEN) for record in rewritten}
    if unclear:
        reason = "these requests may be it: " + _name_first(f"{each} ({why})" for each, why in unclear.items())
        return ReconcileResult(Finding.INCONCLUSIVE, reason=reason, candidates=tuple(unclear))
    if pending:
        reason = f"these requests may be it, and can't be fetched yet: {_name_first(pending)}"
        return ReconcileResult(Finding.UNDECIDED, reason=reason)
    return _control(api.account, entry, histories[0], others, since, now, policy)


def find_duplicates(
    api: RequestReader, store: LedgerStore, entry: LedgerEntry, policy: Policy
) -> tuple[RequestRecord, ...] | None:
    """
    Scan the list for requests that were accepted for a clip beside the one that the entry names.

    :param api: the client.
    :param store: the ledger's store.
    :param entry: the entry.
    :param policy: times and limits.
    :returns: those that are charged; None if the list can't be read so far back, or does not show what it has to.
    """
    since = get_first_sent_at(entry) - policy.clock_margin
    own: tuple[KnownRequest, ...] = ()
    if entry.request_id and entry.submitted_at is not None:
        own = (KnownRequest(entry.request_id, entry.submitted_at, entry.model, None),)
    histories = read_histories(api, entry.model, since, policy, own)
    if all(history.gap for history in histories):
        return None
    others = OtherEntries.read(store, entry, since)
    if others.undecided and not entry.seed_drawn:
        return None
    found = tuple(
        record
        for record in _merge(histories)
        if not (entry.is_own_request(record.request_id) or others.own(record))
        and record.status not in _NOT_CHARGED
        and _find_seeds(record.payload) & entry.seeds
        and not _contradicts(entry, None, record)
        and (
            entry.seed_drawn
            or (hash_payload(record.payload, entry.model) == entry.payload_sha256 and is_in_time(entry, record, policy))
        )
    )
    return found if found or any(_covers(history, entry, since) for history in histories) else None


def _covers(history: RequestHistory, entry: LedgerEntry, since: float) -> bool:
    """Return whether a reading would show a second request: it goes back so far, or shows the one that is known."""
    shows_own = any(entry.is_own_request(record.request_id) for record in history.records)
    return history.gap is None and (shows_own or history.read_back_to <= since)


def read_histories(
    api: RequestLister, model: str, since: float, policy: Policy, known: Sequence[KnownRequest] = ()
) -> tuple[RequestHistory, ...]:
    """
    Read the list of all models, and filtered by one: the service may file a request under another model id.

    :param api: the client.
    :param model: model id as sent.
    :param since: Unix seconds.
    :param policy: times and limits.
    :param known: requests that were accepted, by whose times the list's clock is checked.
    :returns: what was read; first the reading that can prove an absence.
    """
    times = {normalize_id(each.request_id): each.submitted_at for each in known}
    readings = (
        list_requests_since(
            api,
            each,
            since - EXTRA_DEPTH,
            page_size=policy.page_size,
            max_pages=policy.max_pages,
            known=times,
            clock_margin=policy.clock_margin,
        )
        for each in (None, model)
    )
    return tuple(reading for reading in readings if reading is not None)


def match_record(entry: LedgerEntry, request: WanRequest | None, record: RequestRecord) -> Match:
    """
    Return whether a record's echo is what the entry says was sent.

    :param entry: the entry.
    :param request: what this attempt would send, if known.
    :param record: a record of the list.
    """
    seeds = _find_seeds(record.payload)
    if not seeds:
        if _contradicts(entry, request, record):
            return Match.NO
        return Match.NO if _is_foreign(entry, record) else Match.PAYLOAD_HIDDEN
    if entry.seed not in seeds and any(_is_rounded(seed, entry.seed) for seed in seeds):
        return Match.PAYLOAD_HIDDEN
    if entry.seed not in seeds:
        # A model without rules may drop our seed, and echo one of its own or one that is nested in the payload.
        if entry.model in MODELS or _contradicts(entry, request, record):
            return Match.NO
        is_same = request is None or _has_same_content(request, record.payload)
        return Match.PAYLOAD_HIDDEN if is_same else Match.NO
    if hash_payload(record.payload, entry.model) == entry.payload_sha256:
        return Match.YES
    if entry.seed_drawn:
        # A drawn seed is one in two billion. The service may have copied the image elsewhere, elaborated the prompt,
        # left fields out or written them in another way.
        return Match.SEED_ONLY if _contradicts(entry, request, record) else Match.YES
    if request is not None and _has_same_content(request, record.payload):
        return Match.YES
    return Match.REWRITTEN if _may_be_rewritten(entry, request, record) else Match.NO


def _is_rounded(listed: int, sent: int) -> bool:
    """Return whether a seed may be ours after it was written with six digits, such as 1.27044e+09."""
    return abs(listed - sent) * 100_000 <= sent


def _is_foreign(entry: LedgerEntry, record: RequestRecord) -> bool:
    """Return whether a record is of another model and without an image: no service makes that of our request."""
    return (
        bool(record.payload)
        and record.model not in (None, entry.model)
        and entry.model in MODELS
        and not _IMAGE_FIELDS & set(record.payload)
    )


def is_request_of_another(store: LedgerStore, entry: LedgerEntry, record: RequestRecord, policy: Policy) -> bool:
    """
    Return whether the response to a POST describes the request of another entry, as when a gateway repeats a response.

    An echo with another seed does not suffice, since a service may write a seed of its own; nor does an old time, since
    its clock may be wrong by hours. Then the list would prove an absence, and the clip would be paid for again.

    :param store: the ledger's store; read only if the echo has another seed.
    :param entry: the entry, with the time of the POST.
    :param record: the response.
    :param policy: times and limits.
    """
    seeds = _find_seeds(record.payload)
    if not seeds or entry.seed in seeds:
        return False
    since = min(entry.last_sent_at, record.created_at or entry.last_sent_at) - 2 * policy.clock_margin
    try:
        return OtherEntries.read(store, entry, since).own(record)
    except LedgerUnavailableError:
        return False


def is_charged(record: RequestRecord) -> bool:
    """Return whether the API charges for a request, or will if it succeeds."""
    return record.status not in _NOT_CHARGED


def get_first_sent_at(entry: LedgerEntry) -> float:
    """Return when the first POST for a clip was sent that may have been accepted, in Unix seconds."""
    return entry.last_sent_at if entry.first_intent_at is None else min(entry.first_intent_at, entry.last_sent_at)


@dataclass(frozen=True)
class KnownRequest:
    """
    A request that the ledger knows to have been accepted.

    :param request_id: its id.
    :param submitted_at: Unix seconds of the acceptance.
    :param model: model id as sent.
    :param key_id: the key it was sent with.
    :param seed: the seed it was sent with; None if that is not certain.
    """

    request_id: str
    submitted_at: float
    model: str
    key_id: str | None
    seed: int | None = None


@dataclass(frozen=True)
class OtherEntries:
    """
    What other entries of the ledger say.

    :param request_ids: requests that belong to them, in small letters.
    :param known: requests of the same account, with the time of their acceptance.
    :param undecided: time and fingerprint of the entries that may have sent the same payload and have no request id.
    :param sent: model, and hash of the payload, of all that they have sent on the same account.
    """

    request_ids: frozenset[str] = frozenset()
    known: tuple[KnownRequest, ...] = ()
    undecided: tuple[tuple[float, str], ...] = ()
    sent: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def read(cls, store: LedgerStore, entry: LedgerEntry, since: float | None) -> OtherEntries:
        """
        Read the entries that were written since a moment.

        :param store: the ledger's store.
        :param entry: the entry that is not an other one; its own earlier requests are known too.
        :param since: Unix seconds; None for all entries.
        """
        request_ids: set[str] = set()
        sent: set[tuple[str, str]] = set()
        known = [
            KnownRequest(past.request_id, past.submitted_at, entry.model, None)
            for past in entry.history
            if past.request_id is not None and past.submitted_at is not None
        ]
        undecided = []
        for stored in store.entries(modified_since=since):
            other = stored.entry
            if other.fingerprint == entry.fingerprint:
                continue
            request_ids |= set(map(normalize_id, other.request_ids))
            if other.account == entry.account:
                sent.add((other.model, other.payload_sha256))
            if other.account == entry.account and other.request_id and other.submitted_at is not None:
                # Of several POSTs, an earlier one may have been accepted late.
                seed = other.seed if other.posts == 1 else None
                known.append(KnownRequest(other.request_id, other.submitted_at, other.model, other.key_id, seed))
            if other.may_have_been_sent and other.payload_sha256 == entry.payload_sha256:
                undecided.append((other.last_sent_at, other.fingerprint))
        return cls(frozenset(request_ids), tuple(known), tuple(sorted(undecided)), frozenset(sent))

    def merge(self, later: OtherEntries) -> OtherEntries:
        """Return what a later reading says as well; ``known`` stays that of the first."""
        return OtherEntries(self.request_ids | later.request_ids, self.known, later.undecided, self.sent | later.sent)

    def own(self, record: RequestRecord) -> bool:
        """Return whether a record is a request of theirs by its id."""
        return normalize_id(record.request_id) in self.request_ids

    def explain(self, record: RequestRecord) -> bool:
        """Return whether a record is a request of theirs: by its id, or by a payload that is just what they sent."""
        return self.own(record) or any(
            (model, hash_payload(record.payload, model)) in self.sent for model in self._models
        )

    @cached_property
    def _models(self) -> frozenset[str]:
        return frozenset(model for model, _ in self.sent)


def _control(
    account: Account,
    entry: LedgerEntry,
    history: RequestHistory,
    others: OtherEntries,
    since: float,
    now: float,
    policy: Policy,
) -> ReconcileResult:
    """Return whether the list, in which nothing is ours, would have listed our request."""

    def inconclusive(reason: str) -> ReconcileResult:
        return ReconcileResult(Finding.INCONCLUSIVE, reason=f"the API's list of requests is inconclusive: {reason}")

    if history.gap:
        return inconclusive(history.gap)
    listed = {normalize_id(record.request_id): _find_seeds(record.payload) for record in history.records}
    relevant = [each for each in others.known if history.model in (None, each.model)]
    missing = [each for each in relevant if each.submitted_at >= since and normalize_id(each.request_id) not in listed]
    if missing:
        reason = f"it does not show request {missing[0].request_id}, which was accepted"
        if all(each.submitted_at > now - policy.list_lag for each in missing):
            return ReconcileResult(Finding.UNDECIDED, reason=f"the API's list of requests lags behind: {reason}")
        return inconclusive(reason)
    listed_known = [each for each in relevant if normalize_id(each.request_id) in listed]
    for each in listed_known:
        seeds = listed[normalize_id(each.request_id)]
        # Of another model without rules, the service may have drawn a seed of its own.
        says_something = each.model == entry.model or each.model in MODELS
        if says_something and seeds and each.seed is not None and each.seed not in seeds:
            return inconclusive(f"it shows request {each.request_id} with another seed than the one that was sent")
    first_sent_at = get_first_sent_at(entry)
    reaches_back = history.read_back_to <= since
    # Newest first, ours would stand before any request that was accepted earlier.
    shows_earlier = (
        history.ended
        and (history.newest_first or len(history.records) == 1)
        and any(each.submitted_at <= first_sent_at for each in listed_known)
    )
    if not (reaches_back or shows_earlier):
        if not history.records:
            return inconclusive("it is empty, which proves nothing")
        if not history.newest_first:
            return inconclusive("its requests are not in the order of their times, so its end proves nothing")
        return inconclusive("it does not reach back to a request that is older than the submission")
    if entry.key_id != account.key_id and all(each.key_id != entry.key_id for each in listed_known):
        return inconclusive(
            "the API key is not the one of the submission, and no request is listed that the ledger knows to have been "
            "accepted with that one"
        )
    if history.model is not None and not listed_known:
        return inconclusive(
            "it is filtered by model, and no request is listed that the ledger knows to have been accepted for it"
        )
    return ReconcileResult(Finding.ABSENT)


def _rank_drawn(ours: Sequence[RequestRecord]) -> ReconcileResult | None:
    # A failed request is not charged, so those that run or succeeded come first; of the failed ones, the newest.
    live = sorted((record for record in ours if is_charged(record)), key=_get_age)
    ended = sorted((record for record in ours if not is_charged(record)), key=_get_age, reverse=True)
    ranked = [*live, *ended]
    return ReconcileResult(Finding.FOUND, ranked[0], duplicates=tuple(live[1:])) if ranked else None


def _rank_given(
    entry: LedgerEntry, ours: Sequence[RequestRecord], others: OtherEntries, policy: Policy, now: float
) -> ReconcileResult | None:
    """
    Decide for a user's seed, with which several entries may have sent the same payload.

    A failed or cancelled request is nobody's: it is not charged, and may be that of an entry that is long decided.
    """
    possible = [record for record in ours if is_charged(record) and not others.own(record)]
    timeless = [record.request_id for record in possible if record.created_at is None]
    candidates = sorted((record for record in possible if is_in_time(entry, record, policy)), key=_get_age)
    own = (entry.last_sent_at, entry.fingerprint)
    elders = [other for other in others.undecided if other < own]
    count = len(others.undecided) + 1
    # By then the list shows all that was accepted of any of them, whosever clock is wrong.
    last_sent_at = max(moment for moment, _ in (own, *others.undecided))
    is_confirmed = now - last_sent_at > policy.settling_time + policy.clock_margin
    if elders and (candidates or timeless or not is_confirmed):
        reason = f"clip {elders[0][1]} with the same payload and seed is in doubt as well, and comes first"
        return ReconcileResult(Finding.UNDECIDED, reason=reason)
    if len(candidates) > max(count, entry.posts if count == 1 else count):
        several = _name_first(record.request_id for record in candidates)
        return ReconcileResult(
            Finding.INCONCLUSIVE,
            reason=f"several requests have the same payload and seed: {several}",
            candidates=tuple(record.request_id for record in candidates),
        )
    # Their payloads are equal, so it does not matter whose request the eldest adopts: the next one then finds none.
    if candidates and (len(candidates) >= count or is_confirmed):
        duplicates = tuple(candidates[1:]) if count == 1 else ()
        return ReconcileResult(Finding.FOUND, candidates[0], duplicates=duplicates)
    if candidates:
        reason = f"clip {others.undecided[0][1]} with the same payload and seed is undecided"
        return ReconcileResult(Finding.UNDECIDED, reason=reason)
    if timeless:
        reason = f"these requests may be it, but have no time: {_name_first(timeless)}"
        return ReconcileResult(Finding.INCONCLUSIVE, reason=reason, candidates=tuple(timeless))
    return None


def _merge(histories: Iterable[RequestHistory]) -> list[RequestRecord]:
    records: dict[str, RequestRecord] = {}
    for history in histories:
        records.update((normalize_id(record.request_id), record) for record in history.records)
    return list(records.values())


def _find_seeds(payload: object, depth: int = 4) -> frozenset[int]:
    """Return the seeds of an echo, wherever it has them and however it writes numbers."""
    if depth == 0:
        return frozenset()
    if isinstance(payload, Mapping):
        found = frozenset(
            seed for name, value in payload.items() if str(name).lower() == "seed" for seed in _parse_integer(value)
        )
        return found.union(*(_find_seeds(value, depth - 1) for value in payload.values()))
    if isinstance(payload, list):
        return frozenset().union(*(_find_seeds(value, depth - 1) for value in payload))
    return frozenset()


def _parse_integer(value: object) -> tuple[int, ...]:
    """Return an integer that is written as a number or as text, padded, or with a fraction of zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ()
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str):
        text = value.strip()
        if text.lstrip("+-").isdecimal() and len(text) < 40:
            return (int(text),)
    try:
        number = float(value)
    except ValueError:
        return ()
    return (int(number),) if math.isfinite(number) and number == int(number) else ()


def _contradicts(entry: LedgerEntry, request: WanRequest | None, record: RequestRecord) -> bool:
    """Return whether a record can't be ours, whatever the service makes of a payload that it repeats."""
    payload = record.payload
    durations = _parse_integer(payload.get("duration"))
    if durations and entry.duration and entry.duration not in durations and max(durations) <= _LONGEST_CLIP:
        return True
    resolution = str(payload.get("resolution", "")).strip().upper().removesuffix("P")
    if resolution in _LINES and entry.resolution and resolution != str(entry.resolution).upper().removesuffix("P"):
        return True
    prompt = payload.get("prompt")
    given = {} if request is None else request.to_payload()
    if given.get("prompt_extend", True) or not isinstance(prompt, str):
        return False
    sent, listed = map(_normalize_text, (str(given.get("prompt", "")), prompt))
    return not (sent.startswith(listed) or listed.startswith(sent))


def _normalize_text(text: str) -> str:
    """Return a text without what a service may change in it: white space, capitals, the form of its characters."""
    return " ".join(unicodedata.normalize("NFKC", html.unescape(text)).casefold().split())


def _has_same_content(request: WanRequest, payload: Mapping[str, Any]) -> bool:
    """Return whether every field of an echo is what would be sent, though written in another way."""
    sent = normalize_payload(request.to_payload(), request.model)
    needed = {request.MEDIA_FIELDS.get("img_url", "")} & set(sent) or set(sent) - {"seed"}
    return needed <= set(payload) and not _list_differences(request, payload)


def _may_be_rewritten(entry: LedgerEntry, request: WanRequest | None, record: RequestRecord) -> bool:
    """
    Return whether a record with the user's seed can be ours, with an elaborated prompt or a file that was moved.

    Nobody can tell it from another clip with the same seed.
    """
    if _is_foreign(entry, record) or _contradicts(entry, request, record):
        return False
    if request is None:
        return True
    sent = request.to_payload()
    texts = {name for name, value in sent.items() if isinstance(value, dict | list) or "://" in str(value)}
    return _list_differences(request, record.payload) <= texts | {*PROMPT_PARAMETERS, *request.MEDIA_FIELDS.values()}


def _list_differences(request: WanRequest, payload: Mapping[str, Any]) -> set[str]:
    """Return the fields of an echo that are not what would be sent, in whatever way they are written."""
    sent = normalize_payload(request.to_payload(), request.model)
    is_raw = not request.MEDIA_FIELDS

    def is_equal(name: str, listed: Any) -> bool:
        if is_raw and name not in sent:
            return True  # a default of the service's
        if name in ("seed", "duration") and not (is_raw and name == "duration" and not request.duration):
            return name == "seed" or request.duration in _parse_integer(listed)
        expected = sent.get(name)
        return listed is None or listed == expected or _normalize_text(str(listed)) == _normalize_text(str(expected))

    return {name for name, value in normalize_payload(payload, request.model).items() if not is_equal(name, value)}


def _may_be_charged_for(api: RequestReader, entry: LedgerEntry, record: RequestRecord, policy: Policy) -> bool:
    is_possible = record.created_at is None or is_in_time(entry, record, policy)
    return is_possible and is_charged(_confirm_end(api, record))


def is_in_time(entry: LedgerEntry, record: RequestRecord, policy: Policy) -> bool:
    """Return whether a record was accepted at a time at which one of the entry's POSTs may have been."""
    if record.created_at is None:
        return False
    until = entry.last_sent_at + policy.settling_time + policy.clock_margin
    return get_first_sent_at(entry) - policy.clock_margin <= record.created_at <= until


def find_acceptance_time(entry: LedgerEntry, record: RequestRecord, policy: Policy) -> float:
    """
    Return when a request that was found was accepted, in Unix seconds, by a clock that is not hours off.

    By the times in the ledger, other scans check the clock of the list.

    :param entry: the entry.
    :param record: its request.
    :param policy: times and limits.
    """
    if record.created_at is not None and is_in_time(entry, record, policy):
        return record.created_at
    return entry.last_sent_at


def _confirm_end(api: RequestReader, record: RequestRecord) -> RequestRecord:
    """Return a record that the list calls failed or cancelled with the status that the request itself has."""
    if is_charged(record):
        return record
    try:
        found = api.get_request(record.request_id)
    except WanNotFoundError:
        return record
    except WanError:
        # It may run. Whoever waits for it learns how it ends.
        return replace(record, status=RequestStatus.UNKNOWN, status_text="unknown")
    return replace(record, status=found.status, status_text=found.status_text)


def _is_hours_apart(entry: LedgerEntry, record: RequestRecord, policy: Policy) -> bool:
    """Return whether a record's time differs from those of the entry's POSTs as local time differs from UTC."""
    if record.created_at is None:
        return False
    after = record.created_at - entry.last_sent_at
    # Zones are half an hour apart.
    shift = 1800.0 * round((after - policy.settling_time / 2) / 1800.0)
    is_zone = 0.0 < abs(shift) <= MAX_ZONE_DIFFERENCE
    return is_zone and is_in_time(entry, replace(record, created_at=record.created_at - shift), policy)


def _match_single(
    api: RequestReader, entry: LedgerEntry, request: WanRequest | None, record: RequestRecord
) -> tuple[Match, bool]:
    """Fetch a record on its own, which may show a payload that the list hides; and whether the API knows it so."""
    try:
        return match_record(entry, request, api.get_request(record.request_id)), True
    except WanNotFoundError:
        return Match.PAYLOAD_HIDDEN, False
    except WanError:
        return Match.PAYLOAD_HIDDEN, True


def _name_first(names: Iterable[str]) -> str:
    """Return the names for a message; of many, the first."""
    given = list(names)
    more = f" and {len(given) - _MAX_NAMES} more" if len(given) > _MAX_NAMES else ""
    return ", ".join(given[:_MAX_NAMES]) + more


def _get_age(record: RequestRecord) -> tuple[float, str]:
    return record.created_at or 0.0, record.request_id


_OTHER_HOUR = "its time may be that of another time zone"
_MAX_NAMES = 10
_NOT_CHARGED = (RequestStatus.FAILED, RequestStatus.CANCELLED)
# Other numbers may be milliseconds, frames or the pixels of a row, and contradict nothing.
_LONGEST_CLIP = 60
_LINES = ("360", "480", "540", "720", "1080", "1440", "2160")
