# SPDX-License-Identifier: Apache-2.0
"""
Was a POST accepted whose answer was lost? The API's list knows.

There is no idempotency key. What makes a request known again is its payload: with a drawn seed it is
the only one of its kind. Three answers are possible, and the third stops everything:

* **found**: one record is ours.
* **absent**: the list was read back past the time of the POST, and nothing in it can be ours. One such
  look proves nothing while the POST may be under way; two, ``settle`` apart, do.
* **can't tell**: the list can't be read, moved, or shows requests whose payload is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from airflow_provider_wan.api.errors import WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.ledger.decision import Policy
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry
from airflow_provider_wan.ledger.fingerprint import URL_FIELDS, comparable, payload_sha256
from airflow_provider_wan.ledger.listing import read_back
from airflow_provider_wan.ledger.store import LedgerStore

# The list is read back this much further than need be: it costs little, and clocks are wrong at times.
EXTRA_DEPTH = 3600.0


class LookApi(Protocol):
    """What is used of the client."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Return one page of the list."""


class Finding(StrEnum):
    """What a look into the list shows."""

    FOUND = "found"
    ABSENT = "absent"
    UNTOLD = "can't tell"


class Match(StrEnum):
    """Whether a record is ours."""

    YES = "yes"
    NO = "no"
    SILENT = "its payload is hidden"
    ODD = "it has our seed and another payload"


@dataclass(frozen=True)
class Look:
    """
    What one look into the list showed.

    :param record: ours, where found.
    :param reason: why it can't be told.
    :param strays: further requests that are ours as well: accepted, and not the one that is adopted.
    """

    finding: Finding
    record: RequestRecord | None = None
    reason: str = ""
    strays: tuple[RequestRecord, ...] = ()


def look(api: LookApi, store: LedgerStore, entry: LedgerEntry, request: I2VRequest | None, policy: Policy) -> Look:
    """
    Look into the API's list for the request of an entry.

    :param request: what this attempt would send, where there is one: it sharpens the comparison.
    """
    posted = entry.posting_at if entry.posting_at is not None else entry.claimed_at
    since = posted - policy.clock_margin
    listing = read_back(api, entry.model, since - EXTRA_DEPTH, page_size=policy.page_size, max_pages=policy.max_pages)
    ours: list[RequestRecord] = []
    unclear: list[str] = []
    others: _Others | None = None
    for record in listing.records:
        if record.request_id in entry.request_ids:
            continue
        match = compare(entry, request, record)
        if match is Match.SILENT and _may_be_ours_by_time(record, since, posted, policy):
            match = _asked_again(api, entry, request, record)
        elif match is Match.SILENT:
            match = Match.NO
        if match is Match.YES and not entry.seed_drawn and (record.created_at or since) < since:
            match = Match.NO
        if match in (Match.YES, Match.SILENT) and not (match is Match.YES and entry.seed_drawn):
            others = others or _Others.of(store, entry, since)
            if record.request_id in others.request_ids:
                match = Match.NO
        if match is Match.YES:
            ours.append(record)
        elif match is not Match.NO:
            unclear.append(f"{record.request_id} ({match})")
    return _conclude(entry, ours, unclear, listing.gap, others or _Others())


def compare(entry: LedgerEntry, request: I2VRequest | None, record: RequestRecord) -> Match:
    """Tell whether a record's echo is what the entry says was sent."""
    echo = {name: value for name, value in comparable(record.payload).items() if value is not None}
    if "seed" not in echo:
        return Match.NO if _differ(echo, request, with_urls=False) else Match.SILENT
    if str(echo["seed"]) != str(entry.seed):
        return Match.NO
    if payload_sha256(record.payload) == entry.payload_sha256:
        return Match.YES
    if entry.seed_drawn:
        # One in two thousand million; the service may have put the image elsewhere, or left fields out.
        return Match.ODD if _differ(echo, request, with_urls=False) else Match.YES
    return Match.NO if request is None or _differ(echo, request, with_urls=True) else Match.YES


def _differ(echo: dict[str, Any], request: I2VRequest | None, *, with_urls: bool) -> bool:
    """Tell whether a field that the echo has, but the seed, is not as this request has it."""
    if request is None:
        return False
    sent = comparable(request.to_payload())
    return any(
        str(value) != str(sent.get(name))
        for name, value in echo.items()
        if name != "seed" and (with_urls or name not in URL_FIELDS)
    )


def _may_be_ours_by_time(record: RequestRecord, since: float, posted: float, policy: Policy) -> bool:
    until = posted + policy.lease + policy.clock_margin
    return record.created_at is None or since <= record.created_at <= until


def _asked_again(api: LookApi, entry: LedgerEntry, request: I2VRequest | None, record: RequestRecord) -> Match:
    """Ask by id, where the echo may be whole. Requests of the web console are not known by id: not ours."""
    try:
        return compare(entry, request, api.get_request(record.request_id))
    except WanNotFoundError:
        return Match.NO
    except WanError:
        return Match.SILENT


@dataclass(frozen=True)
class _Others:
    """
    What other entries of the ledger say, which matters where payloads are not unique.

    :param request_ids: requests that are theirs.
    :param in_doubt: the entries that may have sent the same payload and know no request id, in order of time.
    """

    request_ids: frozenset[str] = frozenset()
    in_doubt: tuple[tuple[float, str], ...] = ()

    @classmethod
    def of(cls, store: LedgerStore, entry: LedgerEntry, since: float) -> _Others:
        ids: set[str] = set()
        doubtful = []
        for held in store.entries(modified_since=since):
            other = held.entry
            if other.fingerprint == entry.fingerprint:
                continue
            ids |= other.request_ids
            undecided = other.state is EntryState.IN_DOUBT or (
                other.state is EntryState.CLAIMED and other.posting_at is not None
            )
            if undecided and other.payload_sha256 == entry.payload_sha256:
                doubtful.append((other.posting_at or other.claimed_at, other.fingerprint))
        return cls(frozenset(ids), tuple(sorted(doubtful)))


def _conclude(
    entry: LedgerEntry,
    ours: Sequence[RequestRecord],
    unclear: Sequence[str],
    gap: str | None,
    others: _Others,
) -> Look:
    # What failed costs nothing, so what runs or has succeeded goes first; of what failed, the newest.
    live = sorted((r for r in ours if r.status not in _UNPAID), key=_age)
    ranked = [*live, *sorted((r for r in ours if r.status in _UNPAID), key=_age, reverse=True)]
    if entry.seed_drawn and ranked:
        return Look(Finding.FOUND, ranked[0], strays=tuple(live[1:]))
    # With a seed of the user's, several entries may have sent the very same payload. Each takes the
    # record of its own rank: so none is taken twice and none is left.
    me = (entry.posting_at or entry.claimed_at, entry.fingerprint)
    rank = sum(other < me for other in others.in_doubt)
    if len(live) > len(others.in_doubt) + 1:
        several = ", ".join(record.request_id for record in live)
        return Look(Finding.UNTOLD, reason=f"several requests have this very payload and seed: {several}")
    if rank < len(ranked):
        return Look(Finding.FOUND, ranked[rank])
    if unclear:
        return Look(Finding.UNTOLD, reason="these requests may be it: " + ", ".join(unclear))
    if gap:
        return Look(Finding.UNTOLD, reason=f"the API's list of requests does not tell: {gap}")
    return Look(Finding.ABSENT)


def _age(record: RequestRecord) -> tuple[float, str]:
    return record.created_at or 0.0, record.request_id


_UNPAID = (RequestStatus.FAILED, RequestStatus.CANCELLED)
