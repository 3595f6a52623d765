# SPDX-License-Identifier: Apache-2.0
"""
Reads the API's list of requests so far back that what is not in it was not made since.

Nothing about the list is promised: not its order, not its page size, not that it stands still. So
pages overlap: one that shares nothing with those before it shows that the list moved, and the reading
starts anew. The end is where the API says so, where a page brings nothing new, or where the list,
newest first so far, has come to a whole page that is older than what is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import RequestPage, RequestRecord

OVERLAP = 5
PASSES = 3


class ListApi(Protocol):
    """What is used of the client."""

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Return one page."""


@dataclass(frozen=True)
class Listing:
    """
    What the list shows.

    :param records: each once.
    :param gap: why something may be missing; None: nothing made since the time asked for is.
    """

    records: tuple[RequestRecord, ...]
    gap: str | None = None


def read_back(api: ListApi, model: str, since: float, *, page_size: int, max_pages: int) -> Listing:
    """
    Read the list back to a time.

    :param since: Unix seconds by the API's clock.
    """
    listing = Listing((), "it was not read")
    seen: dict[str, RequestRecord] = {}
    for _ in range(PASSES):
        listing = _one_pass(api, model, since, page_size, max_pages)
        seen.update((record.request_id, record) for record in listing.records)
        if listing.gap != _MOVED:
            break
    return Listing(tuple(seen.values()), listing.gap)


_MOVED = "it moved while it was read"


def _one_pass(api: ListApi, model: str, since: float, page_size: int, max_pages: int) -> Listing:
    seen: dict[str, RequestRecord] = {}
    unreadable = 0
    offset = 0
    oldest = float("inf")
    first_ids: list[str] = []

    def end(gap: str | None) -> Listing:
        if gap is None and unreadable:
            gap = f"{unreadable} of its elements can't be read"
        return Listing(tuple(seen.values()), gap)

    for _ in range(max_pages):
        try:
            page = api.list_requests(model_id=model, limit=page_size, offset=offset)
        except WanError as error:
            return end(f"it can't be read: {error}")
        ids = [record.request_id for record in page.records]
        new = [record for record in page.records if record.request_id not in seen]
        unreadable += page.size - len(page.records)
        if offset and ids and ids == first_ids and len(ids) > OVERLAP:
            complete = page.has_more is not True and len(ids) < page_size
            return end(None if complete and (page.total is None or page.total <= len(ids)) else _NO_PAGING)
        if offset and ids and len(new) == len(ids):
            seen.update((record.request_id, record) for record in new)
            return end(_MOVED)
        seen.update((record.request_id, record) for record in new)
        if page.has_more is False:
            return end(None)
        if not new:
            # At the end only the overlap comes again; more than that was pushed here by newer ones.
            return end(None if len(ids) <= OVERLAP else _MOVED)
        if page.has_more is None and page.total is not None and offset + page.size >= page.total:
            return end(None)
        times = [record.created_at for record in new]
        if _falls(times, oldest):
            oldest = min(oldest, *(time for time in times if time is not None))
            if all(time is not None and time < since for time in times):
                return end(None)
        else:
            oldest = float("-inf")
        first_ids = first_ids or ids
        offset += max(page.size - OVERLAP, 1)
    return end(f"it is longer than {max_pages} pages")


_NO_PAGING = "the API gives the same page again and again"


def _falls(times: Sequence[float | None], before: float) -> bool:
    """Tell whether the times fall from ``before`` on (equal ones, and a second of disorder, do no harm)."""
    for time in times:
        if time is None or time > before + 1:
            return False
        before = min(before, time)
    return bool(times)
