# SPDX-License-Identifier: Apache-2.0
"""When to look at a waiting request next: pure decisions, with the time passed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError, WanRefusedError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus

# Airflow's scheduler can take a trigger that fires sooner for a "state mismatch", and fail the task.
SETTLE_SECONDS = 8.0
# A request that was just accepted may not be known everywhere at once.
NOT_FOUND_PATIENCE = 60.0
# Looks are spread by this fraction, so that what began together does not stay together.
JITTER = 0.1
MAX_RETRY_AFTER = 300.0


class WaitEnd(StrEnum):
    """How a wait ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """The end of a wait, and for an error the words for a person."""

    end: WaitEnd
    message: str | None = None


@dataclass(frozen=True)
class Wait:
    """
    One wait for one request.

    :param request_id: what is waited for.
    :param end_time: Unix seconds at which to give up.
    :param not_before: Unix seconds before which no end is told.
    :param poll_interval: seconds between looks.
    :param missing_since: Unix seconds since which the API says that it knows no such request.
    """

    request_id: str
    end_time: float
    not_before: float
    poll_interval: float
    missing_since: float | None = None

    def next_look(self, now: float, spread: float, retry_after: float | None = None) -> float:
        """
        Return the Unix time of the next look: never after the end.

        :param spread: a random number from -1 to 1.
        :param retry_after: seconds that the API asked for.
        """
        pause = self.poll_interval * (1 + JITTER * spread)
        if retry_after is not None:
            pause = max(pause, min(retry_after, MAX_RETRY_AFTER) * (1 + JITTER * abs(spread)))
        return min(now + pause, max(self.end_time, now))


_ENDS = {
    RequestStatus.SUCCESS: WaitEnd.SUCCESS,
    RequestStatus.FAILED: WaitEnd.FAILED,
    RequestStatus.CANCELLED: WaitEnd.CANCELLED,
}


def judge(seen: RequestRecord | WanError, wait: Wait, now: float) -> Verdict | None:
    """
    Decide what one look means; None means: wait on.

    Whatever may pass (no answer, 429, 5xx, garbage) is waited out until the end time. What won't pass
    ends the wait with an error: a refused key, an id that stays unknown.
    """
    if isinstance(seen, RequestRecord):
        end = _ENDS.get(seen.status)
        return Verdict(end) if end else out_of_time(wait, now)
    if isinstance(seen, WanNotFoundError):
        since = wait.missing_since if wait.missing_since is not None else now
        if now - since >= NOT_FOUND_PATIENCE:
            return Verdict(WaitEnd.ERROR, f"The API has not known request {wait.request_id} for {now - since:.0f} s")
        return out_of_time(wait, now)
    if isinstance(seen, WanAuthError) or (isinstance(seen, WanRefusedError) and not seen.retryable):
        return Verdict(WaitEnd.ERROR, str(seen))
    return out_of_time(wait, now)


def out_of_time(wait: Wait, now: float) -> Verdict | None:
    """Tell whether the end time has come."""
    return Verdict(WaitEnd.TIMEOUT) if now >= wait.end_time else None
