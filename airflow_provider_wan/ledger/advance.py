# SPDX-License-Identifier: Apache-2.0
"""What happens to an entry after its submission: the outcome, the archive, a person's verdict. Spends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry
from airflow_provider_wan.ledger.errors import ConflictError, LedgerUnavailableError
from airflow_provider_wan.ledger.failures import is_permanent
from airflow_provider_wan.ledger.store import LedgerStore

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

        return self.advance(fingerprint, change)

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

    def adopt(self, fingerprint: str, request_id: str) -> LedgerEntry | None:
        """Note a person's verdict: what was in doubt is this request."""
        now = self._clock()
        return self.advance(fingerprint, lambda entry: entries.submitted(entry, request_id, now))

    def absent(self, fingerprint: str) -> LedgerEntry | None:
        """Note a person's verdict: what was in doubt was never accepted, and may be submitted."""
        now = self._clock()
        reason = "a person found that it was never accepted"
        return self.advance(fingerprint, lambda entry: entries.refused(entry, reason, now))
