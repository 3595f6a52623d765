# SPDX-License-Identifier: Apache-2.0
"""Compare-and-set updates of entries: outcome, archive, a person's decision. Nothing here spends money."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from airflow_provider_wan import metrics
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.api.redaction import clean_text
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner, TaskReference
from airflow_provider_wan.ledger.errors import ConflictError, LedgerError, LedgerUnavailableError
from airflow_provider_wan.ledger.failures import is_permanent
from airflow_provider_wan.ledger.stores.base import LedgerStore, StoredEntry

log = logging.getLogger(__name__)

_MAX_CONFLICTS = 20

#: Says whether a clip is certainly not at an address: takes the URI, the request and the SHA-256 of the file.
IsMissing = Callable[[str | None, str, str | None], bool]


class Ledger:
    """
    Updates entries while others may update them at the same time.

    :param store: where the entries are stored.
    :param clock: returns Unix seconds.
    :param late_scan: scans for a second request of a clip, if that is due; see
        :meth:`~airflow_provider_wan.ledger.submitter.Submitter.scan_for_duplicates`.
    :param log_level: level at which transitions are logged.
    """

    def __init__(
        self,
        store: LedgerStore,
        clock: Callable[[], float] = time.time,
        late_scan: Callable[[str], LedgerEntry | None] | None = None,
        log_level: int = logging.INFO,
    ) -> None:
        self.store = store
        self._clock = clock
        self._late_scan = late_scan
        self._log_level = log_level

    def create(self, entry: LedgerEntry) -> StoredEntry:
        """
        Store a first entry.

        :param entry: the entry.
        :raises AlreadyExistsError: if there is one already.
        """
        version = self.store.create(entry)
        record_transition(None, entry, self._log_level)
        return StoredEntry(entry, version)

    def replace(self, stored: StoredEntry, entry: LedgerEntry) -> StoredEntry:
        """
        Replace an entry, if it is still the one that was read.

        :param stored: the entry as it was read.
        :param entry: the new entry.
        :raises ConflictError: if it has changed since.
        """
        version = self.store.replace(entry, stored.version)
        record_transition(stored.entry, entry, self._log_level)
        return StoredEntry(entry, version)

    def update(self, fingerprint: str, change: Callable[[LedgerEntry], LedgerEntry | None]) -> LedgerEntry | None:
        """
        Apply a change to an entry in its present state.

        :param fingerprint: key of the entry.
        :param change: returns the new entry, or None to leave it; called again after a conflict.
        :returns: the entry as it is then; None if there is none.
        :raises LedgerUnavailableError: if others change it all the time.
        """
        for _ in range(_MAX_CONFLICTS):
            stored = self.store.read(fingerprint)
            if stored is None:
                return None
            changed = change(stored.entry)
            if changed is None or changed == stored.entry:
                return stored.entry
            try:
                return self.replace(stored, changed).entry
            except ConflictError:
                continue
        raise LedgerUnavailableError(
            f"Ledger entry {fingerprint} changed {_MAX_CONFLICTS} times while it was being written"
        )

    def record_result(self, fingerprint: str, record: RequestRecord) -> LedgerEntry | None:
        """
        Record how a request ended. Safe to repeat.

        Nothing changes if the record is not terminal, or is not that of the entry's current request.

        :param fingerprint: key of the entry.
        :param record: the request as the API returns it.
        :returns: the entry as it is then; None if there is none.
        """
        now = self._clock()

        def change(entry: LedgerEntry) -> LedgerEntry | None:
            if entry.state is not EntryState.SUBMITTED or entry.request_id != record.request_id:
                return None
            if record.status is RequestStatus.SUCCESS:
                return entries.succeeded(entry, now)
            if record.status is RequestStatus.CANCELLED:
                return entries.cancelled(entry, now)
            if record.status is RequestStatus.FAILED:
                earlier = [past.error for past in entry.history if past.ended is entries.PastEnd.FAILED]
                return entries.failed(entry, record.error, is_permanent(record.error, earlier), now)
            return None

        entry = self.update(fingerprint, change)
        if entry is not None and entry.outcome is not None and entry.outcome.finished_at == now and record.updated_at:
            metrics.record_seconds("wan.lag", max(0.0, now - record.updated_at))
        return self._scan_late(entry)

    def _scan_late(self, entry: LedgerEntry | None) -> LedgerEntry | None:
        if entry is None or not entry.duplicate_scan_due or self._late_scan is None:
            return entry
        return self._late_scan(entry.fingerprint) or entry

    def record_archive(
        self, fingerprint: str, request_id: str, uri: str, sha256: str, *, is_missing: IsMissing | None = None
    ) -> LedgerEntry | None:
        """
        Record where the clip of a request was archived. Safe to repeat.

        An address that the entry has already stays, unless the clip is certainly no longer there.

        :param fingerprint: key of the entry.
        :param request_id: the request that made the clip.
        :param uri: where it is archived.
        :param sha256: SHA-256 of the archived file.
        :param is_missing: says whether the clip is certainly not at an address; None: the entry's address stays.
        :returns: the entry as it is then; None if there is none.
        """
        now = self._clock()

        def change(entry: LedgerEntry) -> LedgerEntry | None:
            if entry.request_id != request_id:
                return None
            if entry.state is EntryState.SUBMITTED:
                entry = entries.succeeded(entry, now)
            if entry.state is EntryState.SUCCEEDED:
                return entries.archived(entry, uri, sha256)
            if entry.state is not EntryState.ARCHIVED or (entry.archive_uri, entry.archive_sha256) == (uri, sha256):
                return None
            # A clip that was just archived at the same address has replaced what was there.
            if entry.archive_uri != uri and not (
                is_missing is not None and is_missing(entry.archive_uri, request_id, entry.archive_sha256)
            ):
                return None
            log.warning(
                "Clip %s is no longer at %s; the ledger names %s from now on", fingerprint, entry.archive_uri, uri
            )
            return entries.relocated(entry, uri, sha256)

        return self._scan_late(self.update(fingerprint, change))

    def record_reuse(self, entry: LedgerEntry, owner: Owner, reference: TaskReference) -> None:
        """
        Record, as well as possible, that a task was given a clip that another one has paid for.

        :param entry: the clip's entry.
        :param owner: the task that was given it.
        :param reference: where in Airflow that is.
        """

        def is_new(entry: LedgerEntry) -> bool:
            known = {Owner.parse_task(entry.owner), *(each.task for each in entry.reuses)}
            return clean_text(owner.task) not in known

        if not is_new(entry):
            return
        now = self._clock()
        try:
            self.update(
                entry.fingerprint,
                lambda entry: entries.reused(entry, owner.task, reference, now) if is_new(entry) else None,
            )
        except LedgerError as error:
            log.warning("Clip %s is reused, and the ledger can't record that: %s", entry.fingerprint, error)

    def record_late_acceptance(self, claim: LedgerEntry, request_id: str) -> LedgerEntry | None:
        """
        Record a request that was accepted after its claim was taken over: as the clip's, or as a duplicate charge.

        :param claim: the claim under which it was sent.
        :param request_id: the API's id.
        :returns: the entry as it is then; None if there is none.
        """
        now = self._clock()

        def change(entry: LedgerEntry) -> LedgerEntry | None:
            if entry.is_own_request(request_id):
                return None
            ours = entry.owner == claim.owner or entry.intent_at is None
            if entry.state is EntryState.IN_DOUBT or (entry.state is EntryState.CLAIMED and ours):
                return entries.submitted(entry, request_id, now)
            return entries.record_duplicate(entry, request_id, claim.seed, now)

        return self.update(claim.fingerprint, change)

    def record_duplicates(self, fingerprint: str, request_ids: Sequence[str], *, is_over: bool) -> LedgerEntry | None:
        """
        Record the result of the late scan for a second request: duplicate charges, or none.

        :param fingerprint: key of the entry.
        :param request_ids: requests that were accepted beside the one that is waited for.
        :param is_over: whether no other one can appear any more; if not, the list has to be scanned once more.
        :returns: the entry as it is then; None if there is none.
        """
        now = self._clock()

        def change(entry: LedgerEntry) -> LedgerEntry:
            for request_id in request_ids:
                entry = entries.record_duplicate(entry, request_id, entry.seed, now)
            return entries.duplicates_scanned(entry) if is_over else entry

        return self.update(fingerprint, change)


def record_transition(before: LedgerEntry | None, after: LedgerEntry, level: int = logging.INFO) -> None:
    """
    Log and count a transition that was just written, if the state or the request has changed.

    This is the only place that does: each transition is counted once, when it is written.

    :param before: the entry before; None for a new entry.
    :param after: the entry as written.
    :param level: level at which it is logged.
    """
    known = before.duplicates if before is not None else ()
    for duplicate in after.duplicates:
        if duplicate not in known:
            metrics.increment("wan.clips.duplicate")
            log.error(
                "Clip %s is paid for twice: request %s was accepted beside %s. It is in the entry's history as a "
                "duplicate charge.",
                after.fingerprint,
                duplicate.request_id,
                after.request_id,
            )
    if before is not None and (before.state, before.request_id) == (after.state, after.request_id):
        return
    request = f", request {after.request_id}" if after.request_id else ""
    log.log(level, "Clip %s is %s%s", after.fingerprint, after.state.value, request)
    metrics.increment(f"wan.clips.{after.state.value}")
    if after.state is EntryState.SUCCEEDED and after.cost is not None:
        metrics.increment("wan.cost_cents", round(after.cost * 100))
