# SPDX-License-Identifier: Apache-2.0
"""What to poll and what the result of a poll means: pure decisions, without I/O and with the time passed in.

:func:`prefer_page` is the one place that decides between a page of the list and polling single requests.
:class:`StatusScan` applies it to a set of requests whose positions in the list are unknown; synchronous and
asynchronous callers share it and only add the I/O. :func:`evaluate_poll` decides whether a wait has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus

#: Requests per page of the list, as clients usually ask for them.
PAGE_SIZE = 100
#: Up to this number, requests at unknown positions of the list are polled one by one.
MAX_SINGLE_POLLS = 3


class WaitStatus(StrEnum):
    """How a wait ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class WaitDecision:
    """The end of a wait.

    :param status: how it ended.
    :param message: for an error, the explanation for a person.
    """

    status: WaitStatus
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PollTarget:
    """One request that is polled until it ends or until a deadline.

    :param request_id: the request.
    :param end_time: Unix seconds of the deadline.
    :param not_before: Unix seconds before which no end is reported.
    :param poll_interval: seconds between polls while the request may end at any moment.
    :param missing_since: Unix seconds since which the API reports the id as unknown.
    :param resolution: of the clip, if known.
    :param duration: seconds of video, if known.
    :param submitted_at: Unix seconds, by the API's clock, of the submission, if known.
    :param not_found_grace: seconds after which a request that the API does not know ends the wait; ``None`` waits on.
    :param needs_file: whether a success that names no file yet is waited for further.
    :param model: model by which the list is filtered; ``None`` for the connection's.
    """

    request_id: str
    end_time: float
    not_before: float
    poll_interval: float
    missing_since: float | None = None
    resolution: str | None = None
    duration: int | None = None
    submitted_at: float | None = None
    not_found_grace: float | None = None
    needs_file: bool = True
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """One status request to send.

    :param request_id: the request to get by its id; ``None`` to get a page of the list.
    :param offset: position in the list at which the page begins.
    :param limit: number of requests on the page.
    :param members: ids of the requests that the poll is for.
    :param is_scan: whether the page searches for requests whose position is unknown.
    """

    request_id: str | None
    offset: int = 0
    limit: int = PAGE_SIZE
    members: tuple[str, ...] = ()
    is_scan: bool = False


def prefer_page(
    count: int, *, max_single_polls: int = 1, list_available: bool = True, id_lookup_works: bool = True
) -> bool:
    """Decide whether to poll requests by a page of the list or one by one.

    :param count: number of requests to poll.
    :param max_single_polls: number up to which single polls are cheaper. It is 1 if one page is known to hold all.
    :param list_available: whether the list can be used.
    :param id_lookup_works: whether the API knows the requests by their ids.
    :returns: ``True`` for a page, ``False`` for single polls.
    """
    if not list_available:
        return False
    return not id_lookup_works or count > max_single_polls


class StatusScan:
    """Poll many requests once: by pages of the list first, then one by one those that no page has shown.

    A page alone does not prove that a request failed or was cancelled: after that, the clip is paid for again. So such
    a request is polled by its id as well.

    The scan does no I/O. Send what :meth:`next_poll` returns and report the response by :meth:`on_page`,
    :meth:`on_record` or :meth:`on_error`, until :meth:`next_poll` returns ``None``.

    :param request_ids: ids of the requests, in the order of their priority.
    :param max_polls: number of polls to send at most, at least one; ``None`` for no limit.
    :param max_single_polls: number of single polls to send at most; ``None`` for no limit.
    """

    def __init__(
        self, request_ids: Collection[str], *, max_polls: int | None = None, max_single_polls: int | None = None
    ) -> None:
        self._request_ids = tuple(request_ids)
        self._wanted = frozenset(request_ids)
        self._max_polls = None if max_polls is None else max(1, max_polls)
        self._max_single_polls = max_single_polls
        self._paging = prefer_page(len(self._request_ids), max_single_polls=MAX_SINGLE_POLLS)
        self._offset = 0
        self._singles: deque[str] | None = None
        self._listed_ends: dict[str, RequestRecord] = {}
        #: Records by request id.
        self.records: dict[str, RequestRecord] = {}
        #: Ids of requests that the API does not know.
        self.unknown: set[str] = set()
        #: The last error; :class:`WanAuthError` ends the scan.
        self.error: WanError | None = None
        #: Number of polls so far.
        self.polls = 0

    def next_poll(self) -> Poll | None:
        """Return the next poll to send, or ``None`` if the scan is complete, was refused or has used its polls."""
        if isinstance(self.error, WanAuthError) or (self._max_polls is not None and self.polls >= self._max_polls):
            return None
        if self._paging:
            self.polls += 1
            return Poll(None, self._offset, PAGE_SIZE, self._request_ids, is_scan=True)
        if self._singles is None:
            self._singles = deque(self.missing()[: self._max_single_polls])
        if not self._singles:
            return None
        self.polls += 1
        request_id = self._singles.popleft()
        return Poll(request_id, members=(request_id,))

    def missing(self) -> list[str]:
        """Return the ids of which too little is known: no record, or a success without the address of its file."""
        return [
            request_id
            for request_id in self._request_ids
            if request_id not in self.unknown and not _is_sufficient(self.records.get(request_id))
        ]

    def on_page(self, page: RequestPage) -> None:
        """Process a page; the next one is read only if this one has shown something new and more may follow."""
        before = self._count_listed()
        for record in page.records:
            if record.request_id in self._wanted:
                ended = record.status in (RequestStatus.FAILED, RequestStatus.CANCELLED)
                (self._listed_ends if ended else self.records)[record.request_id] = record
        self._offset += max(1, page.size)
        self._paging = before < self._count_listed() < len(self._wanted) and page.has_more is not False

    def _count_listed(self) -> int:
        return len(self.records.keys() | self._listed_ends.keys())

    def on_record(self, poll: Poll, record: RequestRecord) -> None:
        """Process the record of a single poll."""
        self.records[str(poll.request_id)] = record

    def on_error(self, poll: Poll, error: WanError) -> None:
        """Process the error of a poll. An error of a page only ends the paging: the key may not list, but get."""
        if poll.request_id is None:
            self._paging = False
            if isinstance(error, WanAuthError):
                return
        elif isinstance(error, WanNotFoundError):
            if poll.request_id in self._listed_ends:
                self.records[poll.request_id] = self._listed_ends[poll.request_id]
            else:
                self.unknown.add(poll.request_id)
            return
        self.error = error


def _is_sufficient(record: RequestRecord | None) -> bool:
    return record is not None and (record.status is not RequestStatus.SUCCESS or record.video_url is not None)


_WAIT_STATUS = {
    RequestStatus.SUCCESS: WaitStatus.SUCCESS,
    RequestStatus.FAILED: WaitStatus.FAILED,
    RequestStatus.CANCELLED: WaitStatus.CANCELLED,
}


def evaluate_poll(result: RequestRecord | WanError, target: PollTarget, now: float) -> WaitDecision | None:
    """Decide whether the result of a poll ends a wait.

    Only a proof ends it: a terminal status, or the deadline. What is polled may be paid for, so no error ends the wait:
    neither a rejected key, which may be replaced, nor a refusal or a redirect, which may come from a firewall or a
    gateway on the way, nor an unknown id, which a lagging replica may report.

    :param result: what the poll returned or raised.
    :param target: what is waited for.
    :param now: Unix seconds.
    :returns: the end of the wait; ``None`` to continue.
    """
    if isinstance(result, RequestRecord):
        ended = result.is_final if target.needs_file else result.status.is_terminal
        return WaitDecision(_WAIT_STATUS[result.status]) if ended else _check_deadline(target, now)
    if isinstance(result, WanNotFoundError) and target.not_found_grace is not None:
        since = target.missing_since if target.missing_since is not None else now
        if now - since >= target.not_found_grace:
            message = f"The API has not known request {target.request_id} for {now - since:.0f} s"
            return WaitDecision(WaitStatus.ERROR, message)
    return _check_deadline(target, now)


def _check_deadline(target: PollTarget, now: float) -> WaitDecision | None:
    return WaitDecision(WaitStatus.TIMEOUT) if now >= target.end_time else None
