# SPDX-License-Identifier: Apache-2.0
"""
One rate for all processes of an account, in one small object beside the ledger.

The object says when the next request may be sent. A process reserves slots by moving that time on, by
compare-and-set, and sends one request in each slot. So the rate holds whoever dies: a reserved slot that is not used is
lost, and nothing has to be given back. A process that needs many slots reserves up to two seconds of them at a time.

A store that is away never stops the polls of what is paid for: each process then takes a share of the rate.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_provider_wan.ledger.errors import ConflictError, LedgerError, LedgerUnavailableError
from airflow_provider_wan.polling.throttle import RATE_MARGIN

if TYPE_CHECKING:
    from airflow_provider_wan.ledger.stores.base import DocumentStore

log = logging.getLogger(__name__)

VERSION = 1
#: Seconds of the rate that one reservation takes at most, with few processes.
MAX_RESERVED_SECONDS = 2.0
#: Processes beyond which each reserves less, so that the line does not become longer.
_FEW_PROCESSES = 5
#: Seconds after which a process that reserves nothing is no longer counted.
PROCESS_TIMEOUT = 60.0
#: Reservations further ahead than this, and than the line of all processes, come from a wrong clock.
MAX_AHEAD = 60.0
#: Seconds by which a slot may be used late: the space that the margin leaves in a second.
MAX_LATENESS = RATE_MARGIN - 1.0
#: Seconds that a reservation may take until the store counts as away, and between two attempts at one that is.
STORE_TIMEOUT = 5.0
RETRY_SECONDS = 10.0
#: Seconds after which a reservation is made again whose thread is gone, as after a fork.
LOST_AFTER = 120.0
#: Share of the rate, if it was never known how many processes there are.
UNKNOWN_SHARE = 0.1
_MAX_CONFLICTS = 20
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class RateState:
    """
    Content of the object.

    :param next_at: Unix seconds of the first slot that is free.
    :param processes: Unix seconds of the latest reservation, by process.
    """

    next_at: float = 0.0
    processes: Mapping[str, float] = field(default_factory=dict)

    def reserve(self, process: str, count: int, now: float, spacing: float) -> tuple[RateState, tuple[float, ...]]:
        """
        Take the next slots.

        :param process: name of the process.
        :param count: number of slots.
        :param now: Unix seconds; no slot is earlier.
        :param spacing: seconds between two slots.
        :returns: the new state, and the Unix seconds of each slot.
        """
        start = max(now, self.next_at)
        alive = {name: at for name, at in self.processes.items() if abs(now - at) <= PROCESS_TIMEOUT}
        slots = tuple(start + number * spacing for number in range(count))
        return RateState(start + count * spacing, {**alive, process: now}), slots

    def is_plausible(self, now: float, spacing: float) -> bool:
        """
        Return whether the line is no longer than its processes can make it.

        :param now: Unix seconds.
        :param spacing: seconds between two slots.
        """
        return self.next_at - now <= MAX_AHEAD + 4.0 * spacing * len(self.processes)

    def to_json(self) -> bytes:
        """Return the object as stored."""
        processes = {name: round(at, 3) for name, at in self.processes.items()}
        return json.dumps({"version": VERSION, "next_at": round(self.next_at, 6), "processes": processes}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> RateState:
        """
        Parse the object. What is no such object is taken for an empty one: it holds nothing that was paid for.

        :param content: the object as stored.
        """
        try:
            value = json.loads(content)
            processes = {str(name): float(at) for name, at in value["processes"].items()}
            return cls(float(value["next_at"]), processes)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


class SharedRate:
    """
    The slots of one process; safe to use from several threads and event loops, none of which it blocks.

    :param store: where the object is; used by a thread of its own.
    :param name: name of the object in the store.
    :param clock: returns Unix seconds.
    :param monotonic: returns the seconds of the clock whose time :meth:`acquire` is passed.
    """

    def __init__(
        self,
        store: DocumentStore,
        name: str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._monotonic = monotonic
        self._process = uuid4().hex[:12]
        self._lock = threading.Lock()
        self._slots: deque[float] = deque()
        self._count = 1
        self._processes = 0
        self._last_used = float("-inf")
        self._reserving_since: float | None = None
        self._retry_at: float | None = None
        self._store_seconds = 0.0
        self._known: tuple[RateState, str | None] | None = None

    def acquire(self, now: float, per_second: float) -> float | None:
        """
        Take a slot if one is due.

        :param now: seconds of a monotonic clock.
        :param per_second: the account's rate.
        :returns: 0.0 if a slot was taken; the seconds after which to try again; None if the store is away, so that
            the caller has to limit itself to its share.
        """
        spacing = RATE_MARGIN / per_second
        with self._lock:
            lost = False
            while self._slots and now - self._slots[0] > MAX_LATENESS:
                self._slots.popleft()
                lost = True
            if lost:
                self._count = max(1, self._count // 2)
            if self._slots:
                remaining = self._slots[0] - now
                if remaining > 0.01 * spacing:
                    return remaining
                self._last_used = self._slots.popleft()
                if self._count > 1 and len(self._slots) <= self._count // 2:
                    self._start_reservation(now, spacing)
                return 0.0
            if self._retry_at is None or now >= self._retry_at:
                self._start_reservation(now, spacing)
            is_late = self._reserving_since is not None and now - self._reserving_since > STORE_TIMEOUT
            return None if self._retry_at is not None or is_late else _POLL_SECONDS

    @property
    def fallback_share(self) -> float:
        """The share of the rate that this process may use while the store is away."""
        with self._lock:
            return 1.0 / max(2, self._processes) if self._processes else UNKNOWN_SHARE

    def _start_reservation(self, now: float, spacing: float) -> None:
        if self._reserving_since is not None and now - self._reserving_since < LOST_AFTER:
            return
        self._reserving_since = now
        if now - self._last_used <= max(2.0 * spacing, MAX_LATENESS):
            seconds = MAX_RESERVED_SECONDS * min(1.0, _FEW_PROCESSES / max(1, self._processes))
            self._count = max(1, min(2 * self._count, int(seconds / spacing)))
        else:
            self._count = 1
        # A thread for each: an executor's would not survive a fork, and there is at most about one in a second.
        thread = threading.Thread(target=self._reserve, args=(self._count, spacing), name="wan-rate", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._reserving_since, self._retry_at = None, now + RETRY_SECONDS

    def _reserve(self, count: int, spacing: float) -> None:
        """Reserve slots in the store, and add them to those of this process."""
        slots: tuple[float, ...] = ()
        failure: str | None = None
        try:
            slots = self._reserve_in_store(count, spacing)
        except Exception as error:  # whatever it is, the polls go on
            failure = str(error) if isinstance(error, LedgerError) else type(error).__name__
        with self._lock:
            now = self._monotonic()
            offset = now - self._clock()
            self._slots.extend(slot + offset for slot in slots)
            self._reserving_since = None
            was_away, self._retry_at = self._retry_at is not None, None if failure is None else now + RETRY_SECONDS
        if failure is not None and not was_away:
            share = self.fallback_share
            log.warning("The shared rate can't be used; this process takes %.0f%% of it: %s", 100 * share, failure)
        elif failure is None and was_away:
            log.info("The shared rate can be used again")

    def _reserve_in_store(self, count: int, spacing: float) -> tuple[float, ...]:
        for _ in range(_MAX_CONFLICTS):
            begun = self._monotonic()
            # What this process wrote last is outdated if there are others: the write would be refused.
            is_alone = self._known is not None and len(self._known[0].processes) == 1
            state, version = self._known if self._known is not None and is_alone else self._read()
            now = self._clock()
            if not state.is_plausible(now, spacing):
                # The clock that is wrong may be this one: the time of the others is left as it is.
                self._known = None
                raise LedgerUnavailableError(
                    f"{self._store.uri}/{self._name} is reserved for the next {state.next_at - now:.0f} s: the clocks "
                    "of the processes differ. Synchronize them"
                )
            # The slots are of use once they are written.
            changed, slots = state.reserve(self._process, count, now + self._store_seconds, spacing)
            self._known = None
            try:
                version = self._store.write_document(self._name, changed.to_json(), version)
            except ConflictError:
                continue
            self._known = changed, version
            took = self._monotonic() - begun
            self._store_seconds = min(STORE_TIMEOUT, max(took, 0.7 * self._store_seconds))
            with self._lock:
                self._processes = len(changed.processes)
            return slots
        raise LedgerUnavailableError(f"{self._store.uri}/{self._name} changed {_MAX_CONFLICTS} times in a row")

    def _read(self) -> tuple[RateState, str | None]:
        stored = self._store.read_document(self._name)
        return (RateState(), None) if stored is None else (RateState.from_json(stored.content), stored.version)
