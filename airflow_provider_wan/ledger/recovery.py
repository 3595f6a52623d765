# SPDX-License-Identifier: Apache-2.0
"""Gets a clip again that is no longer where the ledger says that it is archived. Nothing here pays."""

from __future__ import annotations

from typing import Protocol

from airflow_provider_wan.api.errors import (
    WanError,
    WanLookupError,
    WanNotFoundError,
    WanResultGoneError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.api.request import MODELS
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.messages import lost_clip_message
from airflow_provider_wan.media.delivery import AskedClip


class RequestGetter(Protocol):
    """The part of the client that is used here."""

    def get_request(self, request_id: str) -> RequestRecord:
        """Return one request."""


class LostClipError(WanResultGoneError):
    """A clip is paid for, is no longer where it was archived, and the service does not have it either."""


def get_result_again(api: RequestGetter, entry: LedgerEntry) -> RequestRecord:
    """
    Return the finished request of a clip that is missing, with a fresh URL of its result.

    :param api: the client.
    :param entry: the entry, which says that the clip is archived.
    :raises LostClipError: if the service has the clip no longer: it was paid for, and is lost.
    :raises WanLookupError: if that can't be found out now.
    """
    try:
        record = api.get_request(entry.request_id or "")
    except WanNotFoundError as error:
        raise LostClipError(lost_clip_message(entry, f"the API no longer knows the request: {error}")) from error
    except WanError as error:
        raise WanLookupError(
            f"Clip {entry.fingerprint} is no longer at {entry.archive_uri}, and the API can't be asked for it now: "
            f"{error} It is paid for: a retry asks again, and pays nothing."
        ) from error
    if record.status is not RequestStatus.SUCCESS or not record.video_url:
        reason = f"the API says that the request is {record.status_text!r}, and names no file."
        raise LostClipError(lost_clip_message(entry, reason))
    return record


def report_lost_clip(entry: LedgerEntry, error: WanError) -> LostClipError:
    """
    Return the error of a missing clip whose result can't be downloaded again.

    :param entry: the entry, which says that the clip is archived.
    :param error: the error of the download.
    """
    return error if isinstance(error, LostClipError) else LostClipError(lost_clip_message(entry, str(error)))


def build_asked_clip(entry: LedgerEntry) -> AskedClip:
    """
    Return what was asked for, as the entry says. A drawn seed counts for the models whose echo has it.

    :param entry: the clip's entry.
    """
    is_known = entry.model in MODELS
    return AskedClip(
        seconds=float(entry.duration) if entry.duration else None,
        resolution=entry.resolution if is_known else None,
        seed=entry.seed if is_known or not entry.seed_drawn else None,
    )
