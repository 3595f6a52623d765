# SPDX-License-Identifier: Apache-2.0
"""
Where requests stand in the API's list, which shifts with each new one.

A rank is a place that does not shift: higher for newer requests, one apart for neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestPage
    from airflow_provider_wan.polling.clip import Clip

# So many pages in a row against the order that was seen before are a new order.
TURNED = 3
_ANCHORS = 600
_ANCHOR_GAP = 20


class Places:
    """
    What pages told of the order of the list.

    It is newest first wherever that is known; an oldest-first list is understood as well.
    """

    def __init__(self) -> None:
        self.base = 0.0
        self.growth = 0.0
        self.oldest_first = False
        self._known = False
        self._contrary = 0
        self._total: int | None = None
        self._anchors: list[tuple[float, float]] = []
        self._grew_at: float | None = None
        self._came = 0

    def offset(self, rank: float) -> float:
        """Return the place in the list at which a rank stands now."""
        return rank if self.oldest_first else self.base - rank

    def drift(self, now: float) -> float:
        """Return by how many places the list may have shifted since it was last seen."""
        passed = max(0.0, now - self._grew_at) if self._grew_at is not None else 0.0
        return max(self._came, 1.3 * self.growth * passed)

    def came(self, created: float) -> None:
        """Take in that a request was made: one that is newer than the list as it was seen makes it longer."""
        if self._anchors and created > self._anchors[-1][0]:
            self._came += 1

    def estimate(self, created: float) -> float | None:
        """Return the rank of a request that was created then, by the API's clock; None where no page tells."""
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

    def read(self, page: RequestPage, offset: int, now: float, clips: Mapping[str, Clip]) -> None:
        """Take in one page: set the ranks of the clips on it, and see how far the list has shifted."""
        dated = [record.created_at for record in page.records if record.created_at is not None]
        if len(dated) >= 2 and dated[0] != dated[-1] and not self._follows(dated[0] < dated[-1], clips):
            return
        places = list(enumerate(page.records, offset))
        if not self.oldest_first:
            self._shift(
                page,
                now,
                [
                    clip.rank + place
                    for place, record in places
                    if (clip := clips.get(record.request_id)) is not None and clip.rank is not None and clip.looked
                ],
            )
        for place, record in places:
            clip = clips.get(record.request_id)
            if clip is not None:
                clip.rank = self._rank(place)
        for place, record in places[:1] + places[-1:]:
            if record.created_at is not None:
                self._anchor(record.created_at, self._rank(place))

    def _rank(self, place: int) -> float:
        return float(place) if self.oldest_first else self.base - place

    def _follows(self, oldest_first: bool, clips: Mapping[str, Clip]) -> bool:
        if oldest_first == self.oldest_first:
            self._contrary, self._known = 0, True
            return True
        self._contrary += 1
        if self._known and self._contrary < TURNED:
            return False
        self.oldest_first, self._known, self._contrary = oldest_first, True, 0
        self.base, self._total = 0.0, None
        self._anchors.clear()
        for clip in clips.values():
            clip.rank = None
        return True

    def _shift(self, page: RequestPage, now: float, bases: list[float]) -> None:
        before = self.base
        if bases:
            self.base = median_low(bases)
        elif page.total is not None and self._total is not None:
            self.base += page.total - self._total
        if page.total is not None:
            self._total = page.total
        if bases or page.total is not None:
            self._came = 0
        if self._grew_at is None:
            self._grew_at = now
        elif (passed := now - self._grew_at) > 0:
            weight = min(1.0, passed / 30.0)
            self.growth += weight * (max(0.0, self.base - before) / passed - self.growth)
            self._grew_at = now

    def _anchor(self, created: float, rank: float) -> None:
        anchors = self._anchors
        index = bisect_left(anchors, (created, rank))
        for near in (index, index - 1):
            if 0 <= near < len(anchors) and abs(anchors[near][1] - rank) < _ANCHOR_GAP:
                del anchors[near]
                break
        insort(anchors, (created, rank))
        if len(anchors) > _ANCHORS:
            del anchors[: _ANCHORS // 4]
