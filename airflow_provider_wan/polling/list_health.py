# SPDX-License-Identifier: Apache-2.0
"""Whether the API's list can be used; where not, requests are asked for by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError

# So many failed pages in a row, and the list rests.
FAILURES = 3
REST_SECONDS = 60.0
LONGEST_REST = 900.0


class ListHealth:
    """Lets the list rest after failures, twice as long each time."""

    def __init__(self) -> None:
        self._failures = 0
        self._rest = REST_SECONDS
        self._until = 0.0

    def usable(self, now: float) -> bool:
        """Return whether pages may be asked for."""
        return now >= self._until

    def worked(self) -> None:
        """Take in that a page came."""
        self._failures = 0
        self._rest = REST_SECONDS

    def failed(self, error: WanError, now: float) -> None:
        """Take in that a page did not come. One that is refused, such as with a 404, is refused again."""
        if not self.usable(now):
            return
        self._failures += 1
        if not error.retryable or self._failures >= FAILURES:
            self._until = now + self._rest
            self._rest = min(LONGEST_REST, 2 * self._rest)
            self._failures = FAILURES - 1
