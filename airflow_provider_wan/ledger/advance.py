# SPDX-License-Identifier: Apache-2.0
"""What happens to an entry after its submission: the outcome, the archive, a person's verdict. Spends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_wan import metrics
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry
from airflow_provider_wan.ledger.errors import ConflictError, LedgerUnavailableError
from airflow_provider_wan.ledger.failures import is_permanent
from airflow_provider_wan.ledger.store import LedgerStore
from airflow_provider_wan.ledger.telling import tell

_TRIES = 20


class Advance:
    """
    Advances entries, against whatever others do to them at the same time.

    :param store: the ledger.
    :param clock: gives Unix seconds.
    """

    def __init__(self, store: LedgerStore, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock = clock

    def advance(self, fingerprint: str, change: Callable[[LedgerEntry], LedgerEntry | None]) -> LedgerEntry | None:
        """
        Change an entry as it is at that moment.

        :param change: returns what it becomes, or None to leave it; called anew where somebody was faster.
        :return: the entry as it is then; None where there is none.
        """
        for _ in range(_TRIES):
            held = self.store.read(fingerprint)
            if held is None:
                return None
            changed = change(held.entry)
            if changed is None or changed == held.entry:
                return held.entry
            try:
                self.store.replace(changed, held.version)
                tell(held.entry, changed)
                return changed
            except ConflictError:
                continue
        raise LedgerUnavailableError(f"Ledger entry {fingerprint} changed {_TRIES} times while it was being written")

    def finish(self, fingerprint: str, record: RequestRecord) -> LedgerEntry | None:
        """
        Note what became of a request. Safe to repeat; does nothing where the record is not terminal, or
        is not that of the entry's present request.

        :return: the entry as it is then; None where the ledger has none.
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
                earlier = [past.error for past in entry.history if past.ended == "failed"]
                return entries.failed(entry, record.error, is_permanent(record.error, earlier), now)
            return None

        entry = self.advance(fingerprint, change)
        if entry is not None and entry.outcome is not None and entry.outcome.finished_at == now and record.updated_at:
            metrics.seconds("wan.lag", max(0.0, now - record.updated_at))
        return entry

    def archive(self, fingerprint: str, request_id: str, uri: str, sha256: str) -> LedgerEntry | None:
        """
        Note where the clip of a request was archived. Safe to repeat.

        :return: the entry as it is then; None where the ledger has none.
        """
        now = self._clock()

        def change(entry: LedgerEntry) -> LedgerEntry | None:
            if entry.request_id != request_id:
                return None
            if entry.state is EntryState.SUBMITTED:
                entry = entries.succeeded(entry, now)
            return entries.archived(entry, uri, sha256) if entry.state is EntryState.SUCCEEDED else None

        return self.advance(fingerprint, change)

    def accepted_late(self, claim: LedgerEntry, request_id: str) -> LedgerEntry | None:
        """
        Note a request that was accepted after its claim had been taken over: as the clip's, or as a stray.

        :param claim: under which it was sent.
        """
        now = self._clock()

        def change(held: LedgerEntry) -> LedgerEntry | None:
            if request_id in held.request_ids:
                return None
            ours = held.owner == claim.owner or held.posting_at is None
            if held.state is EntryState.IN_DOUBT or (held.state is EntryState.CLAIMED and ours):
                return entries.submitted(held, request_id, now)
            return entries.strayed(held, request_id, claim.seed, now)

        return self.advance(claim.fingerprint, change)

    def adopt(self, fingerprint: str, request_id: str) -> LedgerEntry | None:
        """Note a person's verdict: what was in doubt is this request."""
        now = self._clock()
        return self.advance(fingerprint, lambda entry: entries.submitted(entry, request_id, now))

    def absent(self, fingerprint: str) -> LedgerEntry | None:
        """Note a person's verdict: what was in doubt was never accepted, and may be submitted."""
        now = self._clock()
        reason = "a person found that it was never accepted"
        return self.advance(fingerprint, lambda entry: entries.refused(entry, reason, now))
