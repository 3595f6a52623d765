# SPDX-License-Identifier: Apache-2.0
"""Requests by id and in order, so that a look-up costs one step and a page of the list costs the page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from airflow_provider_wan.sandbox.job import Job


class JobStore:
    """All requests of a sandbox."""

    def __init__(self) -> None:
        self._by_id: dict[str, Job] = {}
        self._lists: dict[tuple[str, str | None], list[Job]] = {}
        self.last_number = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    def add(self, job: Job) -> None:
        """Take a request in; requests come in the order of their creation."""
        self._by_id[job.request_id] = job
        self.last_number = max(self.last_number, job.number)
        for key in ((job.org_id, None), (job.org_id, job.model)):
            jobs = self._lists.setdefault(key, [])
            if jobs and jobs[-1].created_at > job.created_at:
                jobs.insert(bisect_right(jobs, job.created_at, key=lambda each: each.created_at), job)
            else:
                jobs.append(job)

    def get(self, request_id: str) -> Job | None:
        """The request of that id."""
        return self._by_id.get(request_id)

    def page(
        self,
        org_id: str,
        model: str | None,
        limit: int,
        offset: int,
        before: float,
        oldest_first: bool = False,
    ) -> tuple[list[Job], int]:
        """A page of an organisation's requests, newest first, and how many there are.

        :param before: only those that were created by then.
        """
        jobs = self._lists.get((org_id, model), [])
        count = len(jobs)
        while count and jobs[count - 1].created_at > before:
            count -= 1
        if oldest_first:
            return jobs[offset : min(count, offset + limit)], count
        end = max(0, count - offset)
        return jobs[max(0, end - limit) : end][::-1], count
