# SPDX-License-Identifier: Apache-2.0
"""The gallery's index: quick if the store is slow, and available if the store is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_provider_wan.ledger import LedgerUnavailableError
from airflow_provider_wan.plugins.gallery.clips import Clip
from airflow_provider_wan.plugins.gallery.index import (
    FULL_REFRESH_SECONDS,
    OVERLAP_SECONDS,
    QUIET_SECONDS,
    REFRESH_SECONDS,
    ClipIndex,
    KnownLedger,
)
from tests.unit.plugins.gallery.test_clips import CLIP

OWN = KnownLedger("s3://deployment/ledger")


class Source:
    """Clips that a test changes, and reads that it can delay or fail."""

    def __init__(self, *clips: Clip) -> None:
        self.stored_clips = list(clips)
        self.known = [OWN]
        self.named: dict[str, list[Clip]] = {}
        self.named_asked: list[tuple[str, float | None]] = []
        self.asked: list[float | None] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def ledgers(self) -> list[KnownLedger]:
        return self.known

    def clips(self, ledger: KnownLedger, modified_since: float | None) -> Iterator[Clip]:
        if ledger.uri in self.named:
            self.named_asked.append((ledger.uri, modified_since))
            yield from self.named[ledger.uri]
            return
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
    source.error = LedgerUnavailableError("The ledger can't be listed: EndpointConnectionError.")
    clock.now += REFRESH_SECONDS
    read(index)
    snapshot = index.snapshot()
    assert snapshot.clips == (CLIP,)
    assert snapshot.error(None) == "The ledger can't be listed: EndpointConnectionError."
    source.error = None
    clock.now += REFRESH_SECONDS
    read(index)
    assert index.snapshot().error(None) is None


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


def of_a_batch(source: Source, *clips: Clip, dag_ids: frozenset[str] = frozenset({"cats"})) -> KnownLedger:
    ledger = KnownLedger("s3://clips/day/_ledger", dag_ids, used_at=1_800_000_000.0)
    source.known = [OWN, ledger]
    source.named = {ledger.uri: [replace(clip, ledger=ledger.tag) for clip in clips]}
    return ledger


def test_a_ledger_that_a_task_named_shows_its_clips_beside_those_of_the_deployment() -> None:
    source = Source(CLIP)
    of_a_batch(source, replace(CLIP, cost=0.75))
    index = ClipIndex(source)
    read(index)
    own, named = sorted(index.snapshot().clips, key=lambda clip: clip.id)
    assert (own.cost, named.cost) == (0.5, 0.75)
    assert own.fingerprint == named.fingerprint
    assert index.get(own.id) is own
    assert index.get(named.id) is named


def test_a_dags_ledger_shows_no_clip_that_claims_to_be_of_another_dag() -> None:
    source = Source()
    of_a_batch(source, replace(CLIP, dag_id="dogs"), replace(CLIP, fingerprint="b" * 64, dag_id=None))
    index = ClipIndex(source)
    read(index)
    assert index.snapshot().clips == ()
    assert index.get(source.named["s3://clips/day/_ledger"][0].id) is None


def test_a_ledger_that_is_away_hides_no_other_and_its_error_is_for_readers_of_its_dag() -> None:
    source = Source(CLIP)
    ledger = of_a_batch(source)
    del source.named[ledger.uri]
    source.error = LedgerUnavailableError("NoSuchBucket: clips")
    index = ClipIndex(source)
    read(index)
    snapshot = index.snapshot()
    assert CLIP in snapshot.clips
    assert snapshot.error({"cats"}) == "NoSuchBucket: clips NoSuchBucket: clips"
    assert snapshot.error({"dogs"}) == "NoSuchBucket: clips"


def test_a_ledger_that_nobody_uses_any_more_is_read_with_everything_only() -> None:
    source, clock = Source(), Clock()
    ledger = of_a_batch(source, CLIP)
    index = ClipIndex(source, clock)
    read(index)
    clock.now += REFRESH_SECONDS
    read(index)
    assert len(source.named_asked) == 2
    clock.now += QUIET_SECONDS
    read(index)
    clock.now += REFRESH_SECONDS
    read(index)
    assert [since for _, since in source.named_asked].count(None) == 2
    assert len(source.named_asked) == 3
    source.named[ledger.uri] = [replace(source.named[ledger.uri][0], state="submitted")]
    clock.now += FULL_REFRESH_SECONDS
    read(index)
    clock.now += REFRESH_SECONDS
    read(index)
    assert len(source.named_asked) == 5


def test_a_ledger_that_no_xcom_names_any_more_is_forgotten() -> None:
    source, clock = Source(), Clock()
    of_a_batch(source, CLIP)
    index = ClipIndex(source, clock)
    read(index)
    source.known = [OWN]
    clock.now += REFRESH_SECONDS
    read(index)
    assert index.snapshot().clips == ()


def test_a_dags_ledger_that_is_away_leaves_the_time_of_the_reading() -> None:
    source, clock = Source(CLIP), Clock()
    ledger = of_a_batch(source)
    source.named[ledger.uri] = None  # type: ignore[assignment]
    index = ClipIndex(source, clock)
    read(index)
    snapshot = index.snapshot()
    assert snapshot.read_at == clock.now
    assert snapshot.error({"dogs"}) is None
    assert snapshot.error({"cats"}) is not None


def test_what_else_goes_wrong_is_named_and_its_text_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(CLIP)
    source.error = OSError('connection to server at "10.0.0.7", user "airflow": password authentication failed')
    index = ClipIndex(source)
    read(index)
    assert index.snapshot().error(None) == "OSError: see the API server's log."
    assert "10.0.0.7" in caplog.text


def test_a_clip_is_known_to_be_absent_only_when_every_ledger_was_read() -> None:
    source, clock = Source(CLIP), Clock()
    ledger = of_a_batch(source)
    named = source.named.pop(ledger.uri)
    source.error = LedgerUnavailableError("NoSuchBucket: clips")
    index = ClipIndex(source, clock)
    assert not index.is_complete
    read(index)
    assert not index.is_complete
    source.error, source.named[ledger.uri] = None, named
    clock.now += REFRESH_SECONDS
    read(index)
    assert index.is_complete
