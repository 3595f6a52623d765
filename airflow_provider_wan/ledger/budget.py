# SPDX-License-Identifier: Apache-2.0
"""
What a task has spent, in all its attempts and processes together, and how much of its limit is left.

A budget is one object beside the entries, written by compare-and-set. A clip's cost is **reserved** in it after the
clip is claimed and before the intent to send is recorded; so two processes together can't exceed the limit, even if
neither knows of the other. A reservation is **committed** when the clip is made, and **released** when the entry shows
that the API does not charge. A process that dies leaves a reservation, which the next attempt commits or releases.

Each reservation has a token of its own, and is released only by that token, read before the entry was: a reservation
that another process made meanwhile stays. Committing and releasing can wait, since they never exceed the limit; they
are written with the next reservation, or by :meth:`Budget.flush`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from uuid import uuid4

from airflow_provider_wan.api.errors import WanBudgetError
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry
from airflow_provider_wan.ledger.errors import (
    ConflictError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerVersionError,
)
from airflow_provider_wan.ledger.stores.base import DocumentStore

log = logging.getLogger(__name__)

VERSION = 1
_MAX_CONFLICTS = 30
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Reservation:
    """
    The cost of a clip that is paid for, or may be.

    :param cost: US dollars.
    :param token: random for each reservation.
    """

    cost: float
    token: str


@dataclass(frozen=True)
class BudgetState:
    """
    Content of a budget.

    :param committed: US dollars spent on clips that are made.
    :param reserved: reservations by fingerprint; of duplicate charges, by request id.
    """

    committed: float = 0.0
    reserved: Mapping[str, Reservation] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        """US dollars spent, including what is reserved."""
        return round(self.committed + sum(each.cost for each in self.reserved.values()), 6)

    def reserve(self, name: str, reservation: Reservation) -> BudgetState:
        """Return the state with a reservation, which takes the place of an earlier one of the same name."""
        return replace(self, reserved={**self.reserved, name: reservation})

    def commit(self, name: str) -> BudgetState:
        """Return the state with the cost of a reservation committed, if there is one."""
        committed = self.committed + (self.reserved[name].cost if name in self.reserved else 0.0)
        return BudgetState(round(committed, 6), _without(self.reserved, name))

    def release(self, name: str, token: str) -> BudgetState:
        """Return the state without a reservation, if it still has this token."""
        reservation = self.reserved.get(name)
        return (
            self
            if reservation is None or reservation.token != token
            else replace(self, reserved=_without(self.reserved, name))
        )

    def to_json(self, name: str) -> bytes:
        """Return the state as JSON. No two writes are equal, so that a store recognizes its own write."""
        reserved = {key: [each.cost, each.token] for key, each in self.reserved.items()}
        content = {"version": VERSION, "name": name, "committed": self.committed, "reserved": reserved}
        return json.dumps({**content, "write": uuid4().hex}, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes, name: str) -> BudgetState:
        """
        Parse a budget.

        :raises LedgerCorruptError: if it is damaged, or of another version.
        """
        try:
            data = json.loads(content)
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}")
            reservation = data["reserved"].items()
            reserved = {key: Reservation(_parse_amount(cost), str(token)) for key, (cost, token) in reservation}
            return cls(_parse_amount(data["committed"]), reserved)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LedgerCorruptError(
                f"The budget {name} can't be read ({error}). Nothing is paid while it is there. Restore it from a "
                "copy, or delete it: then what was spent before is not counted."
            ) from None


class Budget:
    """
    The budget of one task; for one thread of each process.

    :param store: the ledger's store.
    :param name: name of the budget: the same in all attempts of a task, and of no other task.
    :param limit: limit in US dollars; None: no limit, and the spending is only counted.
    :param sleep: waits the given seconds.
    """

    def __init__(
        self,
        store: DocumentStore,
        name: str,
        limit: float | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limit = limit
        self._store = store
        self._name = name
        self._object = f"budgets/{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
        self._sleep = sleep
        self._view = BudgetState()  # what was read last, with what waits to be written
        self._version: str | None = None
        self._is_current = False
        self._pending: list[Callable[[BudgetState], BudgetState]] = []

    @property
    def spent(self) -> float:
        """US dollars spent, including those of open requests, as far as this process knows."""
        return self._view.spent

    @property
    def open_clips(self) -> list[str]:
        """Fingerprints of the clips whose cost is reserved, as far as this process knows."""
        return [name for name in self._view.reserved if not name.startswith(_DUPLICATE)]

    def remaining_for(self, fingerprint: str) -> float | None:
        """
        Return what a clip may cost, in US dollars, as far as this process knows; None: no limit.

        What is reserved for this very clip does not reduce it: the clip is paid for again only after a proof that the
        API does not charge for the earlier request.

        :param fingerprint: key of the clip.
        """
        return None if self.limit is None else max(0.0, self._left(self._view, fingerprint))

    def load(self) -> None:
        """
        Read the budget.

        :raises LedgerError: if it can't be read.
        """
        self._read()

    def recover(self) -> None:
        """
        Read the budget, and commit or release what a process that died has left reserved.

        An entry that is damaged concerns only its own clip, whose cost stays reserved.

        :raises LedgerError: if the budget can't be read, or the ledger does not answer.
        """
        self._read()
        for name in list(self._view.reserved):
            if name.startswith(_DUPLICATE):
                continue
            try:
                stored = self._store.read(name)
            except (LedgerCorruptError, LedgerVersionError) as error:
                log.warning("The cost of clip %s stays reserved: %s", name, error)
                continue
            if stored is None:
                continue
            self.count_duplicates(stored.entry)
            self.release(stored.entry)
            if stored.entry.state in _MADE:
                self.commit(name)

    def reserve(self, entry: LedgerEntry) -> None:
        """
        Reserve the cost of a clip that this process has claimed, before its intent to send is recorded.

        :param entry: the claim, as it was written.
        :raises WanBudgetError: if the limit does not allow it. Nothing is reserved then.
        :raises LedgerUnavailableError: if that can't be found out, or could not be written.
        """
        cost = entry.cost_estimate or 0.0
        reservation = Reservation(cost, uuid4().hex)

        def change(state: BudgetState) -> BudgetState:
            if self.limit is not None and cost > self._left(state, entry.fingerprint) + _TOLERANCE:
                raise WanBudgetError(
                    f"max_cost=${self.limit:.2f}: ${state.spent:.2f} of it is spent or reserved, and the clip would "
                    f"cost ${cost:.2f}. Nothing was paid for it."
                )
            return state.reserve(entry.fingerprint, reservation)

        try:
            self._write(change)
        except WanBudgetError:
            # Another process may have released something since this one has read the budget.
            self._read()
            self._write(change)

    def commit(self, fingerprint: str) -> None:
        """
        Make the cost of a clip final, since the clip is made. Safe to repeat.

        :param fingerprint: key of the clip.
        """
        if fingerprint in self._view.reserved:
            self._queue(lambda state: state.commit(fingerprint))

    def release(self, entry: LedgerEntry, *, owner: str | None = None) -> None:
        """
        Give back what is reserved for a clip, if its entry proves that nothing is charged.

        :param entry: the entry, read after the reservation was made or last seen by this process.
        :param owner: this process, as the entry names it: its own claim without an intent is not charged either.
        """
        unsent = entry.state is EntryState.CLAIMED and entry.intent_at is None and entry.owner == owner
        reservation = self._view.reserved.get(entry.fingerprint)
        if reservation is not None and (unsent or entry.state in _NOT_CHARGED):
            self._queue(lambda state: state.release(entry.fingerprint, reservation.token))

    def count_duplicates(self, entry: LedgerEntry) -> None:
        """
        Count the duplicate charges of a clip, each once.

        :param entry: the entry.
        """
        for past in entry.duplicates:
            name = f"{_DUPLICATE}{past.request_id}"
            if name not in self._view.reserved:
                self._queue(partial(BudgetState.reserve, name=name, reservation=Reservation(past.cost or 0.0, "")))

    def flush(self) -> None:
        """
        Write what waits to be written.

        :raises LedgerError: if the budget can't be written.
        """
        if self._pending:
            self._write(lambda state: state)

    def _queue(self, change: Callable[[BudgetState], BudgetState]) -> None:
        self._pending.append(change)
        self._view = change(self._view)

    def _left(self, state: BudgetState, fingerprint: str) -> float:
        reservation = state.reserved.get(fingerprint)
        return round((self.limit or 0.0) - state.spent + (reservation.cost if reservation else 0.0), 6)

    def _read(self) -> None:
        stored = self._store.read_document(self._object)
        state = BudgetState() if stored is None else BudgetState.from_json(stored.content, self._name)
        self._version = None if stored is None else stored.version
        self._view = reduce(lambda changed, change: change(changed), self._pending, state)
        self._is_current = True

    def _write(self, change: Callable[[BudgetState], BudgetState]) -> None:
        """Apply a change, and all that waits, to the present state."""
        for attempt in range(_MAX_CONFLICTS):
            if not self._is_current:
                self._read()
            state = change(self._view)
            # Until the write is known to have succeeded, it may have been written or not.
            self._is_current = False
            try:
                self._version = self._store.write_document(self._object, state.to_json(self._name), self._version)
            except ConflictError:
                self._sleep(random.uniform(0.0, 0.02 * min(attempt, 10)))
            else:
                self._view, self._pending, self._is_current = state, [], True
                return
        raise LedgerUnavailableError(
            f"The budget {self._name} changed {_MAX_CONFLICTS} times while it was being written. Nothing was paid."
        )


_MADE = (EntryState.SUCCEEDED, EntryState.ARCHIVED)
_NOT_CHARGED = (EntryState.FAILED, EntryState.CANCELLED)
_DUPLICATE = "duplicate "


def _without(reserved: Mapping[str, Reservation], name: str) -> dict[str, Reservation]:
    return {key: each for key, each in reserved.items() if key != name}


def _parse_amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not an amount")
    return float(value)
