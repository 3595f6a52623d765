# SPDX-License-Identifier: Apache-2.0
"""Those who wait for a request, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_wan.api.record import RequestRecord

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError
    from airflow_provider_wan.polling.schedule import Verdict, Wait

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a wait ended.

    :param verdict: the end.
    :param seen: what the last look brought; None where there was none.
    """

    verdict: Verdict
    seen: RequestRecord | WanError | None = None


class Waiter:
    """One who waits, in a task of its own."""

    __slots__ = ("_broken", "_status", "_told", "ended", "latest", "seen", "signal", "wait")

    def __init__(self, wait: Wait, latest: float) -> None:
        self.wait = wait
        self.latest = latest
        self.seen: RequestRecord | WanError | None = None
        self.ended: Ended | None = None
        self.signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken: BaseException | None = None
        self._status: str | None = None
        self._told: str | None = None

    def see(self, seen: RequestRecord | WanError) -> None:
        """Take in a look."""
        self.seen = seen
        if isinstance(seen, RequestRecord) and seen.status_text != self._status:
            self._status = seen.status_text
            self._ring()

    def end(self, verdict: Verdict) -> None:
        """End the wait."""
        if self.ended is None:
            self.ended = Ended(verdict, self.seen)
            self._ring()

    def fail(self, error: BaseException) -> None:
        """End the wait with what went wrong in the hub itself."""
        self._broken = error
        self._ring()

    def hear(self, tell: Tell) -> Ended | None:
        """
        Take in what came with the signal, in the waiter's own task: it is its own log that changes belong to.

        :return: how the wait ended; None: it goes on, with another signal.
        """
        self.signal = asyncio.get_running_loop().create_future()
        if self._status is not None and self._status != self._told:
            self._told = self._status
            tell(self._status)
        if self._broken is not None and self.ended is None:
            raise self._broken
        return self.ended

    def _ring(self) -> None:
        if not self.signal.done():
            self.signal.set_result(None)


def joint(waiters: Sequence[Waiter]) -> Wait:
    """Several may wait for one request: it is looked at as the most eager of them wants."""
    waits = [waiter.wait for waiter in waiters]
    if len(waits) == 1:
        return waits[0]
    return replace(
        waits[0],
        not_before=min(wait.not_before for wait in waits),
        end_time=min(wait.end_time for wait in waits),
        poll_interval=min(wait.poll_interval for wait in waits),
    )
