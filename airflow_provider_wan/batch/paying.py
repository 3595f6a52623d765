# SPDX-License-Identifier: Apache-2.0
"""Submits one clip through the ledger, and tells the batch what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_wan.api.errors import (
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
)
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.keep import row_of
from airflow_provider_wan.batch.prepare import Clip
from airflow_provider_wan.batch.results import Status
from airflow_provider_wan.ledger import EntryState, Job, Later, LedgerEntry, LedgerError, Owner, Submitted, Why, cost_of

if TYPE_CHECKING:
    from airflow_provider_wan.batch.engine import Engine
    from airflow_provider_wan.batch.state import State

log = logging.getLogger(__name__)

PAUSE_SECONDS = 15.0


class Paying:
    """
    The batch's way to :meth:`~airflow_provider_wan.ledger.submission.Submission.attempt`.

    :param state: the batch.
    :param engine: is told what came of it.
    :param clock: gives Unix seconds.
    """

    def __init__(self, state: State, engine: Engine, clock: Callable[[], float]) -> None:
        self._state = state
        self._setup = state.setup
        self._engine = engine
        self._clock = clock

    def submit(self, clip: Clip) -> None:
        """Have a clip, or find out why it can't be had now."""
        request = clip.request
        if request is None or not clip.fresh(self._clock()):
            self._engine.prepare_again(clip)
            return
        sent = False

        def before_pay(fresh: LedgerEntry) -> None:
            nonlocal sent
            self._setup.keeper.check_free(clip, fresh)
            sent = True

        setup, budget = self._setup, self._state.budget
        job = Job(
            request,
            clip.fingerprint,
            setup.owner,
            setup.scope,
            setup.prices,
            budget.left_for(clip.fingerprint),
            before_pay,
        )
        try:
            done = setup.submission.attempt(job)
        except WanBudgetError:
            self._engine.unpaid(clip)
        except (WanError, BotoCoreError, ClientError) as error:
            self._failed(clip, error, cost_of(request, setup.prices))
        else:
            sent = sent or (isinstance(done, Submitted) and done.paid_now)
            if isinstance(done, Later):
                self._later(clip, done)
            else:
                self._had(clip, done)
        if sent:
            self._state.plan.paid(self._clock())

    def _had(self, clip: Clip, done: Submitted) -> None:
        entry, record = done.entry, done.record
        ours = Owner.task_of(entry.owner) == self._setup.owner.task and self._state.first(clip)
        clip = replace(clip, cost=entry.cost_estimate, ours=ours)
        if done.paid_now or (ours and entry.owner == str(self._setup.owner)):
            # Also one whose answer was lost, and which was then found in the list.
            self._state.budget.count(clip.fingerprint, entry.cost_estimate)
        if not done.paid_now:
            self._engine.funded()
        if record is not None and record.status.is_terminal:
            self._engine.ended(clip, record)
        elif record is not None:
            since = self._clock() if entry.submitted_at is None else entry.submitted_at
            self._state.plan.submitted(clip, record.request_id, since)
        elif entry.state is EntryState.ARCHIVED:
            self._engine.archived_before(clip, entry)
        else:
            error = (
                f"request {entry.request_id} was finished and paid for, and the API knows it no more. force_new makes "
                "the clip again, for its price"
            )
            lost = row_of(clip, Status.LOST, request_id=entry.request_id, cost=clip.cost, error=error)
            self._engine.settle(lost, passing=False)

    def _later(self, clip: Clip, done: Later) -> None:
        now, plan = self._clock(), self._state.plan
        match done.why:
            case Why.REFUSED:
                limit = isinstance(done.error, WanRateLimitError | WanCapacityError)
                plan.refused(clip, now, done.wait, limit=limit)
                if limit:
                    log.warning(
                        "%s The window is %d, and the next try is in %.0f s.", done.error, plan.window.size, done.wait
                    )
            case Why.DOUBT:
                self._state.budget.count(clip.fingerprint, done.entry.cost_estimate)
                plan.put_off(clip, now + done.wait, held=True)
            case Why.CLAIMED:
                plan.put_off(clip, now + done.wait)

    def _failed(self, clip: Clip, error: Exception, cost: float | None) -> None:
        engine, budget = self._engine, self._state.budget
        told = f"{type(error).__name__}: {error}"
        match error:
            case WanAuthError() | WanCreditError():
                self._stop(clip, error)
            case WanNotFoundError() if clip.item.request.model == self._setup.model:
                self._stop(clip, error)
            case WanClipFailedError():
                budget.refund(clip.fingerprint)
                engine.settle(row_of(clip, Status.FAILED, cost=0.0, error=str(error)), passing=False)
            case WanInDoubtError():
                budget.count(clip.fingerprint, cost)
                engine.settle(row_of(clip, Status.IN_DOUBT, cost=cost, error=str(error)))
            case WanRefusedError() if not error.retryable:
                engine.settle(row_of(clip, Status.REJECTED, cost=0.0, error=told), passing=False)
            case LedgerError():
                # It may be the note of an accepted request that failed.
                budget.count(clip.fingerprint, cost)
                if not error.retryable or not engine.again(clip, PAUSE_SECONDS, error):
                    self._stop(clip, error)
            case WanLookupError():
                if not engine.again(clip, PAUSE_SECONDS, error):
                    engine.settle(row_of(clip, Status.TIMEOUT, error=told))
            case WanError():
                if not engine.again(clip, PAUSE_SECONDS, error):
                    engine.settle(row_of(clip, Status.REJECTED, cost=0.0, error=told))
            case _:
                self._stop(clip, WanBatchError(f"the output can't be used: {told}", True))

    def _stop(self, clip: Clip, error: WanError) -> None:
        self._state.left(clip.row)
        self._engine.stop(error)
