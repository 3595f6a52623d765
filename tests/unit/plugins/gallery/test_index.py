# SPDX-License-Identifier: Apache-2.0
"""The gallery's index: quick if the store is slow, and available if the store is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_wan.plugins.gallery.clips import Clip
from airflow_provider_wan.plugins.gallery.index import (
    FULL_REFRESH_SECONDS,
    OVERLAP_SECONDS,
    REFRESH_SECONDS,
    ClipIndex,
)
from tests.unit.plugins.gallery.test_clips import CLIP


class Source:
    """Clips that a test changes, and reads that it can delay or fail."""

    def __init__(self, *clips: Clip) -> None:
        self.stored_clips = list(clips)
        self.asked: list[float | None] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def clips(self, modified_since: float | None) -> Iterator[Clip]:
        self.asked.append(modified_since)
        yield from self.stored_clips
        self.gate.wait(30)
        if self.error is not None:
            raise self.error


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def read(index: ClipIndex) -> None:
    """Let a started read finish."""
    index.snapshot()
    thread = index._thread
    assert thread is not None
    thread.join(30)


def test_a_small_ledger_is_there_at_the_first_request() -> None:
    snapshot = ClipIndex(Source(CLIP)).snapshot()
    assert snapshot.clips == (CLIP,)
    assert not snapshot.reading


def test_a_slow_store_holds_no_request_up_and_shows_what_it_has_given() -> None:
    source = Source(CLIP)
    source.gate.clear()
    snapshot = ClipIndex(source).snapshot()
    assert snapshot.reading
    assert snapshot.read_at is None
    assert snapshot.clips == (CLIP,)
    source.gate.set()


def test_a_store_that_is_away_leaves_what_was_read_before_with_the_reason() -> None:
    source, clock = Source(CLIP), Clock()
    index = ClipIndex(source, clock)
    read(index)
    source.error = RuntimeError("The ledger can't be listed: EndpointConnectionError.")
    clock.now += REFRESH_SECONDS
    read(index)
    snapshot = index.snapshot()
    assert snapshot.clips == (CLIP,)
    assert snapshot.error == "The ledger can't be listed: EndpointConnectionError."
    source.error = None
    clock.now += REFRESH_SECONDS
    read(index)
    assert index.snapshot().error is None


def test_only_what_changed_is_read_again() -> None:
    source, clock = Source(CLIP), Clock()
    index = ClipIndex(source, clock)
    read(index)
    first = clock.now
    clock.now += REFRESH_SECONDS
    source.stored_clips = [replace(CLIP, state="failed")]
    read(index)
    assert source.asked == [None, first - OVERLAP_SECONDS]
    assert [clip.state for clip in index.snapshot().clips] == ["failed"]


def test_many_requests_start_one_reading() -> None:
    source, clock = Source(CLIP), Clock()
    index = ClipIndex(source, clock)
    for _ in range(20):
        index.snapshot()
    read(index)
    assert source.asked == [None]


def test_a_deleted_entry_goes_with_the_next_whole_reading() -> None:
    source, clock = Source(CLIP), Clock()
    index = ClipIndex(source, clock)
    read(index)
    source.stored_clips = []
    clock.now += FULL_REFRESH_SECONDS
    read(index)
    assert index.snapshot().clips == ()
    assert index.get(CLIP.fingerprint) is None
