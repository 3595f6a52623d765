# SPDX-License-Identifier: Apache-2.0
"""Requests by id and in order: a lookup costs one step, a page of the list costs its length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from airflow_provider_wan.sandbox.job import SandboxJob


class JobStore:
    """All requests of a sandbox."""

    def __init__(self) -> None:
        self._by_id: dict[str, SandboxJob] = {}
        self._lists: dict[tuple[str, str | None], list[SandboxJob]] = {}
        self.last_number = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[SandboxJob]:
        return iter(self._by_id.values())

    def add(self, job: SandboxJob) -> None:
        """Add a request; usually in order of creation."""
        self._by_id[job.request_id] = job
        self.last_number = max(self.last_number, job.number)
        for key in ((job.org_id, None), (job.org_id, job.model)):
            jobs = self._lists.setdefault(key, [])
            if jobs and jobs[-1].created_at > job.created_at:
                jobs.insert(bisect_right(jobs, job.created_at, key=lambda each: each.created_at), job)
            else:
                jobs.append(job)

    def get(self, request_id: str) -> SandboxJob | None:
        """Return the request with this id, or None."""
        return self._by_id.get(request_id)

    def page(
        self,
        org_id: str,
        model: str | None,
        limit: int,
        offset: int,
        before: float,
        oldest_first: bool = False,
    ) -> tuple[list[SandboxJob], int]:
        """Return a page of an organization's requests, newest first, and their total number.

        :param before: Unix time; only requests created until then.
        """
        jobs = self._lists.get((org_id, model), [])
        count = len(jobs)
        while count and jobs[count - 1].created_at > before:
            count -= 1
        if oldest_first:
            return jobs[offset : min(count, offset + limit)], count
        end = max(0, count - offset)
        return jobs[max(0, end - limit) : end][::-1], count
