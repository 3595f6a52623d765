# SPDX-License-Identifier: Apache-2.0
"""
Reads the API's list of requests back to a point in time, so that what is not in it was not made since.

The API promises nothing about the list: neither its order, nor its page size, nor that it does not change meanwhile.
So pages overlap: a page that shares nothing with those before it shows that the list has moved, and the scan starts
again. The scan ends where the API says so, where a page brings nothing new, or where the list, newest first so far,
has reached a whole page that is older than the time asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import RequestPage, RequestRecord

PAGE_OVERLAP = 5
MAX_SCANS = 3


class RequestLister(Protocol):
    """The part of the client that is used here."""

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Return one page."""


@dataclass(frozen=True)
class RequestHistory:
    """
    What the list shows.

    :param records: the requests, each once.
    :param gap: why something may be missing; None if everything made since the time asked for is included.
    """

    records: tuple[RequestRecord, ...]
    gap: str | None = None


def list_requests_since(
    api: RequestLister, model: str, since: float, *, page_size: int, max_pages: int
) -> RequestHistory:
    """
    Read the list back to a point in time.

    :param api: the client.
    :param model: model id to filter by.
    :param since: Unix seconds by the API's clock.
    :param page_size: requests per page.
    :param max_pages: pages to read before giving up.
    """
    history = RequestHistory((), "it was not read")
    seen: dict[str, RequestRecord] = {}
    for _ in range(MAX_SCANS):
        history = _scan(api, model, since, page_size, max_pages)
        seen.update((record.request_id, record) for record in history.records)
        if history.gap != _MOVED:
            break
    return RequestHistory(tuple(seen.values()), history.gap)


_MOVED = "it moved while it was read"


def _scan(api: RequestLister, model: str, since: float, page_size: int, max_pages: int) -> RequestHistory:
    seen: dict[str, RequestRecord] = {}
    unreadable = 0
    offset = 0
    oldest = float("inf")
    first_ids: list[str] = []

    def end(gap: str | None) -> RequestHistory:
        if gap is None and unreadable:
            gap = f"{unreadable} of its elements can't be read"
        return RequestHistory(tuple(seen.values()), gap)

    for _ in range(max_pages):
        try:
            page = api.list_requests(model_id=model, limit=page_size, offset=offset)
        except WanError as error:
            return end(f"it can't be read: {error}")
        ids = [record.request_id for record in page.records]
        new = [record for record in page.records if record.request_id not in seen]
        unreadable += page.size - len(page.records)
        if offset and ids and ids == first_ids and len(ids) > PAGE_OVERLAP:
            complete = page.has_more is not True and len(ids) < page_size
            return end(None if complete and (page.total is None or page.total <= len(ids)) else _NO_PAGING)
        if offset and ids and len(new) == len(ids):
            seen.update((record.request_id, record) for record in new)
            return end(_MOVED)
        seen.update((record.request_id, record) for record in new)
        if page.has_more is False:
            return end(None)
        if not new:
            # At the end only the overlap is repeated; more than that was pushed onto this page by newer requests.
            return end(None if len(ids) <= PAGE_OVERLAP else _MOVED)
        if page.has_more is None and page.total is not None and offset + page.size >= page.total:
            return end(None)
        times = [record.created_at for record in new]
        if _descends(times, oldest):
            oldest = min(oldest, *(time for time in times if time is not None))
            if all(time is not None and time < since for time in times):
                return end(None)
        else:
            oldest = float("-inf")
        first_ids = first_ids or ids
        offset += max(page.size - PAGE_OVERLAP, 1)
    return end(f"it is longer than {max_pages} pages")


_NO_PAGING = "the API returns the same page again and again"


def _descends(times: Sequence[float | None], before: float) -> bool:
    """Return whether the times descend from ``before`` on (equal times and a second of disorder are allowed)."""
    for time in times:
        if time is None or time > before + 1:
            return False
        before = min(before, time)
    return bool(times)
