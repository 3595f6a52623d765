# SPDX-License-Identifier: Apache-2.0
"""Submits one item through the ledger, and returns what came of it. It changes no state of the batch.

:meth:`ItemSubmitter.submit` returns an :class:`ItemSubmission` with one of the outcomes below, which
:class:`~airflow_provider_wan.batch.engine.BatchEngine` applies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_wan.api.errors import (
    Retry,
    WanAuthError,
    WanBudgetError,
    WanCapacityError,
    WanClipFailedError,
    WanCreditError,
    WanError,
    WanInDoubtError,
    WanLookupError,
    WanNotFoundError,
    WanRateLimitError,
    WanRefusedError,
    WanUnknownPriceError,
)
from airflow_provider_wan.api.pricing import Prices, estimate_cost
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.ledger import (
    Budget,
    EntryState,
    LedgerCorruptError,
    LedgerEntry,
    LedgerError,
    LedgerVersionError,
    Owner,
    RetryLater,
    SubmitRequest,
    SubmitResult,
    Submitter,
    TaskReference,
    WaitReason,
)
from airflow_provider_wan.ledger.entry import NO_REFERENCE
from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error

log = logging.getLogger(__name__)

#: Seconds before the second attempt at an item after a transient error; multiplied by the number of attempts.
RETRY_DELAY = 15.0


@dataclass(frozen=True)
class NeedsPreparing:
    """The URLs of the item have expired, or were not made in this process: prepare it again."""


@dataclass(frozen=True)
class OverBudget:
    """The budget does not allow the item."""


@dataclass(frozen=True)
class Accepted:
    """The API has accepted the request.

    :param request_id: the API's id.
    :param record: the request, which may have ended; None if it could not be polled now.
    :param submitted_at: Unix seconds.
    """

    request_id: str
    record: RequestRecord | None
    submitted_at: float


@dataclass(frozen=True)
class AlreadyArchived:
    """The ledger says that the clip is archived.

    :param entry: its entry.
    """

    entry: LedgerEntry


@dataclass(frozen=True)
class Finished:
    """The row has its result.

    :param result: the result.
    :param transient: whether a retry of the task can produce a clip.
    """

    result: ItemResult
    transient: bool


@dataclass(frozen=True)
class Refused:
    """The service refuses the item for now.

    :param delay: seconds to pause.
    :param is_limit: whether the refusal indicates a limit of the service (429, 503).
    :param error: the API's error.
    """

    delay: float
    is_limit: bool
    error: WanError | None


@dataclass(frozen=True)
class Deferred:
    """The item has to wait.

    :param delay: seconds.
    :param in_doubt: whether its request may be in flight.
    """

    delay: float
    in_doubt: bool


@dataclass(frozen=True)
class RetryItem:
    """Attempt the item again after a transient error.

    :param delay: seconds before the second attempt.
    :param error: the error.
    :param fallback: result of the row after too many attempts; None: it is attempted until the deadline.
    """

    delay: float
    error: WanError
    fallback: ItemResult | None


@dataclass(frozen=True)
class StopBatch:
    """Nothing more can be submitted.

    :param error: the error with which the batch ends.
    """

    error: WanError


Outcome = (
    NeedsPreparing | OverBudget | Accepted | AlreadyArchived | Finished | Refused | Deferred | RetryItem | StopBatch
)


@dataclass(frozen=True)
class ItemSubmission:
    """What came of one submission.

    :param item: the item, with what is known now.
    :param outcome: what to do with it.
    :param sent: whether a paid POST was sent, or may have been, so that the next one has to keep its distance.
    :param found: whether the clip existed before, whoever paid for it.
    """

    item: PreparedItem
    outcome: Outcome
    sent: bool = False
    found: bool = False


class ClaimCheck(Protocol):
    """What is used of :class:`~airflow_provider_wan.batch.archiver.Archiver`."""

    def check_free(self, item: PreparedItem, claim: LedgerEntry) -> None:
        """Raise an error if the clip could not be archived."""


class ItemSubmitter:
    """Submits items through the ledger.

    :param submitter: the ledger's submitter, the one place that spends money.
    :param archiver: is asked before a payment whether the clip can be archived.
    :param owner: this process.
    :param scope: scope of the fingerprints.
    :param prices: the prices.
    :param model: model of rows that name none: if the API does not know it, the batch stops.
    :param reference: where in Airflow the batch runs; recorded for people.
    :param clock: returns Unix seconds.
    """

    def __init__(
        self,
        submitter: Submitter,
        archiver: ClaimCheck,
        *,
        owner: Owner,
        scope: str,
        prices: Prices,
        model: str,
        reference: TaskReference = NO_REFERENCE,
        clock: Callable[[], float],
    ) -> None:
        self._submitter = submitter
        self._archiver = archiver
        self._owner = owner
        self._scope = scope
        self._prices = prices
        self._model = model
        self._reference = reference
        self._clock = clock

    def submit(
        self, item: PreparedItem, *, budget: Budget, first_row: bool, deadline: float | None = None
    ) -> ItemSubmission:
        """Submit an item, unless its clip exists already.

        :param item: the item.
        :param budget: its cost is reserved there, and given back if it is not charged.
        :param first_row: whether no other row of the batch has the same fingerprint.
        :param deadline: Unix seconds after which the attempt waits for nothing more.
        """
        request = item.request
        if request is None or not item.is_fresh(self._clock()):
            return ItemSubmission(item, NeedsPreparing())
        sent = reserved = False

        def reserve(claim: LedgerEntry) -> None:
            nonlocal reserved
            budget.reserve(claim)
            reserved = True

        def before_pay(claim: LedgerEntry) -> None:
            nonlocal sent
            self._archiver.check_free(item, claim)
            sent = True

        submit_request = SubmitRequest(
            request,
            item.fingerprint,
            self._owner,
            self._scope,
            self._prices,
            budget.remaining_for(item.fingerprint),
            before_pay,
            deadline,
            reserve=reserve,
            reference=replace(self._reference, source_uri=item.item.image.public_uri),
        )
        try:
            result = self._submitter.try_submit(submit_request)
        except WanUnknownPriceError as error:
            return replace(self._on_error(item, error, None), sent=sent)
        except WanBudgetError:
            return ItemSubmission(item, OverBudget(), sent)
        except (WanError, *S3_ERRORS) as error:
            if reserved:
                self._release(budget, item.fingerprint)
            return replace(self._on_error(item, error, estimate_cost(request, self._prices)), sent=sent)
        budget.count_duplicates(result.entry)
        if isinstance(result, RetryLater):
            budget.release(result.entry, owner=str(self._owner))
            return replace(self._on_retry_later(item, result), sent=sent)
        return replace(self._on_result(item, result, first_row), sent=sent or result.paid_now)

    def _on_result(self, item: PreparedItem, result: SubmitResult, first_row: bool) -> ItemSubmission:
        entry, record = result.entry, result.record
        paid_here = first_row and Owner.parse_task(entry.owner) == self._owner.task
        item = replace(item, cost=entry.cost_estimate, paid_here=paid_here)
        if not result.paid_now:
            self._submitter.ledger.record_reuse(entry, self._owner, self._reference)
        outcome: Outcome
        if record is not None or entry.state is EntryState.SUBMITTED:
            submitted_at = self._clock() if entry.submitted_at is None else entry.submitted_at
            outcome = Accepted(str(entry.request_id), record, submitted_at)
        elif entry.state is EntryState.ARCHIVED:
            outcome = AlreadyArchived(entry)
        else:
            error = (
                f"request {entry.request_id} succeeded and was paid for, and the API no longer knows it. A new "
                "idempotency_key makes the clip again, for its price"
            )
            lost = item.build_result(ItemStatus.LOST, request_id=entry.request_id, cost=item.cost, error=error)
            outcome = Finished(lost, transient=False)
        return ItemSubmission(
            item,
            outcome,
            found=not result.paid_now,
        )

    def _release(self, budget: Budget, fingerprint: str) -> None:
        """Give back what was reserved, if the entry shows that nothing is charged."""
        try:
            stored = self._submitter.ledger.store.read(fingerprint)
        except LedgerError as error:
            log.warning("The cost of clip %s stays reserved: %s", fingerprint, error)
            return
        if stored is not None:
            budget.release(stored.entry, owner=str(self._owner))

    @staticmethod
    def _on_retry_later(item: PreparedItem, result: RetryLater) -> ItemSubmission:
        if result.reason is WaitReason.REFUSED:
            is_limit = isinstance(result.error, WanRateLimitError | WanCapacityError)
            return ItemSubmission(item, Refused(result.delay, is_limit, result.error))
        return ItemSubmission(item, Deferred(result.delay, in_doubt=result.reason is WaitReason.IN_DOUBT))

    def _on_error(self, item: PreparedItem, error: Exception, cost: float | None) -> ItemSubmission:
        message = f"{type(error).__name__}: {error}"
        match error:
            case WanAuthError() | WanCreditError():
                return ItemSubmission(item, StopBatch(error))
            case WanNotFoundError() if item.item.request.model == self._model:
                return ItemSubmission(item, StopBatch(error))
            case WanClipFailedError():
                failed = item.build_result(ItemStatus.FAILED, cost=0.0, error=str(error))
                return ItemSubmission(item, Finished(failed, False))
            case WanInDoubtError():
                doubtful = item.build_result(ItemStatus.IN_DOUBT, cost=cost, error=str(error))
                return ItemSubmission(item, Finished(doubtful, True))
            case WanRefusedError() if error.retry is Retry.NEVER:
                rejected = item.build_result(ItemStatus.REJECTED, cost=0.0, error=message)
                return ItemSubmission(item, Finished(rejected, False))
            case LedgerCorruptError() | LedgerVersionError():
                # Only this clip's entry can't be read; nothing is paid for it.
                unreadable = item.build_result(ItemStatus.IN_DOUBT, error=message)
                return ItemSubmission(item, Finished(unreadable, False))
            case LedgerError():
                # The API may have accepted the request, and only its record in the ledger failed.
                outcome = StopBatch(error) if error.retry is Retry.NEVER else RetryItem(RETRY_DELAY, error, None)
                return ItemSubmission(item, outcome)
            case WanLookupError():
                timeout = item.build_result(ItemStatus.TIMEOUT, error=message)
                return ItemSubmission(item, RetryItem(RETRY_DELAY, error, timeout))
            case WanError():
                rejected = item.build_result(ItemStatus.REJECTED, cost=0.0, error=message)
                return ItemSubmission(item, RetryItem(RETRY_DELAY, error, rejected))
            case _:
                found = describe_s3_error(error, "the output")
                return ItemSubmission(item, StopBatch(WanBatchError(f"the output cannot be used: {found}", True)))
