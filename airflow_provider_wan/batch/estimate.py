# SPDX-License-Identifier: Apache-2.0
"""Estimate of what a manifest costs. Nothing is paid, and no image is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from airflow_provider_wan.api.pricing import Prices, estimate_cost
from airflow_provider_wan.batch.row_index import DigestIndex, hash_text
from airflow_provider_wan.batch.rows import InvalidRow, Item, RawRow, build_name_fault, parse_row
from airflow_provider_wan.ledger import (
    EntryState,
    LedgerCorruptError,
    LedgerEntry,
    LedgerError,
    LedgerStore,
    LedgerVersionError,
    compute_fingerprint,
)
from airflow_provider_wan.ledger.messages import permanent_failure_message
from airflow_provider_wan.media.source import Origin

#: Typical seconds that the service takes for a clip, by its seconds of video, at 720P.
TYPICAL_RUN_SECONDS = {5: 60.0, 10: 110.0, 15: 170.0}
_SECONDS_PER_VIDEO_SECOND = 11.5  # about the same, for other durations
#: Factor of these times at 1080P.
FULL_HD_FACTOR = 1.6
_READERS = 8
_CHUNK_ROWS = 2000
_MAX_FAULTS = 20


@dataclass(frozen=True)
class BatchEstimate:
    """Estimate of a batch.

    :param items: rows of the manifest.
    :param rejected: rows that cannot be submitted; ``faults`` names the first of them.
    :param duplicates: rows that request the same clip as an earlier row.
    :param video_seconds: seconds of video of all other rows.
    :param cost: US dollars if no clip existed; None if there is no price.
    :param existing: clips that are made or in flight according to the ledger. They cost nothing.
    :param unread: rows whose images were not read, although only their content identifies them: the ledger may have
        these clips too.
    :param to_pay: US dollars without the existing clips.
    :param estimated_seconds: typical time with ``max_in_flight`` requests in flight.
    :param faults: reasons of the first rejected rows.
    """

    items: int
    rejected: int
    duplicates: int
    video_seconds: int
    cost: float | None
    existing: int
    unread: int
    to_pay: float | None
    estimated_seconds: float
    faults: tuple[str, ...]

    def as_result(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "faults": list(self.faults), "dry_run": True}

    def __str__(self) -> str:
        return (
            f"{self.items} rows: {self.rejected} rejected, {self.duplicates} duplicates; {self.video_seconds} s of "
            f"video for {_format_usd(self.cost)}. {self.existing} clips exist according to the ledger; for "
            f"{self.unread} it is unknown, since their images were not read. To pay: {_format_usd(self.to_pay)}. "
            f"Typical time: {self.estimated_seconds / 3600:.1f} h."
        )


def _format_usd(amount: float | None) -> str:
    if amount is None:
        return "an unknown amount (no price is known: set prices of the task, or [wan] prices)"
    return f"${amount:.2f}"


def estimate_batch(
    rows: Iterable[RawRow],
    defaults: Mapping[str, Any],
    *,
    store: LedgerStore,
    scope: str,
    prices: Prices,
    max_in_flight: int,
) -> BatchEstimate:
    """Estimate what a manifest costs. Nothing is sent to the API.

    :param rows: rows of the manifest.
    :param defaults: payload fields for rows that do not have them.
    :param store: store of the ledger.
    :param scope: scope of the fingerprints.
    :param prices: the prices.
    :param max_in_flight: maximum number of requests in flight.
    """
    totals = _Totals(prices, defaults)
    in_ledger = DigestIndex()
    for fingerprint in store.fingerprints():
        if len(fingerprint) == 64:
            in_ledger.setdefault(fingerprint, 1)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="wan-estimate") as readers:
        for chunk in _split_chunks(rows):
            items = totals.add_rows(chunk)
            named = [(item, name) for item in items if (name := _fingerprint(item, scope))]
            totals.unread += len(items) - len(named)
            listed = [(item, name) for item, name in named if name in in_ledger]
            entries = readers.map(partial(_read_entry, store), [name for _, name in listed])
            for (item, _), entry in zip(listed, entries, strict=True):
                if isinstance(entry, LedgerError):
                    totals.reject_item(item, str(entry))
                elif entry is None or entry.state is EntryState.CANCELLED:
                    continue
                elif entry.state is not EntryState.FAILED:
                    totals.add_existing(item)
                elif entry.outcome is not None and entry.outcome.permanent:
                    totals.reject_item(item, permanent_failure_message(entry))
    return totals.build_estimate(max_in_flight)


def _read_entry(store: LedgerStore, fingerprint: str) -> LedgerEntry | LedgerError | None:
    """Return the entry of a clip, or why a batch can't read it, and so pays nothing for its row."""
    try:
        stored = store.read(fingerprint)
    except (LedgerCorruptError, LedgerVersionError) as error:
        return error
    return None if stored is None else stored.entry


class _Totals:
    def __init__(self, prices: Prices, defaults: Mapping[str, Any]) -> None:
        self._prices = prices
        self._defaults = defaults
        self._digests = DigestIndex()
        self._names = DigestIndex()
        self._faults: list[str] = []
        self._items = self._rejected = self._duplicates = self._video_seconds = self._existing = 0
        self._cost: float | None = 0.0
        self._existing_cost = self._run_seconds = 0.0
        self.unread = 0

    def add_rows(self, rows: Iterable[RawRow]) -> list[Item]:
        """Count rows, and return those that are valid and unique."""
        items = []
        for raw in rows:
            self._items += 1
            item = parse_row(raw, self._defaults)
            if isinstance(item, InvalidRow):
                self._reject(item.row, item.reason)
                continue
            if self._digests.setdefault(item.digest, item.row) != item.row:
                self._duplicates += 1
                continue
            if item.name is not None:
                other = self._names.setdefault(hash_text(item.name), item.row)
                if other != item.row:
                    self._reject(item.row, str(build_name_fault(item.name, other)))
                    continue
            items.append(item)
            cost = estimate_cost(item.request, self._prices)
            self._cost = None if cost is None or self._cost is None else self._cost + cost
            self._video_seconds += item.request.duration
            self._run_seconds += _estimate_run_seconds(item)
        return items

    def _reject(self, row: int, reason: str) -> None:
        self._rejected += 1
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(f"row {row}: {reason}")

    def reject_item(self, item: Item, reason: str) -> None:
        """Count an item as rejected, because of what the ledger says about its clip."""
        self._reject(item.row, reason)
        self._video_seconds -= item.request.duration
        self._run_seconds -= _estimate_run_seconds(item)
        cost = estimate_cost(item.request, self._prices)
        self._cost = None if cost is None or self._cost is None else self._cost - cost

    def add_existing(self, item: Item) -> None:
        """Count an item whose clip exists."""
        self._existing += 1
        self._existing_cost += estimate_cost(item.request, self._prices) or 0.0
        self._run_seconds -= _estimate_run_seconds(item)

    def build_estimate(self, max_in_flight: int) -> BatchEstimate:
        """Return the estimate."""
        return BatchEstimate(
            items=self._items,
            rejected=self._rejected,
            duplicates=self._duplicates,
            video_seconds=self._video_seconds,
            cost=None if self._cost is None else round(self._cost, 2),
            existing=self._existing,
            unread=self.unread,
            to_pay=None if self._cost is None else round(self._cost - self._existing_cost, 2),
            estimated_seconds=round(self._run_seconds / max_in_flight, 1),
            faults=tuple(self._faults),
        )


def _estimate_run_seconds(item: Item) -> float:
    factor = FULL_HD_FACTOR if item.request.resolution == "1080P" else 1.0
    seconds = item.request.duration
    return TYPICAL_RUN_SECONDS.get(seconds, _SECONDS_PER_VIDEO_SECOND * seconds) * factor


def _fingerprint(item: Item, scope: str) -> str | None:
    """Return the fingerprint of an item whose media are identified by their URLs; None for other items."""
    if any(each.origin is not Origin.WEB for each in (item.image, *item.media.values())):
        return None
    return compute_fingerprint(item.request, scope=scope, idempotency_key=item.idempotency_key)


def _split_chunks(rows: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    chunk: list[RawRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
