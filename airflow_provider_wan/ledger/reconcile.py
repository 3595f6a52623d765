# SPDX-License-Identifier: Apache-2.0
"""
Finds out from the API's list whether a POST was accepted whose response was lost.

The API has no idempotency key. A request is identified by its payload: with a drawn seed the payload is unique.
There are three findings, and the third stops everything:

* **found**: one record is ours.
* **absent**: the list was read back past the time of the POST, and nothing in it can be ours. One such scan proves
  nothing while the POST may be in flight; two, ``absence_confirm_interval`` apart, do.
* **inconclusive**: the list can't be read, moved, or shows requests whose payload is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from airflow_provider_wan.api.errors import WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.fingerprint import URL_FIELDS, hash_payload, normalize_payload
from airflow_provider_wan.ledger.request_history import RequestLister, list_requests_since
from airflow_provider_wan.ledger.rules import Policy
from airflow_provider_wan.ledger.stores.base import LedgerStore

# The list is read back this much further (in seconds) than necessary: it costs little, and clocks may be wrong.
EXTRA_DEPTH = 3600.0


class RequestReader(RequestLister, Protocol):
    """The part of the client that is used here."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""


class Finding(StrEnum):
    """What a scan of the list shows."""

    FOUND = "found"
    ABSENT = "absent"
    INCONCLUSIVE = "inconclusive"


class Match(StrEnum):
    """Whether a record is ours."""

    YES = "yes"
    NO = "no"
    PAYLOAD_HIDDEN = "its payload is hidden"
    SEED_ONLY = "it has our seed and another payload"


@dataclass(frozen=True)
class ReconcileResult:
    """
    The result of one scan of the list.

    :param finding: found, absent or inconclusive.
    :param record: our request, if found.
    :param reason: why the scan is inconclusive.
    :param duplicates: further requests that are ours: accepted and charged, beside the one that is adopted.
    """

    finding: Finding
    record: RequestRecord | None = None
    reason: str = ""
    duplicates: tuple[RequestRecord, ...] = ()


def reconcile_entry(
    api: RequestReader, store: LedgerStore, entry: LedgerEntry, request: I2VRequest | None, policy: Policy
) -> ReconcileResult:
    """
    Scan the API's list for the request of an entry.

    :param api: the client.
    :param store: the ledger's store, for what other entries say.
    :param entry: the entry.
    :param request: what this attempt would send, if known; it makes the comparison more precise.
    :param policy: times and limits.
    """
    since = entry.last_sent_at - policy.clock_margin
    history = list_requests_since(
        api, entry.model, since - EXTRA_DEPTH, page_size=policy.page_size, max_pages=policy.max_pages
    )
    ours: list[RequestRecord] = []
    unclear: list[str] = []
    others: _OtherEntries | None = None
    for record in history.records:
        if record.request_id in entry.request_ids:
            continue
        match = match_record(entry, request, record)
        if match is Match.PAYLOAD_HIDDEN and _is_time_plausible(record, since, entry.last_sent_at, policy):
            match = _match_single(api, entry, request, record)
        elif match is Match.PAYLOAD_HIDDEN:
            match = Match.NO
        if match is Match.YES and not entry.seed_drawn and (record.created_at or since) < since:
            match = Match.NO
        if match in (Match.YES, Match.PAYLOAD_HIDDEN) and not (match is Match.YES and entry.seed_drawn):
            others = others or _OtherEntries.read(store, entry, since)
            if record.request_id in others.request_ids:
                match = Match.NO
        if match is Match.YES:
            ours.append(record)
        elif match is not Match.NO:
            unclear.append(f"{record.request_id} ({match})")
    return _conclude(entry, ours, unclear, history.gap, others or _OtherEntries())


def match_record(entry: LedgerEntry, request: I2VRequest | None, record: RequestRecord) -> Match:
    """
    Return whether a record's echo is what the entry says was sent.

    :param entry: the entry.
    :param request: what this attempt would send, if known.
    :param record: a record of the list.
    """
    echo = {name: value for name, value in normalize_payload(record.payload).items() if value is not None}
    if "seed" not in echo:
        return Match.NO if _contradicts(echo, request, with_urls=False) else Match.PAYLOAD_HIDDEN
    if str(echo["seed"]) != str(entry.seed):
        return Match.NO
    if hash_payload(record.payload) == entry.payload_sha256:
        return Match.YES
    if entry.seed_drawn:
        # A drawn seed is one in two billion; the service may have copied the image elsewhere, or left fields out.
        return Match.SEED_ONLY if _contradicts(echo, request, with_urls=False) else Match.YES
    return Match.NO if request is None or _contradicts(echo, request, with_urls=True) else Match.YES


def _contradicts(echo: dict[str, Any], request: I2VRequest | None, *, with_urls: bool) -> bool:
    """Return whether a field of the echo, except the seed, differs from this request's."""
    if request is None:
        return False
    sent = normalize_payload(request.to_payload())
    return any(
        str(value) != str(sent.get(name))
        for name, value in echo.items()
        if name != "seed" and (with_urls or name not in URL_FIELDS)
    )


def _is_time_plausible(record: RequestRecord, since: float, sent_at: float, policy: Policy) -> bool:
    until = sent_at + policy.lease + policy.clock_margin
    return record.created_at is None or since <= record.created_at <= until


def _match_single(api: RequestReader, entry: LedgerEntry, request: I2VRequest | None, record: RequestRecord) -> Match:
    """Fetch a record on its own, which may show a payload that the list hides."""
    try:
        return match_record(entry, request, api.get_request(record.request_id))
    except WanNotFoundError:
        return Match.NO
    except WanError:
        return Match.PAYLOAD_HIDDEN


@dataclass(frozen=True)
class _OtherEntries:
    """
    What other entries of the ledger say. It matters if payloads are not unique.

    :param request_ids: requests that belong to them.
    :param undecided: time and fingerprint of the entries that may have sent the same payload and have no request id.
    """

    request_ids: frozenset[str] = frozenset()
    undecided: tuple[tuple[float, str], ...] = ()

    @classmethod
    def read(cls, store: LedgerStore, entry: LedgerEntry, since: float) -> _OtherEntries:
        request_ids: set[str] = set()
        undecided = []
        for stored in store.entries(modified_since=since):
            other = stored.entry
            if other.fingerprint == entry.fingerprint:
                continue
            request_ids |= other.request_ids
            if other.may_have_been_sent and other.payload_sha256 == entry.payload_sha256:
                undecided.append((other.last_sent_at, other.fingerprint))
        return cls(frozenset(request_ids), tuple(sorted(undecided)))


def _conclude(
    entry: LedgerEntry,
    ours: Sequence[RequestRecord],
    unclear: Sequence[str],
    gap: str | None,
    others: _OtherEntries,
) -> ReconcileResult:
    # A failed request is not charged, so those that run or succeeded come first; of the failed ones, the newest.
    live = sorted((r for r in ours if r.status not in _NOT_CHARGED), key=_age)
    ranked = [*live, *sorted((r for r in ours if r.status in _NOT_CHARGED), key=_age, reverse=True)]
    if entry.seed_drawn and ranked:
        return ReconcileResult(Finding.FOUND, ranked[0], duplicates=tuple(live[1:]))
    # With a user's seed, several entries may have sent the same payload. Each takes the record of its own rank, so
    # that no record is taken twice and none is left over.
    own = (entry.last_sent_at, entry.fingerprint)
    rank = sum(other < own for other in others.undecided)
    if len(live) > len(others.undecided) + 1:
        several = ", ".join(record.request_id for record in live)
        return ReconcileResult(
            Finding.INCONCLUSIVE, reason=f"several requests have the same payload and seed: {several}"
        )
    if rank < len(ranked):
        return ReconcileResult(Finding.FOUND, ranked[rank])
    if unclear:
        return ReconcileResult(Finding.INCONCLUSIVE, reason="these requests may be it: " + ", ".join(unclear))
    if gap:
        return ReconcileResult(Finding.INCONCLUSIVE, reason=f"the API's list of requests is inconclusive: {gap}")
    return ReconcileResult(Finding.ABSENT)


def _age(record: RequestRecord) -> tuple[float, str]:
    return record.created_at or 0.0, record.request_id


_NOT_CHARGED = (RequestStatus.FAILED, RequestStatus.CANCELLED)
