# SPDX-License-Identifier: Apache-2.0
"""What one look at a waiting request means: pure decisions, with the time passed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.api.errors import WanAuthError, WanError, WanNotFoundError, WanRefusedError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus

# Airflow's scheduler can take a trigger that fires sooner for a "state mismatch", and fail the task.
SETTLE_SECONDS = 8.0
# A request that was just accepted may not be known everywhere at once.
NOT_FOUND_PATIENCE = 60.0


class WaitEnd(StrEnum):
    """How a wait ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a wait, and for an error the words for a person."""

    end: WaitEnd
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """
    One wait for one request.

    :param request_id: what is waited for.
    :param end_time: Unix seconds at which to give up.
    :param not_before: Unix seconds before which no end is told.
    :param poll_interval: seconds between looks, where a clip may be done at any moment.
    :param missing_since: Unix seconds since which the API says that it knows no such request.
    :param resolution: of the clip, where known.
    :param duration: seconds of video, where known.
    :param submitted_at: Unix seconds, by the API's clock, at which it was submitted; where known.
    :param patience: seconds for which an id may be unknown to the API.
    """

    request_id: str
    end_time: float
    not_before: float
    poll_interval: float
    missing_since: float | None = None
    resolution: str | None = None
    duration: int | None = None
    submitted_at: float | None = None
    patience: float = NOT_FOUND_PATIENCE


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
        if now - since >= wait.patience:
            return Verdict(WaitEnd.ERROR, f"The API has not known request {wait.request_id} for {now - since:.0f} s")
        return out_of_time(wait, now)
    if isinstance(seen, WanAuthError) or (isinstance(seen, WanRefusedError) and not seen.retryable):
        return Verdict(WaitEnd.ERROR, str(seen))
    return out_of_time(wait, now)


def out_of_time(wait: Wait, now: float) -> Verdict | None:
    """Tell whether the end time has come."""
    return Verdict(WaitEnd.TIMEOUT) if now >= wait.end_time else None
