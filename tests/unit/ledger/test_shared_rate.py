# SPDX-License-Identifier: Apache-2.0
"""One rate for all processes of an account: never passed, nearly all of it used, whoever dies and whatever is away."""

from __future__ import annotations

import json
import logging
import random
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from airflow_provider_wan.ledger import LedgerUnavailableError, shared_rate
from airflow_provider_wan.ledger.errors import ConflictError
from airflow_provider_wan.ledger.shared_rate import RateState, SharedRate
from airflow_provider_wan.ledger.stores.file import FileStore
from airflow_provider_wan.polling.throttle import RATE_MARGIN, RateLimiter

START = 1_800_000_000.0
RATE = 5.0


class World:
    """Virtual time, and processes that send whenever they are allowed to."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        self.store: Any = FileStore(tmp_path / "ledger")
        self.sent: list[float] = []
        self.writes = 0
        self.is_away = False
        self.skew: dict[str, float] = {}
        monkeypatch.setattr(threading, "Thread", _LaterThread)
        # The disk's flushes are no part of what is tested.
        monkeypatch.setattr("os.fsync", lambda _: None)

    @property
    def uri(self) -> str:
        return str(self.store.uri)

    def read_document(self, name: str) -> Any:
        if self.is_away:
            raise LedgerUnavailableError("the store is away")
        return self.store.read_document(name)

    def write_document(self, name: str, content: bytes, version: str | None) -> str:
        if self.is_away:
            raise LedgerUnavailableError("the store is away")
        self.writes += 1
        return str(self.store.write_document(name, content, version))

    def process(self, skew: float = 0.0) -> RateLimiter:
        limiter, store = RateLimiter(), self
        rate = SharedRate(
            store,  # type: ignore[arg-type]
            "limits/account",
            clock=lambda: self.now + skew,
            monotonic=lambda: self.now - START,
        )
        limiter.share("key", rate)
        return limiter

    def run(self, seconds: float, limiters: list[RateLimiter], pause: float = 0.0) -> None:
        """Let the processes send for some time, each as often as it may, or with a pause after each request."""
        until, due = self.now + seconds, dict.fromkeys(range(len(limiters)), self.now)
        roll = random.Random(7)
        while (next_at := min(due.values())) < until:
            index = roll.choice([index for index, at in due.items() if at == next_at])
            self.now = max(self.now, next_at)
            delay = limiters[index].acquire(self.now - START, RATE)
            if delay == 0.0:
                self.sent.append(self.now)
            due[index] = self.now + (delay or pause)
        self.now = until

    def most_in_a_second(self) -> int:
        return max(sum(1 for at in self.sent if begin <= at < begin + 1.0) for begin in self.sent)


class _LaterThread:
    """A thread that is run later."""

    pending: ClassVar[list[Any]] = []

    def __init__(self, target: Any, args: Any, **_: Any) -> None:
        self._run = lambda: target(*args)

    def start(self) -> None:
        _LaterThread.pending.append(self._run)


@pytest.fixture(autouse=True)
def run_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what a thread would do after the call that started it, outside of its lock."""
    _LaterThread.pending.clear()
    acquire = SharedRate.acquire

    def then_run(self: SharedRate, now: float, per_second: float) -> float | None:
        found = acquire(self, now, per_second)
        while _LaterThread.pending:
            _LaterThread.pending.pop(0)()
        return found

    monkeypatch.setattr(SharedRate, "acquire", then_run)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize(("count", "seconds"), [(1, 60.0), (2, 60.0), (6, 60.0), (30, 40.0)])
def test_all_processes_together_use_the_rate_and_never_pass_it(world: World, count: int, seconds: float) -> None:
    world.run(seconds, [world.process() for _ in range(count)])

    assert world.most_in_a_second() <= RATE
    assert len(world.sent) >= 0.95 * RATE * seconds
    assert min(after - before for before, after in pairwise(world.sent)) > 0.99 / RATE


def test_slots_of_a_process_that_dies_are_lost_and_hold_up_nobody(world: World) -> None:
    dying, living = world.process(), world.process()
    world.run(30.0, [dying, living])
    before = len(world.sent)
    world.run(30.0, [living])

    assert world.most_in_a_second() <= RATE
    # It may have reserved twice.
    assert len(world.sent) - before >= 0.95 * RATE * (30.0 - 2 * shared_rate.MAX_RESERVED_SECONDS)


def test_a_process_that_needs_few_slots_leaves_the_rest_to_the_others(world: World) -> None:
    world.run(30.0, [world.process()], pause=3.0)
    assert len(world.sent) == 10
    assert world.writes <= 11


def test_a_busy_process_writes_the_object_once_in_about_a_second(world: World) -> None:
    world.run(60.0, [world.process()])
    assert world.writes <= 75


def test_a_store_that_is_away_leaves_each_process_its_share(world: World, caplog: pytest.LogCaptureFixture) -> None:
    processes = [world.process() for _ in range(4)]
    world.run(20.0, processes)
    world.is_away, before = True, len(world.sent)
    with caplog.at_level(logging.INFO):
        world.run(60.0, processes)
        assert 0.9 * RATE * 60.0 <= len(world.sent) - before <= RATE * 62.0
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
        world.is_away = False
        world.run(30.0, processes)
    assert "can be used again" in caplog.text
    last = [at for at in world.sent if at > world.now - 15.0]
    assert len(last) >= 0.94 * RATE * 15.0


def test_a_store_that_was_never_there_does_not_stop_the_polls(world: World) -> None:
    world.is_away = True
    world.run(60.0, [world.process()])
    assert len(world.sent) == pytest.approx(60.0 * RATE * shared_rate.UNKNOWN_SHARE, abs=3)


def test_a_store_that_hangs_does_not_stop_the_polls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_LaterThread, "start", lambda self: None)
    world.run(60.0, [world.process()])
    expected = (60.0 - shared_rate.STORE_TIMEOUT) * RATE * shared_rate.UNKNOWN_SHARE
    assert len(world.sent) == pytest.approx(expected, abs=3)


def test_a_thread_that_can_not_be_started_does_not_stop_the_polls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_LaterThread, "start", refuse)
    world.run(60.0, [world.process()])
    assert len(world.sent) == pytest.approx(60.0 * RATE * shared_rate.UNKNOWN_SHARE, abs=3)


def test_a_reservation_whose_thread_is_gone_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = _LaterThread.start
    monkeypatch.setattr(_LaterThread, "start", lambda self: None)
    process = world.process()
    world.run(10.0, [process])
    monkeypatch.setattr(_LaterThread, "start", start)
    world.run(shared_rate.LOST_AFTER, [process])
    before = len(world.sent)
    world.run(10.0, [process])
    assert len(world.sent) - before >= 0.9 * RATE * 10.0


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_process_with_a_wrong_clock_does_not_stop_the_others(
    world: World, skew: float, caplog: pytest.LogCaptureFixture
) -> None:
    world.run(10.0, [world.process(skew)])
    before = len(world.sent)
    world.run(60.0, [world.process()])
    assert len(world.sent) > before + 20
    assert ("the clocks of the processes differ" in caplog.text) == (skew > 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"next_at": "soon", "processes": {}}'])
def test_a_damaged_object_is_written_anew(world: World, content: bytes) -> None:
    world.store.write_document("limits/account", content, None)
    world.run(10.0, [world.process()])
    assert len(world.sent) >= 40
    assert json.loads(world.store.read_document("limits/account").content)["version"] == shared_rate.VERSION


def test_slots_follow_each_other_whoever_reserves_them() -> None:
    roll, state, now = random.Random(3), RateState(), START
    slots: list[float] = []
    for _ in range(500):
        now += roll.choice([0.0, 0.0, 0.3, 5.0])
        state, reserved = state.reserve(f"process-{roll.randrange(5)}", roll.randrange(1, 6), now, 0.2)
        assert reserved[0] >= now
        slots += reserved
    assert min(after - before for before, after in pairwise(slots)) >= 0.199
    assert RateState.from_json(state.to_json()).next_at == pytest.approx(state.next_at)
    assert RATE_MARGIN > 1.0


def test_a_process_that_is_gone_is_not_counted() -> None:
    state, _ = RateState().reserve("gone", 1, START, 0.2)
    state, _ = state.reserve("here", 1, START + shared_rate.PROCESS_TIMEOUT + 1.0, 0.2)
    assert set(state.processes) == {"here"}


def build_rate(tmp_path: Path, store: Any = None) -> SharedRate:
    return SharedRate(
        store or FileStore(tmp_path / "ledger"), "limits/account", clock=lambda: START, monotonic=lambda: 0.0
    )


def test_slots_that_were_missed_are_not_made_up_for(tmp_path: Path) -> None:
    spacing = RATE_MARGIN / RATE
    rate = build_rate(tmp_path)
    rate._reserve(4, spacing)
    last = max(rate._slots)
    assert rate.acquire(last + shared_rate.MAX_LATENESS + 1.0, RATE) != 0.0
    assert not rate._slots


def test_a_process_that_uses_its_slots_a_little_late_counts_as_busy(tmp_path: Path) -> None:
    per_second = 200.0
    rate = build_rate(tmp_path)
    rate._count = 4
    rate._reserve(4, RATE_MARGIN / per_second)
    rate._reserve = lambda count, spacing: None  # type: ignore[method-assign]
    late = rate._slots[0] + 0.6 * shared_rate.MAX_LATENESS
    assert [rate.acquire(late, per_second) for _ in range(2)] == [0.0, 0.0]
    assert (len(rate._slots), rate._count) == (2, 8)


def test_an_object_that_changes_all_the_time_leaves_the_process_its_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Contended(FileStore):
        def write_document(self, name: str, content: bytes, version: str | None) -> str:
            raise ConflictError("changed")

    rate = build_rate(tmp_path, Contended(tmp_path / "ledger"))
    rate._reserve(4, RATE_MARGIN / RATE)
    assert not rate._slots
    assert "times in a row" in caplog.text
