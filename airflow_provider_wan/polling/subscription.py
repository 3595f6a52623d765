# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of those that wait for a request, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_wan.api.record import RequestRecord

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError
    from airflow_provider_wan.polling.decision import PollTarget, WaitDecision

StatusCallback = Callable[[str], None]
ErrorCallback = Callable[["WanError"], None]


@dataclass(frozen=True, slots=True)
class WaitOutcome:
    """How a wait ended.

    :param decision: the end.
    :param last_result: what the last poll returned or raised; ``None`` if there was none.
    """

    decision: WaitDecision
    last_result: RequestRecord | WanError | None = None


class Subscription:
    """One wait for a request.

    :param target: what is waited for.
    :param latest: Unix seconds at which the wait ends even without a last poll.
    """

    __slots__ = (
        "_error",
        "_failure",
        "_reported_status",
        "_status",
        "last_result",
        "latest",
        "outcome",
        "signal",
        "target",
    )

    def __init__(self, target: PollTarget, latest: float) -> None:
        self.target = target
        self.latest = latest
        self.last_result: RequestRecord | WanError | None = None
        self.outcome: WaitOutcome | None = None
        self.signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: BaseException | None = None
        self._error: WanError | None = None
        self._status: str | None = None
        self._reported_status: str | None = None

    def observe(self, result: RequestRecord | WanError) -> None:
        """Record the result of a poll, and wake the waiting task if the status or the kind of error has changed."""
        previous, self.last_result = self.last_result, result
        if isinstance(result, RequestRecord):
            if result.status_text != self._status:
                self._status = result.status_text
                self._notify()
        elif type(previous) is not type(result):
            self._error = result
            self._notify()

    def end(self, decision: WaitDecision) -> None:
        """End the wait."""
        if self.outcome is None:
            self.outcome = WaitOutcome(decision, self.last_result)
            self._notify()

    def fail(self, error: BaseException) -> None:
        """End the wait with an error of the hub itself."""
        self._failure = error
        self._notify()

    def drain(self, status_callback: StatusCallback, error_callback: ErrorCallback | None = None) -> WaitOutcome | None:
        """Process what came with the signal. Call it in the waiting task, so that messages go to that task's log.

        :param status_callback: called with the new status.
        :param error_callback: called with an error of a new kind, after which the wait goes on.
        :returns: how the wait ended; ``None`` if it continues, with a new signal.
        """
        self.signal = asyncio.get_running_loop().create_future()
        if self._status is not None and self._status != self._reported_status:
            self._reported_status = self._status
            status_callback(self._status)
        error, self._error = self._error, None
        if error is not None and error_callback is not None:
            error_callback(error)
        if self._failure is not None and self.outcome is None:
            raise self._failure
        return self.outcome

    def _notify(self) -> None:
        if not self.signal.done():
            self.signal.set_result(None)


def merge_targets(subscriptions: Sequence[Subscription]) -> PollTarget:
    """Return one target for several waits for the same request: it is polled as the most demanding one asks."""
    targets = [subscription.target for subscription in subscriptions]
    if len(targets) == 1:
        return targets[0]
    return replace(
        targets[0],
        not_before=min(target.not_before for target in targets),
        end_time=min(target.end_time for target in targets),
        poll_interval=min(target.poll_interval for target in targets),
    )
