# SPDX-License-Identifier: Apache-2.0
"""
The clips of a ledger, kept in memory and read anew in the background.

A page never waits for the store: it gets what is known, when that was read, and what went wrong since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_wan.plugins.gallery.clips import Clip

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
# A store's clock and a slow writer's last write may lie this far before the time of the last reading.
OVERLAP_SECONDS = 300.0
# So often everything is read anew: only then is an entry that was deleted missed.
FULL_REFRESH_SECONDS = 3600.0
# A first page waits this long for the first reading, so that a small ledger is there at once.
FIRST_READING_SECONDS = 1.0


class ClipSource(Protocol):
    """Where clips are read from."""

    def clips(self, modified_since: float | None) -> Iterable[Clip]:
        """
        Yield the clips.

        :param modified_since: Unix seconds; those not written since may be left out.
        """


@dataclass(frozen=True)
class Snapshot:
    """
    What is known of the ledger.

    :param clips: all of them, in no order.
    :param read_at: Unix seconds of the last whole reading; None before the first.
    :param reading: whether the ledger is being read now.
    :param error: why the last reading failed; None if it did not.
    """

    clips: tuple[Clip, ...]
    read_at: float | None
    reading: bool
    error: str | None


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
        self._clips: dict[str, Clip] = {}
        self._read_at: float | None = None
        self._full_at: float | None = None
        self._tried_at: float | None = None
        self._error: str | None = None
        self._thread: threading.Thread | None = None

    def snapshot(self) -> Snapshot:
        """Return what is known, and begin to read anew in the background if that is due."""
        thread = self._start_if_due()
        if thread is not None and self._read_at is None:
            thread.join(FIRST_READING_SECONDS)
        with self._lock:
            reading = self._thread is not None and self._thread.is_alive()
            return Snapshot(tuple(self._clips.values()), self._read_at, reading, self._error)

    def get(self, fingerprint: str) -> Clip | None:
        """Return a clip, or None if none of that fingerprint is known."""
        with self._lock:
            return self._clips.get(fingerprint)

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
        full = self._full_at is None or self._read_at is None or now - self._full_at >= FULL_REFRESH_SECONDS
        since = None if full or self._read_at is None else self._read_at - OVERLAP_SECONDS
        seen: set[str] = set()
        try:
            for clip in self._source.clips(since):
                seen.add(clip.fingerprint)
                with self._lock:
                    self._clips[clip.fingerprint] = clip
        except Exception as error:
            # Whatever it is, the page shows it beside what is known; the API server goes on.
            log.warning("The gallery can't read the ledger: %s", error)
            with self._lock:
                self._error = str(error) or type(error).__name__
            return
        with self._lock:
            if full:
                self._clips = {name: clip for name, clip in self._clips.items() if name in seen}
                self._full_at = now
            self._read_at = now
            self._error = None
