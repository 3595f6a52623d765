# SPDX-License-Identifier: Apache-2.0
"""What one task has spent on a batch in all its tries, according to the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_wan.ledger import EntryState, LedgerEntry, Owner


class Budget:
    """Counts what was paid, or may have been.

    :param limit: limit in US dollars; None: no limit.
    :param confirmed: US dollars spent on clips that are made.
    """

    def __init__(self, limit: float | None, confirmed: float = 0.0) -> None:
        self.limit = limit
        self._confirmed = confirmed
        self._open: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """US dollars spent, including those of open requests."""
        return round(self._confirmed + sum(self._open.values()), 6)

    def remaining_for(self, fingerprint: str) -> float | None:
        """Return what a clip may cost, in US dollars; None: no limit.

        What was counted for this very clip does not reduce it: the clip is paid for again only after the API has
        proved that it does not charge for the earlier request.

        :param fingerprint: key of the clip in the ledger.
        """
        if self.limit is None:
            return None
        return max(0.0, round(self.limit - self.spent + self._open.get(fingerprint, 0.0), 6))

    def count(self, fingerprint: str, cost: float | None) -> None:
        """Count a clip that is paid for, or may be. Counting it again has no effect.

        :param fingerprint: key of the clip in the ledger.
        :param cost: US dollars.
        """
        self._open[fingerprint] = cost or 0.0

    def refund(self, fingerprint: str) -> None:
        """Remove a clip that the API has proved not to charge.

        :param fingerprint: key of the clip in the ledger.
        """
        self._open.pop(fingerprint, None)

    def confirm(self, fingerprint: str) -> None:
        """Make the cost of a counted clip final, since the clip is made.

        :param fingerprint: key of the clip in the ledger.
        """
        self._confirmed += self._open.pop(fingerprint, 0.0)

    def recount(self, entries: Iterable[LedgerEntry], task: str) -> None:
        """Count again from the ledger.

        :param entries: at least all entries that this task has claimed.
        :param task: the task of :class:`~airflow_provider_wan.ledger.entry.Owner`.
        """
        self._confirmed, self._open = 0.0, {}
        for entry in entries:
            if Owner.parse_task(entry.owner) != task:
                continue
            duplicates = sum(past.ended == "duplicate" for past in entry.history)
            self._confirmed += duplicates * (entry.cost_estimate or 0.0)
            if may_be_paid(entry):
                self.count(entry.fingerprint, entry.cost_estimate)


def may_be_paid(entry: LedgerEntry) -> bool:
    """Return whether the API charges for the request of an entry, or may.

    :param entry: an entry of the ledger.
    """
    if entry.state is EntryState.CLAIMED:
        return entry.intent_at is not None
    return entry.state not in (EntryState.FAILED, EntryState.CANCELLED)
