# SPDX-License-Identifier: Apache-2.0
"""
The clips of the ledgers, kept in memory and read anew in the background.

A page never waits for a store: it gets what is known, when that was read, and what went wrong since.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.plugins.gallery.clips import Clip, is_open

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
# A store's clock and a slow writer's last write may lie this far before the time of the last reading.
OVERLAP_SECONDS = 300.0
# So often everything is read anew: only then is an entry that was deleted missed.
FULL_REFRESH_SECONDS = 3600.0
# A Dag's ledger that no task has used for this long, and whose clips have all ended, is only read with everything.
QUIET_SECONDS = 86400.0
# A first page waits this long for the first reading, so that a small ledger is there at once.
FIRST_READING_SECONDS = 1.0


@dataclass(frozen=True)
class KnownLedger:
    """
    A ledger that the gallery reads.

    :param uri: where it is.
    :param dag_ids: the Dags whose tasks have named it: only their clips are shown. None: the deployment's ledger.
    :param used_at: Unix seconds at which a task last named it; None for the deployment's.
    """

    uri: str
    dag_ids: frozenset[str] | None = None
    used_at: float | None = None

    @property
    def tag(self) -> str:
        """What distinguishes its clips from those of other ledgers; empty for the deployment's."""
        return "" if self.dag_ids is None else hashlib.sha256(self.uri.encode()).hexdigest()[:12]

    def concerns(self, dag_ids: Collection[str | None] | None) -> bool:
        """
        Return whether someone may know of it.

        :param dag_ids: the Dags that they may read; None for all.
        """
        return self.dag_ids is None or dag_ids is None or any(dag_id in dag_ids for dag_id in self.dag_ids)


class ClipSource(Protocol):
    """Where clips are read from."""

    def ledgers(self) -> Sequence[KnownLedger]:
        """Return the ledgers, each once, in the order in which they are read."""

    def clips(self, ledger: KnownLedger, modified_since: float | None) -> Iterable[Clip]:
        """
        Yield the clips of a ledger.

        :param ledger: the ledger.
        :param modified_since: Unix seconds; those not written since may be left out.
        """


@dataclass(frozen=True)
class Snapshot:
    """
    What is known of the ledgers.

    :param clips: all of them, in no order.
    :param read_at: Unix seconds of the last reading without an error of the deployment's ledger; None before the first.
    :param reading: whether the ledgers are being read now.
    :param errors: why the last reading failed, with the ledger that could not be read.
    """

    clips: tuple[Clip, ...]
    read_at: float | None
    reading: bool
    errors: tuple[tuple[KnownLedger, str], ...] = ()

    def error(self, dag_ids: Collection[str | None] | None) -> str | None:
        """
        Return why the last reading failed, or None.

        :param dag_ids: the Dags that the reader may read; None for all.
        """
        return " ".join(text for ledger, text in self.errors if ledger.concerns(dag_ids)) or None


@dataclass
class _LedgerState:
    ledger: KnownLedger
    clips: dict[str, Clip] = field(default_factory=dict)
    read_at: float | None = None
    full_at: float | None = None
    error: str | None = None

    def shows(self, clip: Clip) -> bool:
        return self.ledger.dag_ids is None or clip.dag_id in self.ledger.dag_ids

    def is_quiet(self, now: float) -> bool:
        used_at = self.ledger.used_at
        if used_at is None or now - used_at < QUIET_SECONDS:
            return False
        return not any(map(is_open, self.clips.values()))


class ClipIndex:
    """
    Keeps the clips of a source in memory.

    :param source: where clips are read from.
    :param clock: gives Unix seconds.
    """

    def __init__(self, source: ClipSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, _LedgerState] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._error: str | None = None
        self._thread: threading.Thread | None = None

    def snapshot(self) -> Snapshot:
        """Return what is known, and begin to read anew in the background if that is due."""
        self.refresh()
        with self._lock:
            reading = self._thread is not None and self._thread.is_alive()
            states = list(self._states.values())
            clips = tuple(clip for state in states for clip in state.clips.values() if state.shows(clip))
            errors = [(state.ledger, state.error) for state in states if state.error is not None]
            if self._error is not None:
                errors.insert(0, (KnownLedger(""), self._error))
            return Snapshot(clips, self._read_at, reading, tuple(errors))

    def refresh(self) -> None:
        """Begin to read anew in the background if that is due, and wait a moment for the first reading."""
        thread = self._start_if_due()
        if thread is not None and self._read_at is None:
            thread.join(FIRST_READING_SECONDS)

    @property
    def is_complete(self) -> bool:
        """Whether all ledgers were read, so that a clip that is not known is in none of them."""
        with self._lock:
            states = list(self._states.values())
        is_read = self._read_at is not None and self._error is None
        return is_read and all(state.read_at is not None for state in states)

    def get(self, clip_id: str) -> Clip | None:
        """
        Return a clip, or None if none of that id is known.

        :param clip_id: the clip's ``id``.
        """
        fingerprint, _, tag = clip_id.partition("-")
        with self._lock:
            for state in self._states.values():
                clip = state.clips.get(fingerprint) if state.ledger.tag == tag else None
                if clip is not None and state.shows(clip):
                    return clip
        return None

    def dag_ids(self) -> set[str | None]:
        """Return the Dags whose clips are known, with None if a clip belongs to no Dag."""
        with self._lock:
            states = list(self._states.values())
            return {clip.dag_id for state in states for clip in state.clips.values() if state.shows(clip)}

    def _start_if_due(self) -> threading.Thread | None:
        now = self._clock()
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self._thread
            if self._tried_at is not None and 0 <= now - self._tried_at < REFRESH_SECONDS:
                return None
            self._tried_at = now
            self._thread = threading.Thread(target=self._refresh, args=(now,), name="wan-gallery-index", daemon=True)
            self._thread.start()
            return self._thread

    def _refresh(self, now: float) -> None:
        try:
            ledgers = self._source.ledgers()
        except Exception as error:
            # Whatever it is, the page shows it beside what is known; the API server goes on.
            self._error = _describe(error)
            return
        self._error = None
        with self._lock:
            known = {ledger.uri: self._states.get(ledger.uri) or _LedgerState(ledger) for ledger in ledgers}
            for ledger in ledgers:
                known[ledger.uri].ledger = ledger
            self._states = known
        for state in known.values():
            self._read(state, now)
        # A ledger of single Dags that can't be read is reported to the readers of those Dags only.
        if all(state.error is None for state in known.values() if state.ledger.dag_ids is None):
            self._read_at = now

    def _read(self, state: _LedgerState, now: float) -> None:
        full = state.full_at is None or state.read_at is None or now - state.full_at >= FULL_REFRESH_SECONDS
        if not full and state.is_quiet(now):
            return
        since = None if full or state.read_at is None else state.read_at - OVERLAP_SECONDS
        seen: set[str] = set()
        try:
            for clip in self._source.clips(state.ledger, since):
                seen.add(clip.fingerprint)
                with self._lock:
                    state.clips[clip.fingerprint] = clip
        except Exception as error:
            state.error = _describe(error)
            return
        with self._lock:
            if full:
                state.clips = {name: clip for name, clip in state.clips.items() if name in seen}
                state.full_at = now
            state.read_at = now
            state.error = None


def _describe(error: Exception) -> str:
    if isinstance(error, WanError):
        log.warning("The gallery can't read a ledger: %s", error)
        return str(error)
    # Its text may name hosts, users and queries of the database, which are not for everybody who is logged in.
    log.error("The gallery can't read a ledger", exc_info=error)
    return f"{type(error).__name__}: see the API server's log."
