# SPDX-License-Identifier: Apache-2.0
"""What a manifest would cost, without paying and without reading an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_wan.batch.item import BadRow, Item, read_item
from airflow_provider_wan.batch.manifest import RawRow
from airflow_provider_wan.ledger import EntryState, LedgerStore, cost_of, fingerprint_of
from airflow_provider_wan.media.source import Origin

#: Seconds that the service takes for a clip of so many seconds at 720P; half as long again, and more, at 1080P.
RUN_SECONDS = {5: 60.0, 10: 110.0, 15: 170.0}
FULL_HD_FACTOR = 1.6
_READERS = 8
_CHUNK = 2000
_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Quote:
    """
    An estimate.

    :param items: rows of the manifest.
    :param rejected: rows that can't be made into a request; ``faults`` names the first of them.
    :param duplicates: rows that ask for the same clip as an earlier row.
    :param video_seconds: seconds of video of the others.
    :param cost: US dollars, were none of them made yet; None where there is no price.
    :param known: clips that the ledger has: made, or under way. They cost nothing.
    :param unread: images that only their bytes tell apart, and that were not read: the ledger may have them too.
    :param to_pay: US dollars without what the ledger is known to have.
    :param estimated_seconds: how long the service will take at ``max_in_flight`` clips at once, as far as typical times
        tell.
    """

    items: int
    rejected: int
    duplicates: int
    video_seconds: int
    cost: float | None
    known: int
    unread: int
    to_pay: float | None
    estimated_seconds: float
    faults: tuple[str, ...]

    def as_result(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "faults": list(self.faults), "dry_run": True}

    def __str__(self) -> str:
        def dollars(amount: float | None) -> str:
            return "unknown: the connection has no price" if amount is None else f"${amount:.2f}"

        return (
            f"{self.items} rows: {self.rejected} rejected, {self.duplicates} duplicates; {self.video_seconds} s of "
            f"video for {dollars(self.cost)}. The ledger has {self.known} of them, {self.unread} can't be told without "
            f"reading the image; to be paid: {dollars(self.to_pay)}. About {self.estimated_seconds / 3600:.1f} h at "
            "the service."
        )


def quote(
    rows: Iterable[RawRow],
    defaults: Mapping[str, Any],
    *,
    store: LedgerStore,
    scope: str,
    force_token: str | None,
    prices: Mapping[str, float],
    max_in_flight: int,
) -> Quote:
    """
    Estimate what a manifest would cost. It sends nothing to the API.

    :param rows: of the manifest.
    :param defaults: fields of the payload for rows that have none.
    :param store: the ledger.
    :param scope: of the fingerprints.
    :param force_token: of the fingerprints.
    :param prices: US dollars per second of video, by resolution.
    :param max_in_flight: the most clips under way at once.
    """
    counting = _Counting(prices, defaults)
    in_ledger = {bytes.fromhex(name) for name in store.fingerprints() if len(name) == 64}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="wan-quote") as readers:
        for batch in _chunks(rows):
            wanted = [(item, name) for item in counting.take(batch) if (name := _name(item, scope, force_token))]
            counting.unread += counting.fresh - len(wanted)
            held = [(item, name) for item, name in wanted if bytes.fromhex(name) in in_ledger]
            for (item, _), entry in zip(held, readers.map(store.read, [name for _, name in held]), strict=True):
                if entry is not None and entry.entry.state not in (EntryState.FAILED, EntryState.CANCELLED):
                    counting.had(item)
    return counting.result(max_in_flight)


class _Counting:
    def __init__(self, prices: Mapping[str, float], defaults: Mapping[str, Any]) -> None:
        self._prices = prices
        self._defaults = defaults
        self._seen: set[bytes] = set()
        self._faults: list[str] = []
        self._items = self._rejected = self._duplicates = self._seconds = self._known = 0
        self._cost: float | None = 0.0
        self._saved = self._run = 0.0
        self.unread = self.fresh = 0

    def take(self, rows: Iterable[RawRow]) -> list[Item]:
        """Count some rows, and return the good ones."""
        found = []
        for raw in rows:
            self._items += 1
            item = read_item(raw, self._defaults)
            if isinstance(item, BadRow):
                self._rejected += 1
                if len(self._faults) < _SHOWN_FAULTS:
                    self._faults.append(f"row {item.row}: {item.reason}")
                continue
            digest = bytes.fromhex(item.digest)
            if digest in self._seen:
                self._duplicates += 1
                continue
            self._seen.add(digest)
            found.append(item)
            cost = cost_of(item.request, self._prices)
            self._cost = None if cost is None or self._cost is None else self._cost + cost
            self._seconds += item.request.duration
            self._run += _run_seconds(item)
        self.fresh = len(found)
        return found

    def had(self, item: Item) -> None:
        """The ledger has it."""
        self._known += 1
        self._saved += cost_of(item.request, self._prices) or 0.0
        self._run -= _run_seconds(item)

    def result(self, max_in_flight: int) -> Quote:
        """Return what was counted."""
        return Quote(
            items=self._items,
            rejected=self._rejected,
            duplicates=self._duplicates,
            video_seconds=self._seconds,
            cost=None if self._cost is None else round(self._cost, 2),
            known=self._known,
            unread=self.unread,
            to_pay=None if self._cost is None else round(self._cost - self._saved, 2),
            estimated_seconds=round(self._run / max_in_flight, 1),
            faults=tuple(self._faults),
        )


def _run_seconds(item: Item) -> float:
    return RUN_SECONDS[item.request.duration] * (FULL_HD_FACTOR if item.request.resolution == "1080P" else 1.0)


def _name(item: Item, scope: str, force_token: str | None) -> str | None:
    """Return the fingerprint of an item whose media are known by their URLs; None for others."""
    if item.image.origin is not Origin.WEB or (item.audio is not None and item.audio.origin is not Origin.WEB):
        return None
    return fingerprint_of(item.request, scope=scope, force_token=force_token)


def _chunks(rows: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    chunk: list[RawRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
