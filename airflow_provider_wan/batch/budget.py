# SPDX-License-Identifier: Apache-2.0
"""What a batch has spent: by this task, through all its tries, as the ledger tells."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_wan.ledger import EntryState, LedgerEntry, Owner


class Budget:
    """
    Counts what was paid, or may have been.

    :param limit: US dollars; None: no limit.
    :param settled: US dollars spent for clips that are settled.
    """

    def __init__(self, limit: float | None, settled: float = 0.0) -> None:
        self.limit = limit
        self._settled = settled
        self._open: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """US dollars."""
        return round(self._settled + sum(self._open.values()), 6)

    def left_for(self, fingerprint: str) -> float | None:
        """
        Return what a clip may cost, in US dollars; None: no limit.

        What was counted for this very clip is not in its way: it is paid for anew only once the API has proved that
        it charges nothing for what was sent before.
        """
        if self.limit is None:
            return None
        return max(0.0, round(self.limit - self.spent + self._open.get(fingerprint, 0.0), 6))

    def count(self, fingerprint: str, cost: float | None) -> None:
        """Count a clip that is paid for, or may be. Counted twice, it counts once."""
        self._open[fingerprint] = cost or 0.0

    def refund(self, fingerprint: str) -> None:
        """Forget a clip that the API has proved not to charge."""
        self._open.pop(fingerprint, None)

    def settle(self, fingerprint: str) -> None:
        """A clip that was counted is made: what it cost stays spent."""
        self._settled += self._open.pop(fingerprint, 0.0)

    def recount(self, entries: Iterable[LedgerEntry], task: str) -> None:
        """
        Count anew from the ledger.

        :param entries: at least all that this task has claimed.
        :param task: as in :class:`~airflow_provider_wan.ledger.entry.Owner`.
        """
        self._settled, self._open = 0.0, {}
        for entry in entries:
            if Owner.task_of(entry.owner) != task:
                continue
            strays = sum(past.ended == "stray" for past in entry.history)
            self._settled += strays * (entry.cost_estimate or 0.0)
            if may_be_paid(entry):
                self.count(entry.fingerprint, entry.cost_estimate)


def may_be_paid(entry: LedgerEntry) -> bool:
    """Tell whether the API charges for an entry's request, or may."""
    if entry.state is EntryState.CLAIMED:
        return entry.posting_at is not None
    return entry.state not in (EntryState.FAILED, EntryState.CANCELLED)
