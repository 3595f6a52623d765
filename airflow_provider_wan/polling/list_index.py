# SPDX-License-Identifier: Apache-2.0
"""The positions of requests in the API's list, which shift with each new request.

A rank is a position that does not shift: higher for newer requests, one apart for neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestPage
    from airflow_provider_wan.polling.tracked_request import TrackedRequest

# Consecutive pages in the reverse order after which the new order is believed.
REVERSALS_TO_ACCEPT = 3
_ANCHORS = 600
_ANCHOR_GAP = 20


class ListIndex:
    """An index of the list, learnt from its pages.

    The list is newest first as far as known; an oldest-first list is supported as well.
    """

    def __init__(self) -> None:
        self.base = 0.0
        self.growth = 0.0
        self.oldest_first = False
        self._order_known = False
        self._reversals = 0
        self._total: int | None = None
        self._anchors: list[tuple[float, float]] = []
        self._growth_measured_at: float | None = None
        self._new_requests = 0

    def offset(self, rank: float) -> float:
        """Return the current position in the list of a rank."""
        return rank if self.oldest_first else self.base - rank

    def max_shift(self, now: float) -> float:
        """Return by how many positions the list may have shifted since its last page."""
        elapsed = max(0.0, now - self._growth_measured_at) if self._growth_measured_at is not None else 0.0
        return max(self._new_requests, 1.3 * self.growth * elapsed)

    def on_submitted(self, created: float) -> None:
        """Record a submission: one that is newer than the known list makes it longer."""
        if self._anchors and created > self._anchors[-1][0]:
            self._new_requests += 1

    def estimate(self, created: float) -> float | None:
        """Return the rank of a request by its creation time on the API's clock; ``None`` if no page covers it."""
        anchors = self._anchors
        if not anchors:
            return None
        index = bisect_left(anchors, (created, float("-inf")))
        if index == 0:
            return anchors[0][1] if anchors[0][0] == created else None
        if index == len(anchors):
            newest, rank = anchors[-1]
            return min(self.base, rank + (created - newest) * self.growth) if not self.oldest_first else None
        (before, low), (after, high) = anchors[index - 1], anchors[index]
        if after == before:
            return high
        return low + (high - low) * (created - before) / (after - before)

    def on_page(self, page: RequestPage, offset: int, now: float, requests: Mapping[str, TrackedRequest]) -> None:
        """Process a page: set the ranks of the requests on it, and measure how far the list has shifted."""
        dated = [record.created_at for record in page.records if record.created_at is not None]
        if len(dated) >= 2 and dated[0] != dated[-1] and not self._accept_order(dated[0] < dated[-1], requests):
            return
        positions = list(enumerate(page.records, offset))
        if not self.oldest_first:
            self._measure_shift(
                page,
                now,
                [
                    request.rank + position
                    for position, record in positions
                    if (request := requests.get(record.request_id)) is not None
                    and request.rank is not None
                    and request.observed
                ],
            )
        for position, record in positions:
            request = requests.get(record.request_id)
            if request is not None:
                request.rank = self._rank(position)
        for position, record in positions[:1] + positions[-1:]:
            if record.created_at is not None:
                self._add_anchor(record.created_at, self._rank(position))

    def _rank(self, position: int) -> float:
        return float(position) if self.oldest_first else self.base - position

    def _accept_order(self, oldest_first: bool, requests: Mapping[str, TrackedRequest]) -> bool:
        if oldest_first == self.oldest_first:
            self._reversals, self._order_known = 0, True
            return True
        self._reversals += 1
        if self._order_known and self._reversals < REVERSALS_TO_ACCEPT:
            return False
        self.oldest_first, self._order_known, self._reversals = oldest_first, True, 0
        self.base, self._total = 0.0, None
        self._anchors.clear()
        for request in requests.values():
            request.rank = None
        return True

    def _measure_shift(self, page: RequestPage, now: float, bases: list[float]) -> None:
        before = self.base
        if bases:
            self.base = median_low(bases)
        elif page.total is not None and self._total is not None:
            self.base += page.total - self._total
        if page.total is not None:
            self._total = page.total
        if bases or page.total is not None:
            self._new_requests = 0
        if self._growth_measured_at is None:
            self._growth_measured_at = now
        elif (elapsed := now - self._growth_measured_at) > 0:
            weight = min(1.0, elapsed / 30.0)
            self.growth += weight * (max(0.0, self.base - before) / elapsed - self.growth)
            self._growth_measured_at = now

    def _add_anchor(self, created: float, rank: float) -> None:
        anchors = self._anchors
        index = bisect_left(anchors, (created, rank))
        for near in (index, index - 1):
            if 0 <= near < len(anchors) and abs(anchors[near][1] - rank) < _ANCHOR_GAP:
                del anchors[near]
                break
        insort(anchors, (created, rank))
        if len(anchors) > _ANCHORS:
            del anchors[: _ANCHORS // 4]
