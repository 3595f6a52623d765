# SPDX-License-Identifier: Apache-2.0
"""What is asked of a submission, of whom, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.ledger.entry import LedgerEntry, Owner
from airflow_provider_wan.ledger.reconcile import LookApi

OnDoubt = Literal["reconcile", "fail"]


class SubmissionApi(LookApi, Protocol):
    """What is used of :class:`~airflow_provider_wan.api.client.WanClient`, or of the hook."""

    def submit(self, request: I2VRequest) -> RequestRecord:
        """Send the paid POST, once."""

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation."""


@dataclass(frozen=True)
class Submitted:
    """
    A clip that is paid for.

    :param entry: what the ledger holds of it: ``submitted``, ``succeeded`` or ``archived``.
    :param record: what the API told just now; None where it was not asked (archived) or knows it no more.
    :param paid_now: whether a submission of this very call was answered with the request id. One whose answer
        was lost, and which was then found in the list, counts as found.
    """

    entry: LedgerEntry
    record: RequestRecord | None
    paid_now: bool


@dataclass(frozen=True)
class Job:
    """
    What a submission is asked for.

    :param request: with a seed only where the user gave one.
    :param fingerprint: under which the clip is remembered.
    :param owner: this process.
    :param scope: noted in the entry.
    :param prices: US dollars per second of video, by resolution.
    :param max_cost: US dollars; more than that is not spent.
    :param before_pay: called with the claim to be made, before anything is written or sent; what it
        raises stops everything, with nothing paid.
    :param deadline: Unix seconds until which it may wait (for a 429 or 503 to pass, for another task's
        claim, for the second look of a proof); None: as long as it takes.
    """

    request: I2VRequest
    fingerprint: str
    owner: Owner
    scope: str = ""
    prices: Mapping[str, float] | None = None
    max_cost: float | None = None
    before_pay: Callable[[LedgerEntry], None] | None = None
    deadline: float | None = None
