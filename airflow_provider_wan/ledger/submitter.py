# SPDX-License-Identifier: Apache-2.0
"""
The one place where money is spent.

:meth:`Submitter.submit_once` claims a clip in the ledger, submits it once, and records its request id; or finds that
one of these was done before, by any process, and continues from there. What it does with each entry and each response
is defined in :mod:`airflow_provider_wan.ledger.rules`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NoReturn, Protocol

from airflow_provider_wan.api.config import Account
from airflow_provider_wan.api.errors import (
    WanClipFailedError,
    WanConnectError,
    WanError,
    WanInDoubtError,
    WanNotFoundError,
    WanValidationError,
)
from airflow_provider_wan.api.pricing import Prices, estimate_cost_within_budget, find_price
from airflow_provider_wan.api.record import RequestRecord, RequestStatus, normalize_id
from airflow_provider_wan.api.request import MAX_SEED, WanRequest
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import NO_REFERENCE, EntryState, LedgerEntry, Owner, TaskReference
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerAccountError,
    LedgerBusyError,
    LedgerRecordError,
    LedgerUnavailableError,
)
from airflow_provider_wan.ledger.fingerprint import hash_payload
from airflow_provider_wan.ledger.ledger import Ledger
from airflow_provider_wan.ledger.messages import in_doubt_message, permanent_failure_message
from airflow_provider_wan.ledger.reconcile import (
    Finding,
    OtherEntries,
    ReconcileResult,
    RequestReader,
    find_acceptance_time,
    find_duplicates,
    is_request_of_another,
    reconcile_entry,
)
from airflow_provider_wan.ledger.rules import (
    Decision,
    DecisionInput,
    Policy,
    SubmitOutcome,
    classify_response,
    decide,
)
from airflow_provider_wan.ledger.stores.base import LedgerStore, StoredEntry

log = logging.getLogger(__name__)

OnDoubt = Literal["reconcile", "fail"]

# A POST that begins just before the deadline gets this much time, in seconds: cut off earlier, it would be in doubt.
_DEADLINE_GRACE = 3.0
_MAX_CONFLICTS = 10
# Number of the newest requests with which a response is compared: a batch may have a million rows.
_MAX_ACCEPTED = 10_000


class PreparedPost(Protocol):
    """The paid POST, whose connection is open."""

    def send(self, timeout: float) -> RequestRecord:
        """Send it, once."""

    def close(self) -> None:
        """Close the connection."""


class SubmitApi(RequestReader, Protocol):
    """The part of :class:`~airflow_provider_wan.api.client.WanClient` that is used here."""

    @property
    def account(self) -> Account:
        """Who pays."""

    def prepare_submission(self, request: WanRequest) -> PreparedPost:
        """Connect for the paid POST, without sending it."""

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation."""


@dataclass(frozen=True)
class SubmitRequest:
    """
    What is to be submitted, and by whom.

    :param request: the payload; with a seed only if the user gave one.
    :param fingerprint: key of the clip in the ledger.
    :param owner: this process.
    :param scope: recorded in the entry.
    :param prices: US dollars per second of video, by resolution.
    :param max_cost: US dollars; more than that is not spent.
    :param before_pay: called with the claim before anything is written or sent; if it raises, nothing is paid.
    :param reserve: called with the claim after it is written and before anything is sent; if it raises, the claim is
        given up and nothing is paid.
    :param deadline: Unix seconds until which it may wait (for a 429 or 503 to pass, for another task's claim, for the
        second scan of a proof of absence); None for no limit.
    :param reference: where in Airflow the clip was asked for, and its image; recorded for people.
    """

    request: WanRequest
    fingerprint: str
    owner: Owner
    scope: str = ""
    prices: Prices | None = None
    max_cost: float | None = None
    before_pay: Callable[[LedgerEntry], None] | None = None
    deadline: float | None = None
    reserve: Callable[[LedgerEntry], None] | None = None
    reference: TaskReference = NO_REFERENCE


@dataclass(frozen=True)
class SubmitResult:
    """
    A clip that is paid for.

    :param entry: the ledger's entry: ``submitted``, ``succeeded`` or ``archived``.
    :param record: the request as the API just returned it; None if the API was not asked (archived) or no longer
        knows the request.
    :param paid_now: whether a submission of this very call returned the request id. A submission whose response was
        lost, and which was then found in the list, does not count.
    """

    entry: LedgerEntry
    record: RequestRecord | None
    paid_now: bool


class WaitReason(StrEnum):
    """Why a clip can't be submitted now."""

    REFUSED = "refused for now"
    CLAIMED = "claimed by another task"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True)
class RetryLater:
    """
    Nothing more can be done now: try again after a delay.

    :param reason: ``REFUSED``: a 429, a 503 or no connection, so nothing was accepted. ``CLAIMED``: another task is
        about to pay. ``IN_DOUBT``: a response was lost, the API's list does not show the request, and a second scan
        will prove that it was not accepted.
    :param delay: seconds.
    :param entry: the ledger's entry.
    :param error: the API's error, for ``REFUSED``.
    """

    reason: WaitReason
    delay: float
    entry: LedgerEntry
    error: WanError | None = None


@dataclass
class RefusedClaim:
    """
    A claim of this process whose submission the API has refused for now.

    :param stored: the claim as this process wrote it.
    :param tries: number of refusals.
    :param retry_at: time of the next try by the monotonic clock.
    """

    stored: StoredEntry
    tries: int
    retry_at: float


class Submitter:
    """
    Submits each clip exactly once.

    :param api: a client or hook.
    :param store: the ledger's store.
    :param clock: returns Unix seconds.
    :param monotonic: returns seconds that never jump, however the wall clock is set.
    :param sleep: waits for seconds.
    :param rng: draws seeds and jitter; seeds must not repeat, so the default is the system's.
    :param policy: times and limits.
    :param log_level: level of messages about the progress of a clip, which name it by its fingerprint.
    """

    def __init__(
        self,
        api: SubmitApi,
        store: LedgerStore,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        policy: Policy | None = None,
        log_level: int = logging.INFO,
    ) -> None:
        self.ledger = Ledger(store, clock, self.scan_for_duplicates, log_level)
        self._log_level = log_level
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._api = api
        self._sleep = sleep
        self._rng = rng or random.SystemRandom()
        self._policy = policy or Policy()
        self._probed = False
        # By fingerprint: the version that this process saw, has in doubt, or did not find in the list, and since when.
        self._seen: dict[str, tuple[str, float]] = {}
        self._doubted: dict[str, tuple[str, float]] = {}
        self._absent: dict[str, tuple[str, float]] = {}
        self._refused: dict[str, RefusedClaim] = {}
        # By request id: hash of the payload for which this process got it; of the newest requests.
        self._accepted: dict[str, str] = {}

    def submit_once(
        self,
        request: WanRequest,
        *,
        fingerprint: str,
        owner: Owner,
        scope: str = "",
        prices: Prices | None = None,
        max_cost: float | None = None,
        on_doubt: OnDoubt = "reconcile",
        before_pay: Callable[[LedgerEntry], None] | None = None,
        deadline: float | None = None,
        reference: TaskReference = NO_REFERENCE,
    ) -> SubmitResult:
        """
        Return the clip of a fingerprint, and submit it if that was not done yet. Waits as needed.

        The other arguments are those of :class:`SubmitRequest`.

        :param on_doubt: ``reconcile``: find a submission whose response was lost in the API's list; ``fail``: stop.
        :raises WanRefusedError: if nothing was accepted; its class says why.
        :raises WanClipFailedError: if the clip failed permanently before.
        :raises WanInDoubtError: if it is not known, or not yet, whether a submission was accepted.
        :raises WanLookupError: if it was submitted and the API does not return its state.
        :raises LedgerError: if the ledger can't be used; nothing was paid by this call, unless it says so.
        """
        if on_doubt not in ("reconcile", "fail"):
            raise WanValidationError("on_doubt", on_doubt, "must be 'reconcile' or 'fail'")
        submission = SubmitRequest(
            request, fingerprint, owner, scope, prices, max_cost, before_pay, deadline, reference=reference
        )
        while isinstance(result := self.try_submit(submission, on_doubt), RetryLater):
            self._wait(submission, result)
        return result

    def try_submit(self, submission: SubmitRequest, on_doubt: OnDoubt = "reconcile") -> SubmitResult | RetryLater:
        """
        Proceed until the clip is submitted, or nothing more can be done now. Never waits.

        The state between two calls (the claim that a 429 left, the first of two scans of the list) is kept in this
        object; another process starts from what the ledger says.

        :param submission: the same in each call for a clip, except for its budget and its URLs' signatures.
        :param on_doubt: as for :meth:`submit_once`.
        :returns: the clip; or ``RetryLater``: call again after its delay. Errors as :meth:`submit_once`.
        """
        result: SubmitResult | RetryLater | None = None
        for _ in range(_MAX_CONFLICTS):
            refused = self._refused.pop(submission.fingerprint, None)
            if refused is not None and self._monotonic() < refused.retry_at:
                self._refused[submission.fingerprint] = refused
                return RetryLater(WaitReason.REFUSED, refused.retry_at - self._monotonic(), refused.stored.entry)
            if refused is not None:
                result = self._retry_claim(submission, refused)
            else:
                result = self._step(submission, self._store.read(submission.fingerprint), on_doubt)
            if result is not None:
                break
        if result is None:
            raise LedgerUnavailableError(
                f"Clip {submission.fingerprint} changed {_MAX_CONFLICTS} times while it was claimed. Nothing was paid "
                "by this call; a retry checks again."
            )
        if isinstance(result, SubmitResult):
            for memory in (self._seen, self._doubted, self._absent):
                memory.pop(submission.fingerprint, None)
        return result

    def _wait(self, submission: SubmitRequest, later: RetryLater) -> None:
        """Wait, and renew a claim of ours meanwhile."""
        refused = self._refused.get(submission.fingerprint)
        if refused is None:
            self._sleep(later.delay)
            return
        while (remaining := refused.retry_at - self._monotonic()) > 0:
            self._sleep(min(remaining, self._policy.lease / 3))
            if refused.retry_at - self._monotonic() > 0:
                try:
                    refused.stored = self._replace(refused.stored, entries.renew(refused.stored.entry, self._clock()))
                except ConflictError:
                    del self._refused[submission.fingerprint]
                    return

    # Each of the following returns None if the entry has changed and the ledger must be read again.

    def _step(
        self, submission: SubmitRequest, stored: StoredEntry | None, on_doubt: OnDoubt
    ) -> SubmitResult | RetryLater | None:
        """Do what the rules say for the entry."""
        if stored is None:
            return self._claim_and_post(submission, None, keep_seed=False)
        check_account(stored.entry, self._api.account)
        now, monotonic = self._clock(), self._monotonic()
        unchanged = monotonic - _first_seen_at(self._seen, stored, monotonic)
        match decide(DecisionInput(stored.entry, submission.owner, now, unchanged, self._policy)):
            case Decision.ARCHIVED:
                entry = stored.entry
                if entry.duplicate_scan_due:
                    entry = self.scan_for_duplicates(entry.fingerprint) or entry
                return SubmitResult(entry, None, False)
            case Decision.FINISHED | Decision.RUNNING:
                return self._attach(stored)
            case Decision.FAILED_PERMANENT:
                raise WanClipFailedError(permanent_failure_message(stored.entry), permanent=True)
            case Decision.CLAIMED_BY_OTHER:
                return self._wait_for_owner(submission, stored)
            case Decision.CLAIM_UNSENT:
                return self._steal_expired_claim(submission, stored)
            case Decision.CLAIM_STALE | Decision.IN_DOUBT:
                return self._reconcile(submission, stored, on_doubt)
            case _:
                return self._claim_and_post(submission, stored, keep_seed=False)

    def _attach(self, stored: StoredEntry, listed: RequestRecord | None = None) -> SubmitResult | None:
        """
        Continue with a request that was accepted before; None if it ended without a clip.

        :param listed: the request as the list shows it, if it was just found there.
        """
        entry = stored.entry
        request_id = entry.request_id or ""
        try:
            record = self._api.get_request(request_id)
        except WanNotFoundError as error:
            if entry.state is EntryState.SUCCEEDED:
                return SubmitResult(entry, None, False)
            record = self._assume_running(entry, error, listed)
        except WanError as error:
            if entry.state is EntryState.SUCCEEDED:
                raise
            record = self._assume_running(entry, error, listed)
        if entry.duplicate_scan_due:
            entry = self.scan_for_duplicates(entry.fingerprint) or entry
        if entry.state is EntryState.SUCCEEDED:
            return SubmitResult(entry, record, False)
        entry = self.ledger.record_result(entry.fingerprint, record) or entry
        if entry.state in (EntryState.SUBMITTED, EntryState.SUCCEEDED, EntryState.ARCHIVED):
            return SubmitResult(entry, record, False)
        return None

    @staticmethod
    def _assume_running(entry: LedgerEntry, error: WanError, listed: RequestRecord | None) -> RequestRecord:
        """Return the record of a paid request that can't be read now, so that the task waits for it."""
        log.warning(
            "Clip %s: request %s was accepted, and can't be read now (%s); waiting for it.",
            entry.fingerprint,
            entry.request_id,
            error,
        )
        return listed or RequestRecord(
            entry.request_id or "", RequestStatus.UNKNOWN, "unknown", created_at=entry.submitted_at
        )

    def scan_for_duplicates(self, fingerprint: str) -> LedgerEntry | None:
        """
        Scan once more for a second request of a reconciled clip, if that is due and late enough.

        It never raises an error of the API or the ledger: what could not be found out stays due.

        :param fingerprint: key of the entry.
        :returns: the entry as it is then; None if there is none, or it can't be read.
        """
        try:
            stored = self._store.read(fingerprint)
            if stored is None or not stored.entry.duplicate_scan_due:
                return stored.entry if stored else None
            entry = stored.entry
            age = self._clock() - entry.last_sent_at
            if age < self._policy.absence_confirm_interval or entry.account != self._api.account.id:
                return entry
            duplicates = find_duplicates(self._api, self._store, entry, self._policy)
            if duplicates is None:
                return entry
            # Our clock may be ahead of the sender's: what is found counts at once, and what is not found only later.
            is_over = age >= self._policy.absence_confirm_interval + self._policy.clock_margin
            request_ids = [record.request_id for record in duplicates]
            return self.ledger.record_duplicates(fingerprint, request_ids, is_over=is_over)
        except WanError as error:
            log.warning("Clip %s: can't scan for a second request now: %s", fingerprint, error)
            return None

    def _wait_for_owner(self, submission: SubmitRequest, stored: StoredEntry) -> RetryLater:
        """Wait for the task that is about to pay."""
        now = self._clock()
        if submission.deadline is not None and now >= submission.deadline:
            raise LedgerBusyError(
                f"Clip {submission.fingerprint} is claimed by {stored.entry.owner}, which has not submitted it yet "
                f"(for {now - stored.entry.claimed_at:.0f} s). Nothing was paid here; a retry checks again."
            )
        interval = self._policy.claim_poll_interval
        delay = interval if submission.deadline is None else min(interval, submission.deadline - now)
        return RetryLater(WaitReason.CLAIMED, delay, stored.entry)

    def _steal_expired_claim(self, submission: SubmitRequest, stored: StoredEntry) -> SubmitResult | RetryLater | None:
        """Take over a claim under which nothing was sent; the conditional write keeps its owner from sending."""
        if stored.entry.posts:
            result = self._scan(submission, stored.entry)
            if result.record is not None:
                return self._adopt(stored, result.record, result.duplicates)
        return self._claim_and_post(submission, stored, keep_seed=True)

    def _scan(self, submission: SubmitRequest, entry: LedgerEntry) -> ReconcileResult:
        return reconcile_entry(self._api, self._store, entry, submission.request, self._policy, self._clock())

    def _reconcile(
        self, submission: SubmitRequest, stored: StoredEntry, on_doubt: OnDoubt
    ) -> SubmitResult | RetryLater | None:
        """
        Find out whether a POST was accepted.

        Both scans that prove an absence are made by one process: no clock of another one measures the time between
        them, and the claim that follows is a conditional write on the version that was read before the first.
        """
        entry, fingerprint, policy = stored.entry, submission.fingerprint, self._policy
        if on_doubt == "fail":
            raise WanInDoubtError(in_doubt_message(entry, "on_doubt='fail' leaves it to a person", self._store))
        doubted_since = _first_seen_at(self._doubted, stored, self._monotonic())
        result = self._scan(submission, entry)
        if result.record is not None:
            return self._adopt(stored, result.record, result.duplicates)
        now = self._monotonic()
        if result.finding is Finding.ABSENT:
            remaining = _first_seen_at(self._absent, stored, now) + policy.absence_confirm_interval - now
            reason = f"the list does not show it; a second scan in {remaining:.0f} s would prove that"
        else:
            self._absent.pop(fingerprint, None)
            remaining = policy.doubt_poll_interval
            reason = result.reason
            if result.finding is Finding.INCONCLUSIVE or now - doubted_since > 2 * policy.absence_confirm_interval:
                raise WanInDoubtError(in_doubt_message(entry, reason, self._store))
        if remaining <= 0:
            log.log(self._log_level, "Clip %s: two scans prove that nothing was accepted; submitting.", fingerprint)
            return self._claim_and_post(submission, stored, keep_seed=True)
        if submission.deadline is not None and self._clock() + remaining > submission.deadline:
            raise WanInDoubtError(in_doubt_message(entry, reason, self._store))
        delay = min(remaining, policy.doubt_poll_interval)
        log.log(self._log_level, "Clip %s: %s; scanning again in %.0f s.", fingerprint, reason, delay)
        return RetryLater(WaitReason.IN_DOUBT, delay, entry)

    def _adopt(
        self, stored: StoredEntry, record: RequestRecord, duplicates: Sequence[RequestRecord]
    ) -> SubmitResult | None:
        """Record the request that was found."""
        accepted_at = find_acceptance_time(stored.entry, record, self._policy)
        entry = entries.submitted(stored.entry, record.request_id, accepted_at, found=True)
        for duplicate in duplicates:
            entry = entries.record_duplicate(entry, duplicate.request_id, stored.entry.seed, self._clock())
        try:
            adopted = self._replace(stored, entry)
        except ConflictError:
            return None
        log.log(
            self._log_level,
            "Clip %s: found request %s in the API's list; continuing with it.",
            entry.fingerprint,
            record.request_id,
        )
        return self._attach(adopted, record)

    def _claim_and_post(
        self, submission: SubmitRequest, stored: StoredEntry | None, *, keep_seed: bool
    ) -> SubmitResult | RetryLater | None:
        """Claim the clip, submit it once, and record the id."""
        if stored and stored.entry.is_repeat and submission.owner.attempt in stored.entry.repeats_after_absence:
            reason = "the list does not show it, and this attempt has submitted the clip again once already"
            raise WanInDoubtError(in_doubt_message(stored.entry, reason, self._store))
        claim, request = self._build_claim(submission, stored.entry if stored else None, keep_seed)
        if submission.before_pay is not None:
            submission.before_pay(claim)
        if not self._probed:
            self._store.probe()
            self._probed = True
        try:
            claimed = self._replace(stored, claim) if stored else self.ledger.create(claim)
            self._reserve(submission, claimed)
            return self._post(submission, claimed, request, 0)
        except (AlreadyExistsError, ConflictError):
            return None

    def _retry_claim(self, submission: SubmitRequest, refused: RefusedClaim) -> SubmitResult | RetryLater | None:
        """Submit under the claim that a refusal left."""
        request = submission.request.with_seed(refused.stored.entry.seed)
        if hash_payload(request.to_payload(), request.model) != refused.stored.entry.payload_sha256:
            return None
        estimate_cost_within_budget(request, submission.prices, submission.max_cost)
        try:
            self._reserve(submission, refused.stored)
            return self._post(submission, refused.stored, request, refused.tries)
        except ConflictError:
            return None

    def _reserve(self, submission: SubmitRequest, claimed: StoredEntry) -> None:
        """Reserve the cost. The claim keeps others from giving it back before the intent is recorded."""
        try:
            if submission.reserve is not None:
                submission.reserve(claimed.entry)
        except WanError as error:
            self._reject(claimed, error)

    def _post(
        self, submission: SubmitRequest, claimed: StoredEntry, request: WanRequest, tries: int
    ) -> SubmitResult | RetryLater | None:
        """Send the paid POST under a claim, and record what came of it. Nothing else sends it."""
        try:
            connection = self._api.prepare_submission(request)
        except WanConnectError as error:
            return self._back_off(submission, claimed, error, tries)
        except WanValidationError as error:
            # A setting of the connection, such as a CA bundle that is not there.
            self._reject(claimed, error)
        try:
            claimed, timeout = self._record_intent(claimed, submission.deadline)
            # From here to the first byte of the POST nothing may take time.
            sent_at = self._monotonic()
            try:
                record = connection.send(timeout)
            except WanError as error:
                return self._record_refusal(submission, claimed, error, tries)
        finally:
            connection.close()
        is_late = self._monotonic() - sent_at > self._policy.post_timeout
        if self._is_repeated(claimed.entry, record) or (is_late and self._is_adopted(claimed.entry, record)):
            doubt = WanInDoubtError(
                f"The submission was answered with request {record.request_id}, which is another one of the ledger. "
                "Whether this submission was accepted is not known."
            )
            return self._record_refusal(submission, claimed, doubt, tries)
        return self._record_accepted(claimed, record)

    def _is_repeated(self, entry: LedgerEntry, record: RequestRecord) -> bool:
        """Return whether the response to a POST names the request of another one, as when a gateway repeats it."""
        payload_sha256 = self._accepted.setdefault(normalize_id(record.request_id), entry.payload_sha256)
        if len(self._accepted) > _MAX_ACCEPTED:
            del self._accepted[next(iter(self._accepted))]
        return (
            payload_sha256 != entry.payload_sha256
            or entry.is_own_request(record.request_id)
            or is_request_of_another(self.ledger.store, entry, record, self._policy)
        )

    def _is_adopted(self, entry: LedgerEntry, record: RequestRecord) -> bool:
        """
        Return whether another entry has the request of a POST whose response comes late, or may have it.

        Another clip in doubt with the same payload and seed takes a request that nobody claims for so long, as that of
        a process that died. This process stood still meanwhile.
        """
        if entry.seed_drawn:
            return False
        since = entry.last_sent_at - 2 * self._policy.clock_margin
        try:
            return OtherEntries.read(self.ledger.store, entry, since).own(record)
        except LedgerUnavailableError:
            return True

    def _record_refusal(
        self, submission: SubmitRequest, claimed: StoredEntry, error: WanError, tries: int
    ) -> RetryLater | None:
        """Record that a POST was refused, or that it is in doubt."""
        outcome = classify_response(error)
        if outcome is SubmitOutcome.REJECTED:
            self._reject(claimed, error)
        if outcome is SubmitOutcome.WAIT:
            return self._back_off(submission, claimed, error, tries)
        log.warning("Clip %s: %s", submission.fingerprint, error)
        try:
            self._replace(claimed, entries.in_doubt(claimed.entry, str(error), self._clock()))
        except ConflictError:
            # Another process has reconciled the entry; a later scan shows whether this POST was accepted as well.
            self.ledger.update(submission.fingerprint, entries.require_duplicate_scan)
        except LedgerUnavailableError as unavailable:
            # The intent is in the ledger, which is all that the next attempt needs.
            raise WanInDoubtError(f"{error} The ledger can't record that now: {unavailable}") from error
        return None

    def _build_claim(
        self, submission: SubmitRequest, before: LedgerEntry | None, keep_seed: bool
    ) -> tuple[LedgerEntry, WanRequest]:
        drawn = submission.request.seed is None
        seed = submission.request.seed
        if seed is None:
            # With the same seed, a request that appears late after all is still identified as ours.
            seed = before.seed if before and keep_seed and before.seed_drawn else self._rng.randrange(MAX_SEED + 1)
        request = submission.request.with_seed(seed)
        claim = entries.claim(
            fingerprint=submission.fingerprint,
            owner=submission.owner,
            account=self._api.account,
            scope=submission.scope,
            now=self._clock(),
            model=request.model,
            resolution=str(request.resolution),
            duration=request.duration,
            seed=seed,
            seed_drawn=drawn,
            payload_sha256=hash_payload(request.to_payload(), request.model),
            price=find_price(request.model, request.resolution, submission.prices),
            reference=submission.reference,
            cost_estimate=estimate_cost_within_budget(request, submission.prices, submission.max_cost),
        )
        return (entries.reclaim(before, claim) if before else claim), request

    def _replace(self, stored: StoredEntry, entry: LedgerEntry) -> StoredEntry:
        return self.ledger.replace(stored, entry)

    def _record_intent(self, claimed: StoredEntry, deadline: float | None) -> tuple[StoredEntry, float]:
        """
        Record that the POST is about to be sent, and return its timeout.

        Other processes time their proof of absence from the moment at which the write may have taken effect. So its
        age counts from before the write, by the clock that shows more: the monotonic one stands still while a machine
        is suspended, and the wall clock may be set back. If the ledger was slow, the intent is recorded again; the
        write then fails if the claim was taken over meanwhile.
        """
        timeout = self._policy.post_timeout
        if deadline is not None:
            timeout = min(timeout, max(deadline - self._clock(), 0.0) + _DEADLINE_GRACE)
        for _ in range(self._policy.max_intent_tries):
            wall, monotonic = self._clock(), self._monotonic()
            claimed = self._replace(claimed, entries.record_intent(claimed.entry, wall))
            if max(self._clock() - wall, self._monotonic() - monotonic) <= self._policy.max_intent_age:
                return claimed, timeout
        self._replace(claimed, entries.clear_intent(claimed.entry, self._clock()))
        raise LedgerUnavailableError(
            f"The ledger takes longer than {self._policy.max_intent_age:.0f} s to answer, which is too long to pay "
            "safely. Nothing was paid."
        )

    def _reject(self, claimed: StoredEntry, error: WanError) -> NoReturn:
        self._replace(claimed, entries.rejected(claimed.entry, str(error), self._clock()))
        raise error

    def _back_off(self, submission: SubmitRequest, claimed: StoredEntry, error: WanError, tries: int) -> RetryLater:
        """Keep the claim after a transient refusal."""
        longest = min(self._policy.backoff_limit, self._policy.backoff * 2 ** min(tries, 16))
        # A hint only lengthens the growing wait: an API that always asks for a second gets no POST per second.
        delay = max(longest * self._rng.uniform(0.5, 1.0), getattr(error, "retry_after", None) or 0.0)
        delay = max(float(delay), 1.0)
        retry_at = self._monotonic() + delay
        exhausted = isinstance(error, WanConnectError) and tries + 1 >= self._policy.connect_tries
        if exhausted or (submission.deadline is not None and self._clock() + delay > submission.deadline):
            self._reject(claimed, error)
        log.log(self._log_level, "Clip %s: %s; submitting again in %.0f s.", submission.fingerprint, error, delay)
        claimed = self._replace(claimed, entries.clear_intent(claimed.entry, self._clock()))
        self._refused[submission.fingerprint] = RefusedClaim(claimed, tries + 1, retry_at)
        return RetryLater(WaitReason.REFUSED, max(0.0, retry_at - self._monotonic()), claimed.entry, error)

    def _record_accepted(self, claimed: StoredEntry, record: RequestRecord) -> SubmitResult | None:
        """Record the id of the request that was just paid for, retrying as long as it makes sense."""
        entry = entries.submitted(claimed.entry, record.request_id, self._clock())
        attempt = 1
        while True:
            try:
                self._replace(claimed, entry)
                return SubmitResult(entry, record, True)
            except ConflictError:
                return self._record_lost_claim(entry, record)
            except WanError as error:
                log.error(
                    "Clip %s is paid for as request %s, and the ledger can't record it (try %d of %d): %s",
                    entry.fingerprint,
                    record.request_id,
                    attempt,
                    self._policy.record_tries,
                    error,
                )
                if attempt >= self._policy.record_tries:
                    raise LedgerRecordError(
                        f"Clip {entry.fingerprint} is paid for as request {record.request_id}, and the ledger can't "
                        f"record it ({error}). The next attempt finds it in the API's list; or record it by "
                        f"`wan-provider reconcile {entry.fingerprint} --request-id {record.request_id}`."
                    ) from error
            self._sleep(2.0 ** (attempt - 1))
            attempt += 1

    def _record_lost_claim(self, entry: LedgerEntry, record: RequestRecord) -> SubmitResult | None:
        """Record a request that was accepted although our claim was taken over while its POST was in flight."""
        current = self.ledger.record_late_acceptance(entry, record.request_id)
        if current is not None and normalize_id(current.request_id or "") == normalize_id(record.request_id):
            return SubmitResult(current, record, True)
        cancelled = self._api.cancel(record.request_id)
        log.error(
            "Clip %s: request %s was accepted after another task had taken the claim over; it is in the entry's "
            "history as a duplicate charge, and its cancellation was %s.",
            entry.fingerprint,
            record.request_id,
            "requested" if cancelled else "refused",
        )
        return None


def check_account(entry: LedgerEntry, account: Account) -> None:
    """
    Refuse an entry of another account: its requests can't be seen with this connection.

    :param entry: the entry.
    :param account: the connection's account.
    :raises LedgerAccountError: if they differ.
    """
    if entry.account != account.id:
        raise LedgerAccountError(
            f"Clip {entry.fingerprint} was submitted on another account: {entry.account_name}. This connection reaches "
            f"{account.name}. Nothing was paid. Restore the connection's host and organization; to make the clip on "
            "this account as well, use another ledger_uri, or an idempotency_key."
        )


def _first_seen_at(memory: dict[str, tuple[str, float]], stored: StoredEntry, now: float) -> float:
    """Return since when this process knows this version of an entry, by its monotonic clock."""
    version, moment = memory.get(stored.entry.fingerprint, ("", now))
    if version != stored.version:
        memory[stored.entry.fingerprint] = (stored.version, moment := now)
    return moment
