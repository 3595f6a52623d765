# SPDX-License-Identifier: Apache-2.0
"""
The one place in which money is spent.

:meth:`Submission.ensure` claims a clip in the ledger, submits it once, and notes its request id; or finds
that one of these was done before, by whomever, and goes on from there. What it makes of each state and
each answer is written in :mod:`airflow_provider_wan.ledger.decision`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from airflow_provider_wan.api.errors import (
    WanClipFailedError,
    WanConnectError,
    WanError,
    WanInDoubtError,
    WanNotFoundError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.request import MAX_SEED, I2VRequest
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.advance import Advance
from airflow_provider_wan.ledger.cost import checked_cost
from airflow_provider_wan.ledger.decision import AfterPost, Decision, Policy, Situation, decide, judge
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerBusyError,
    LedgerUnavailableError,
)
from airflow_provider_wan.ledger.fingerprint import payload_sha256
from airflow_provider_wan.ledger.job import Job, OnDoubt, SubmissionApi, Submitted
from airflow_provider_wan.ledger.reconcile import Finding, Look, look
from airflow_provider_wan.ledger.steps import Later, Pending, Why, since
from airflow_provider_wan.ledger.store import LedgerStore, Versioned
from airflow_provider_wan.ledger.telling import tell
from airflow_provider_wan.ledger.words import doubt_text, failed_text

log = logging.getLogger(__name__)


class Submission(Advance):
    """
    Makes sure that a clip is submitted, and that it is submitted once.

    :param api: a client or hook.
    :param store: the ledger.
    :param clock: gives Unix seconds.
    :param sleep: waits seconds.
    :param rng: draws seeds and jitter; seeds must not repeat, so the default is the system's.
    :param policy: times and limits.
    """

    def __init__(
        self,
        api: SubmissionApi,
        store: LedgerStore,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(store, clock)
        self._api = api
        self._sleep = sleep
        self._rng = rng or random.SystemRandom()
        self._policy = policy or Policy()
        self._probed = False
        # By fingerprint: the version that this process saw or looked for in vain, and since when.
        self._seen: dict[str, tuple[str, float]] = {}
        self._looked: dict[str, tuple[str, float]] = {}
        self._pending: dict[str, Pending] = {}

    def ensure(
        self,
        request: I2VRequest,
        *,
        fingerprint: str,
        owner: Owner,
        scope: str = "",
        prices: Mapping[str, float] | None = None,
        max_cost: float | None = None,
        on_doubt: OnDoubt = "reconcile",
        before_pay: Callable[[LedgerEntry], None] | None = None,
        deadline: float | None = None,
    ) -> Submitted:
        """
        Return the clip of a fingerprint, and submit it where that was not done.

        The arguments are those of a ``Job``, and:

        :param on_doubt: ``reconcile``: settle a lost answer through the API's list; ``fail``: stop at once.
        :raises WanRefusedError: nothing was accepted; which one says why.
        :raises WanClipFailedError: it failed before, for good.
        :raises WanInDoubtError: it can't be told whether it was accepted, or not yet.
        :raises WanLookupError: it was submitted, and the API does not tell how it stands.
        :raises LedgerError: the ledger can't be used; nothing was paid by this call, unless it says so.
        """
        if on_doubt not in ("reconcile", "fail"):
            raise WanValidationError("on_doubt", on_doubt, "must be 'reconcile' or 'fail'")
        job = Job(request, fingerprint, owner, scope, prices, max_cost, before_pay, deadline)
        while isinstance(done := self.attempt(job, on_doubt), Later):
            self._wait(job, done)
        return done

    def attempt(self, job: Job, on_doubt: OnDoubt = "reconcile") -> Submitted | Later:
        """
        Go on until the clip is there, or nothing more can be done now. It never waits.

        What is held between two calls (the claim that a 429 left, the first of two looks into the list) is held
        by this object; another process begins where the ledger says.

        :param job: the same at each call for a clip, but for what may change: its budget, its URLs' signatures.
        :return: the clip; or ``Later``: call it again after its ``wait``. Errors as :meth:`ensure`.
        """
        done: Submitted | Later | None = None
        while done is None:
            pending = self._pending.pop(job.fingerprint, None)
            if pending is not None and self._clock() < pending.until:
                self._pending[job.fingerprint] = pending
                return Later(Why.REFUSED, pending.until - self._clock(), pending.current.entry)
            if pending is not None:
                done = self._again(job, pending)
            else:
                done = self._step(job, self.store.read(job.fingerprint), on_doubt)
        if isinstance(done, Submitted):
            self._seen.pop(job.fingerprint, None)
            self._looked.pop(job.fingerprint, None)
        return done

    def _wait(self, job: Job, later: Later) -> None:
        """Wait, and show meanwhile that a claim of ours is alive."""
        pending = self._pending.get(job.fingerprint)
        if pending is None:
            self._sleep(later.wait)
            return
        while (left := pending.until - self._clock()) > 0:
            self._sleep(min(left, self._policy.lease / 3))
            if pending.until - self._clock() > 0:
                try:
                    pending.current = self._replace(
                        pending.current, entries.renew(pending.current.entry, self._clock())
                    )
                except ConflictError:
                    del self._pending[job.fingerprint]
                    return

    def _step(self, job: Job, held: Versioned | None, on_doubt: OnDoubt) -> Submitted | Later | None:
        """Do what is next; None: look at the ledger again."""
        if held is None:
            return self._pay(job, None, keep_seed=False)
        now = self._clock()
        unchanged = now - since(self._seen, held, now)
        match decide(Situation(held.entry, job.owner, now, unchanged, self._policy)):
            case Decision.ARCHIVED:
                return Submitted(held.entry, None, False)
            case Decision.FINISHED | Decision.RUNNING:
                return self._attach(held)
            case Decision.FAILED_PERMANENT:
                raise WanClipFailedError(failed_text(held.entry), permanent=True)
            case Decision.CLAIMED_BY_OTHER:
                return self._follow(job, held)
            case Decision.CLAIM_UNSENT:
                return self._take_over(job, held)
            case Decision.CLAIM_STALE | Decision.IN_DOUBT:
                return self._settle(job, held, on_doubt)
            case _:
                return self._pay(job, held, keep_seed=False)

    def _attach(self, held: Versioned) -> Submitted | None:
        """Go on with a request that was accepted before; None where it is over without a clip."""
        entry = held.entry
        request_id = entry.request_id or ""
        try:
            record = self._api.get_request(request_id)
        except WanNotFoundError as error:
            if entry.state is EntryState.SUCCEEDED:
                return Submitted(entry, None, False)
            raise WanInDoubtError(
                f"Request {request_id} was accepted for clip {entry.fingerprint}, and the API no longer knows it "
                f"({error}). Nothing was submitted anew. Check that the connection is that of the same account "
                "and service; if the request is gone for good, force_new makes the clip again, for its price."
            ) from error
        if entry.state is EntryState.SUCCEEDED:
            return Submitted(entry, record, False)
        entry = self.finish(entry.fingerprint, record) or entry
        if entry.state in (EntryState.SUBMITTED, EntryState.SUCCEEDED, EntryState.ARCHIVED):
            return Submitted(entry, record, False)
        return None

    def _follow(self, job: Job, held: Versioned) -> Later:
        """Leave it to the task that is about to pay."""
        now = self._clock()
        if job.deadline is not None and now >= job.deadline:
            raise LedgerBusyError(
                f"Clip {job.fingerprint} is claimed by {held.entry.owner}, which has not submitted it yet "
                f"(since {now - held.entry.claimed_at:.0f} s). Nothing was paid here; a retry looks again."
            )
        interval = self._policy.follow_interval
        wait = interval if job.deadline is None else min(interval, job.deadline - now)
        return Later(Why.CLAIMED, wait, held.entry)

    def _take_over(self, job: Job, held: Versioned) -> Submitted | Later | None:
        """Take over a claim under which nothing was sent: the store's condition keeps its owner from sending."""
        shown = look(self._api, self.store, held.entry, job.request, self._policy)
        if shown.finding is Finding.FOUND:
            return self._adopt(held, shown)
        return self._pay(job, held, keep_seed=True)

    def _settle(self, job: Job, held: Versioned, on_doubt: OnDoubt) -> Submitted | Later | None:
        """Find out whether a POST was accepted; None: look at the ledger again."""
        entry = held.entry
        if on_doubt == "fail":
            raise WanInDoubtError(doubt_text(entry, "on_doubt='fail' leaves that to a person", self.store))
        shown = look(self._api, self.store, entry, job.request, self._policy)
        if shown.finding is Finding.FOUND:
            return self._adopt(held, shown)
        if shown.finding is Finding.UNTOLD:
            self._looked.pop(job.fingerprint, None)
            raise WanInDoubtError(doubt_text(entry, shown.reason, self.store))
        now = self._clock()
        wait = since(self._looked, held, now) + self._policy.settle - now
        if wait <= 0:
            log.info("Clip %s: the API's list proves twice that nothing was accepted; submitting.", job.fingerprint)
            return self._pay(job, held, keep_seed=True)
        if job.deadline is not None and now + wait > job.deadline:
            raise WanInDoubtError(
                doubt_text(
                    entry, f"the list does not show it; a second look in {wait:.0f} s would prove that", self.store
                )
            )
        log.info("Clip %s: not in the API's list; looking again in %.0f s before submitting.", job.fingerprint, wait)
        return Later(Why.DOUBT, wait, entry)

    def _adopt(self, held: Versioned, shown: Look) -> Submitted | None:
        """Note the request that was found."""
        record = shown.record
        if record is None:
            return None
        entry = entries.submitted(held.entry, record.request_id, record.created_at or self._clock())
        for stray in shown.strays:
            entry = entries.strayed(entry, stray.request_id, held.entry.seed, self._clock())
        try:
            noted = self._replace(held, entry)
        except ConflictError:
            return None
        log.info("Clip %s: found request %s in the API's list, goes on with it.", entry.fingerprint, record.request_id)
        return self._attach(noted)

    def _pay(self, job: Job, held: Versioned | None, *, keep_seed: bool) -> Submitted | Later | None:
        """Claim, submit once, note the id; None: somebody else was faster, look at the ledger again."""
        fresh, request = self._claim(job, held.entry if held else None, keep_seed)
        if job.before_pay is not None:
            job.before_pay(fresh)
        if not self._probed:
            self.store.probe()
            self._probed = True
        try:
            version = self.store.replace(fresh, held.version) if held else self.store.create(fresh)
            tell(held.entry if held else None, fresh)
            return self._post(job, Versioned(fresh, version), request, 0)
        except (AlreadyExistsError, ConflictError):
            return None

    def _again(self, job: Job, pending: Pending) -> Submitted | Later | None:
        """Submit under the claim that a refusal left; None: look at the ledger, where it is no longer that."""
        request = job.request.with_seed(pending.current.entry.seed)
        if payload_sha256(request.to_payload()) != pending.current.entry.payload_sha256:
            return None
        checked_cost(request, job.prices, job.max_cost)
        try:
            return self._post(job, pending.current, request, pending.tries)
        except ConflictError:
            return None

    def _post(self, job: Job, current: Versioned, request: I2VRequest, tries: int) -> Submitted | Later | None:
        """Send the paid POST under a claim, and note what came of it. Nothing else sends it."""
        current = self._about_to_post(current)
        try:
            record = self._api.submit(request)
        except WanError as error:
            verdict = judge(error)
            if verdict is AfterPost.DOUBT:
                log.warning("Clip %s: %s", job.fingerprint, error)
                self._replace(current, entries.in_doubt(current.entry, str(error), self._clock()))
                return None
            if verdict is AfterPost.REFUSED:
                self._refused(current, error)
            return self._put_off(job, current, error, tries)
        return self._note(current, record)

    def _claim(self, job: Job, before: LedgerEntry | None, keep_seed: bool) -> tuple[LedgerEntry, I2VRequest]:
        drawn = job.request.seed is None
        seed = job.request.seed
        if seed is None:
            # A request that turns up late after all is then known again.
            seed = before.seed if before and keep_seed and before.seed_drawn else self._rng.randrange(MAX_SEED + 1)
        request = job.request.with_seed(seed)
        fresh = entries.claim(
            fingerprint=job.fingerprint,
            owner=job.owner,
            scope=job.scope,
            now=self._clock(),
            model=request.model,
            resolution=str(request.resolution),
            duration=request.duration,
            seed=seed,
            seed_drawn=drawn,
            payload_sha256=payload_sha256(request.to_payload()),
            cost_estimate=checked_cost(request, job.prices, job.max_cost),
        )
        return (entries.reclaim(before, fresh) if before else fresh), request

    def _replace(self, current: Versioned, entry: LedgerEntry) -> Versioned:
        version = self.store.replace(entry, current.version)
        tell(current.entry, entry)
        return Versioned(entry, version)

    def _about_to_post(self, current: Versioned) -> Versioned:
        """
        Say that the POST leaves now. Others count the time for their proof from here on, so where the
        ledger took long to answer, it is said again: whoever took the claim over meanwhile then stops us.
        """
        for _ in range(self._policy.post_tries):
            said = self._clock()
            current = self._replace(current, entries.posting(current.entry, said))
            if self._clock() - said <= self._policy.post_within:
                return current
        self._replace(current, entries.unsent(current.entry, self._clock()))
        raise LedgerUnavailableError(
            f"The ledger takes over {self._policy.post_within:.0f} s to answer, which is too long to pay safely. "
            "Nothing was paid."
        )

    def _refused(self, current: Versioned, error: WanError) -> NoReturn:
        self._replace(current, entries.refused(current.entry, str(error), self._clock()))
        raise error

    def _put_off(self, job: Job, current: Versioned, error: WanError, tries: int) -> Later:
        """Keep the claim after a refusal that passes."""
        wait = getattr(error, "retry_after", None)
        if wait is None:
            longest = min(self._policy.backoff_limit, self._policy.backoff * 2 ** min(tries, 16))
            wait = longest * self._rng.uniform(0.5, 1.0)
        until = self._clock() + max(float(wait), 1.0)
        given_up = isinstance(error, WanConnectError) and tries + 1 >= self._policy.connect_tries
        if given_up or (job.deadline is not None and until > job.deadline):
            self._refused(current, error)
        log.info("Clip %s: %s; submitting again in %.0f s.", job.fingerprint, error, wait)
        current = self._replace(current, entries.unsent(current.entry, self._clock()))
        self._pending[job.fingerprint] = Pending(current, tries + 1, until)
        return Later(Why.REFUSED, max(0.0, until - self._clock()), current.entry, error)

    def _note(self, current: Versioned, record: RequestRecord) -> Submitted | None:
        """Note the id of the request that was just paid for, whatever it takes."""
        entry = entries.submitted(current.entry, record.request_id, self._clock())
        for attempt in range(1, self._policy.record_tries + 1):
            try:
                self._replace(current, entry)
                return Submitted(entry, record, True)
            except ConflictError:
                return self._overtaken(entry, record)
            except WanError as error:
                log.error(
                    "Clip %s is paid for as request %s, and the ledger can't note it (try %d of %d): %s",
                    entry.fingerprint,
                    record.request_id,
                    attempt,
                    self._policy.record_tries,
                    error,
                )
                if attempt == self._policy.record_tries:
                    raise
                self._sleep(2.0 ** (attempt - 1))
        return None

    def _overtaken(self, entry: LedgerEntry, record: RequestRecord) -> Submitted | None:
        """Our claim was taken over while our POST was under way, and the POST was accepted."""
        held = self.accepted_late(entry, record.request_id)
        if held is not None and held.request_id == record.request_id:
            return Submitted(held, record, True)
        taken = self._api.cancel(record.request_id)
        log.error(
            "Clip %s: request %s was accepted after another task had taken the claim over; it is in the ledger's "
            "history as a stray, and its cancellation was %s.",
            entry.fingerprint,
            record.request_id,
            "asked for" if taken else "refused",
        )
        return None
