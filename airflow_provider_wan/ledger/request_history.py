# SPDX-License-Identifier: Apache-2.0
"""
Reads the API's list of requests back to a point in time, without believing what the API says of it.

The API promises nothing about the list: neither its order, nor its page size, nor that it does not change meanwhile,
nor that ``total`` and ``has_more`` are true. So pages overlap: a page that shares nothing with those before it shows
that the list has moved or that ``offset`` means something else, and the scan starts again. What was read counts as a
proof only as far as the order of the records themselves shows it: newest first, without a gap, down to a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_wan.api.errors import WanBadRequestError, WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, normalize_id

PAGE_OVERLAP = 5
MAX_SCANS = 3
#: Seconds between local time and UTC, at most: some services write local time as if it were Unix seconds.
MAX_ZONE_DIFFERENCE = 14 * 3600.0


class RequestLister(Protocol):
    """The part of the client that is used here."""

    def list_requests(
        self, *, model_id: str | None = None, limit: int = 100, offset: int = 0, all_models: bool = False
    ) -> RequestPage:
        """Return one page."""


@dataclass(frozen=True)
class RequestHistory:
    """
    What the list shows.

    :param records: the requests, each once.
    :param gap: why something may be missing, whatever the order; None if the scan came to its end.
    :param newest_first: whether the records themselves show that order: their times fall, and never rise.
    :param read_back_to: Unix seconds by the API's clock: everything in the list that is younger was read. Infinity if
        the order is not known.
    :param ended: whether the end of the list was reached, and nothing that the API says of it contradicts that.
    :param model: the model id by which the list was filtered; None if it was not.
    :param clock_is_right: whether it lists a known request with the time at which that was accepted.
    """

    records: tuple[RequestRecord, ...]
    gap: str | None = None
    newest_first: bool = False
    read_back_to: float = math.inf
    ended: bool = False
    model: str | None = None
    clock_is_right: bool = False


def list_requests_since(
    api: RequestLister,
    model: str | None,
    since: float,
    *,
    page_size: int,
    max_pages: int,
    known: Mapping[str, float] | None = None,
    clock_margin: float = 300.0,
) -> RequestHistory | None:
    """
    Read the list back to a point in time.

    :param api: the client.
    :param model: model id to filter by; None for the requests of all models.
    :param since: Unix seconds by the API's clock.
    :param page_size: requests per page.
    :param max_pages: pages to read before giving up.
    :param known: Unix seconds at which requests were accepted, by their normalized ids. Where one of them is listed
        with that time, the list's clock is right; else it may give the time of another zone, and is read back further.
    :param clock_margin: seconds by which these times may differ.
    :returns: what was read; None if the API does not list the requests of all models.
    """
    seen: dict[str, RequestRecord] = {}
    scan = _Scan(since)
    for _ in range(MAX_SCANS):
        scan = _Scan(since, known or {}, clock_margin)
        try:
            scan.read(api, model, page_size, max_pages)
        except (WanBadRequestError, WanNotFoundError) as error:
            if model is None and not scan.records:
                return None
            scan.gap = f"it can't be read: {error}"
        except WanError as error:
            scan.gap = f"it can't be read: {error}"
        seen.update(scan.records)
        if scan.gap != _MOVED:
            break
    return RequestHistory(
        tuple(seen.values()),
        scan.gap,
        scan.newest_first,
        scan.read_back_to,
        scan.ended and scan.gap is None,
        model,
        scan.clock_is_right,
    )


_MOVED = "it moved while it was read"


@dataclass
class _Scan:
    """One pass through the list."""

    since: float
    known: Mapping[str, float] = field(default_factory=dict)
    clock_margin: float = 300.0
    clock_is_right: bool = False
    records: dict[str, RequestRecord] = field(default_factory=dict)
    gap: str | None = None
    ended: bool = False
    ordered: bool = True
    newest: float = -math.inf
    oldest: float = math.inf

    @property
    def newest_first(self) -> bool:
        return self.ordered and self.newest > self.oldest

    @property
    def read_back_to(self) -> float:
        return self.oldest if self.newest_first and self.gap is None else math.inf

    def read(self, api: RequestLister, model: str | None, page_size: int, max_pages: int) -> None:
        offset = 0
        unreadable = 0
        last_ids: list[str] = []
        for _ in range(max_pages):
            page = api.list_requests(model_id=model, limit=page_size, offset=offset, all_models=model is None)
            unreadable += page.size - len(page.records)
            if unreadable:
                # One of them may be the request that is searched for.
                self.gap = f"{unreadable} of its elements can't be read"
            new = [record for record in page.records if record.request_id not in self.records]
            known = len(page.records) - len(new)
            if self.records and page.records and not known:
                self._add(new)
                self.gap = _MOVED
                return
            self._add(new)
            total_agrees = page.total is None or page.total == len(self.records) + unreadable
            ids = [record.request_id for record in page.records]
            if not new and known <= PAGE_OVERLAP:
                # Only the overlap: the end.
                self.ended = total_agrees and page.has_more is not True
                return
            if ids and ids == last_ids:
                # The same page again: the API does not know offsets, and there may be more.
                return
            last_ids = ids
            if page.has_more is False and page.total is not None and total_agrees:
                self.ended = True
                return
            if new and self._is_deep_enough(len(new)):
                return
            offset += max(page.size - PAGE_OVERLAP, 1)
        self.gap = self.gap or f"it is longer than {max_pages} pages"

    def _add(self, new: list[RequestRecord]) -> None:
        for record in new:
            time = record.created_at
            accepted_at = self.known.get(normalize_id(record.request_id))
            if time is not None and accepted_at is not None and abs(time - accepted_at) <= self.clock_margin:
                self.clock_is_right = True
            # Equal times, and a second of disorder, are allowed.
            if time is None or time > self.oldest + 1:
                self.ordered = False
            else:
                self.newest = max(self.newest, time)
                self.oldest = min(self.oldest, time)
            self.records[record.request_id] = record

    def _is_deep_enough(self, last: int) -> bool:
        """Return whether the last records are all older than needed, in a list that falls so far."""
        times = [record.created_at for record in list(self.records.values())[-last:]]
        until = self.since if self.clock_is_right else self.since - MAX_ZONE_DIFFERENCE
        return self.newest_first and bool(times) and all(time is not None and time < until for time in times)
