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
    """What one call of :meth:`Submission.ensure` was asked for."""

    request: I2VRequest
    fingerprint: str
    owner: Owner
    scope: str
    prices: Mapping[str, float] | None
    max_cost: float | None
    before_pay: Callable[[LedgerEntry], None] | None
    deadline: float | None
