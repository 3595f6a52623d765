# SPDX-License-Identifier: Apache-2.0
"""The result or the error of a task, from a record of its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_wan.api.errors import (
    Retry,
    WanClipCancelledError,
    WanClipFailedError,
    WanClipTimeoutError,
    WanCreditError,
    WanError,
    WanResultError,
)
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.api.redaction import strip_query

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.ledger.entry import Outcome


def clip_result(record: RequestRecord, **more: Any) -> dict[str, Any]:
    """Return the XCom of a finished clip: plain values, URLs without query strings.

    :param record: a request that has succeeded.
    :param more: more values.
    :raises WanResultError: if the API reports success, but no URL of the clip.
    """
    if not record.video_url:
        raise _build_no_file_error(record)
    return {
        "request_id": record.request_id,
        "status": record.status.value,
        "video_url": strip_query(record.video_url),
        "thumbnail_url": strip_query(record.thumbnail_url) if record.thumbnail_url else None,
        **more,
    }


#: What an asset event says of a file or a clip.
EVENT_FIELDS = (
    *("uri", "sha256", "size", "request_id", "fingerprint", "cost", "reused", "seconds", "resolution", "model"),
    *("width", "height", "content_type"),
)


def build_clip_extra(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an asset event says of a task's result: no URL that may be signed, and no prompt.

    :param result: result of the task.
    """
    return {name: result[name] for name in EVENT_FIELDS if result.get(name) is not None}


def build_error(record: RequestRecord, *, outcome: Outcome | None = None, waited: str = "") -> WanError:
    """Return the error of a task whose own request has no clip.

    :param record: the request.
    :param outcome: the outcome in the ledger, which also knows earlier requests for the same clip.
    :param waited: how long the task waited, for a request that is still in flight.
    """
    message = _describe_status(record)
    if record.status is RequestStatus.FAILED:
        from airflow_provider_wan.ledger.failures import is_permanent

        permanent = outcome.permanent if outcome else is_permanent(record.error)
        if permanent:
            return WanClipFailedError(
                f"{message}. The same request would fail again: change it, then clear this task.", True
            )
        return WanClipFailedError(f"{message}. It is not charged; a retry makes a new request.")
    if record.status is RequestStatus.CANCELLED:
        return WanClipCancelledError(f"{message}. It is not charged; a retry makes a new request.")
    return WanClipTimeoutError(
        f"{message}{waited}. The request continues: a retry, or clearing this task, resumes the wait and pays nothing."
    )


def build_timeout_error(request_id: str, last_result: RequestRecord | WanError | None, seconds: float) -> WanError:
    """Return the error of a task whose deadline has passed.

    :param request_id: the request.
    :param last_result: what the last poll returned or raised.
    :param seconds: how long the attempt was allowed to wait.
    """
    waited = f" after {seconds:.0f} s"
    if last_result is None or isinstance(last_result, WanError):
        cause = f"; the last poll failed: {last_result}" if last_result is not None else "; no poll succeeded."
        return WanClipTimeoutError(
            f"Request {request_id} could not be polled to its end{waited}{cause} The request continues and may be paid "
            "for: remove the cause, then retry or clear this task, which resumes the wait and pays nothing for it."
        )
    if last_result.status is RequestStatus.SUCCESS:
        return _build_no_file_error(last_result)
    return build_error(last_result, waited=waited)


def _build_no_file_error(record: RequestRecord) -> WanResultError:
    return WanResultError(
        f"Request {record.request_id} is done, but the API names no clip. It is paid for: check it "
        "in the service's console, then clear this task; that costs nothing."
    )


def build_upstream_error(record: RequestRecord) -> AirflowFailException:
    """Return the error of a task that needs the clip of another task's request, which has none.

    :param record: the request.
    """
    return AirflowFailException(
        f"{_describe_status(record)}. It is not charged. Clear the task that made it, and this one with it."
    )


def fail_task(error: WanError, retry_policy: object = None) -> NoReturn:
    """Raise an error so that Airflow retries the task only if that can help.

    :param error: the error of the provider.
    :param retry_policy: that of the task, which may wait until an account has credit again.
    :raises AirflowFailException: if a retry cannot help.
    :raises WanError: the error itself otherwise.
    """
    # Retry.RECONCILE is retried too: every submission goes through the ledger, which reconciles it first.
    waits = isinstance(error, WanCreditError) and getattr(retry_policy, "can_reschedule", False)
    if error.retry is Retry.NEVER and not waits:
        # The sentence says it all: a second traceback of the same error would bury it.
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None
    raise error


def _describe_status(record: RequestRecord) -> str:
    if record.status is RequestStatus.FAILED:
        return f"Request {record.request_id} failed: {record.error or 'the API gives no reason'}"
    if record.status is RequestStatus.CANCELLED:
        return f"Request {record.request_id} was cancelled"
    return f"Request {record.request_id} is still {record.status_text!r}"
