# SPDX-License-Identifier: Apache-2.0
"""How clips under way are looked at: by pages of the list where there are many, one by one where there are few."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus

#: Up to so many are cheaper to ask for one by one.
FEW = 3
PAGE = 100


class Api(Protocol):
    """What is used of the client."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Return one page of the list."""


@dataclass
class Look:
    """
    What one look has shown.

    :param records: by request id.
    :param unknown: requests that the API does not know.
    :param error: the last thing that went wrong.
    :param calls: how many there were.
    """

    records: dict[str, RequestRecord] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    error: WanError | None = None
    calls: int = 0

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Return those of which nothing is known yet, or not enough: a clip without the address of its file."""
        return [each for each in wanted if each not in self.unknown and not _enough(self.records.get(each))]

    def page(self, page: RequestPage, wanted: Collection[str]) -> bool:
        """Take in a page. :return: whether the next one may show more of what is wanted."""
        before = len(self.records)
        self.records.update({r.request_id: r for r in page.records if r.request_id in wanted})
        return (
            len(self.records) < len(wanted)
            and page.has_more is not False
            and bool(page.records)
            and (len(self.records) > before)
        )


def _enough(record: RequestRecord | None) -> bool:
    return record is not None and (record.status is not RequestStatus.SUCCESS or record.video_url is not None)


def look(api: Api, model: str, wanted: Collection[str], *, most_calls: int) -> Look:
    """
    Look at requests.

    :param wanted: their ids, those first that should be asked for first.
    :param most_calls: how many calls it may take; at least one is made. What is not seen is seen the next time.
    :raises WanAuthError: the key is refused.
    """
    told = Look()
    offset = 0
    more = len(wanted) > FEW
    while more and told.calls < max(1, most_calls):
        told.calls += 1
        try:
            page = api.list_requests(model_id=model, limit=PAGE, offset=offset)
        except WanAuthError:
            raise
        except WanError as error:
            told.error = error
            break
        more = told.page(page, wanted)
        offset += max(1, page.size)
    for request_id in told.missing(wanted):
        if told.calls >= max(1, most_calls):
            break
        told.calls += 1
        try:
            told.records[request_id] = api.get_request(request_id)
        except WanAuthError:
            raise
        except WanNotFoundError:
            told.unknown.add(request_id)
        except WanError as error:
            told.error = error
    return told
