# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_wan.batch.scheduler import BatchScheduler, compute_wake_count
from airflow_provider_wan.batch.throttle import ConcurrencyWindow, SubmitPacer

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class FakeItem:
    row: int


def make_scheduler(size: int = 3, *, per_second: float = 1000.0, lookahead: int = 4) -> Any:
    return BatchScheduler(ConcurrencyWindow.open(size, NOW), SubmitPacer(per_second), lookahead, poll_interval=10.0)


def filled(scheduler: Any, count: Any) -> Any:
    for row in range(1, count + 1):
        scheduler.add_ready(FakeItem(row))
    return scheduler


def submit_all(scheduler: Any, now: Any = NOW) -> Any:
    rows = []
    while (item := scheduler.next_item(now)) is not None:
        scheduler.add_in_flight(item, f"r{item.row}", now)
        rows.append(item.row)
    return rows


def test_no_more_than_the_window_are_in_flight_and_the_first_go_first() -> None:
    scheduler = filled(make_scheduler(3), 5)

    assert submit_all(scheduler) == [1, 2, 3]
    scheduler.pop_in_flight(2)
    assert submit_all(scheduler) == [4]


def test_submissions_keep_the_pace() -> None:
    scheduler = filled(make_scheduler(3, per_second=2.0), 2)
    scheduler.add_in_flight(scheduler.next_item(NOW), "r1", NOW)
    scheduler.record_submission(NOW)

    assert scheduler.next_item(NOW + 0.4) is None
    assert scheduler.wake_at(include_polls=False) == NOW + 0.5
    assert scheduler.next_item(NOW + 0.5) == FakeItem(2)


def test_what_was_refused_goes_first_when_the_pause_is_over() -> None:
    scheduler = filled(make_scheduler(4), 4)
    scheduler.refuse(scheduler.next_item(NOW), NOW, 5.0, pause=5.0, is_limit=True)

    assert scheduler.next_item(NOW + 4.9) is None
    assert scheduler.wake_at() == NOW + 5.0
    assert submit_all(scheduler, NOW + 5.0) == [1, 2]


def test_no_connection_pauses_and_does_not_shrink_the_window() -> None:
    scheduler = filled(make_scheduler(4), 1)
    scheduler.refuse(scheduler.next_item(NOW), NOW, 5.0, pause=5.0, is_limit=False)

    assert scheduler.window.size == 4


def test_a_doubt_keeps_its_place_in_the_window_and_goes_on_although_it_is_full() -> None:
    scheduler = filled(make_scheduler(2), 3)
    scheduler.defer(scheduler.next_item(NOW), NOW + 90.0, in_doubt=True)

    assert submit_all(scheduler) == [2]
    assert scheduler.has_doubt
    assert scheduler.next_item(NOW + 89.0) is None
    assert scheduler.next_item(NOW + 90.0) == FakeItem(1)


def test_a_deferred_item_waits_for_its_time_and_for_room() -> None:
    scheduler = filled(make_scheduler(1), 2)
    scheduler.defer(scheduler.next_item(NOW), NOW + 20.0)

    assert submit_all(scheduler) == [2]
    assert scheduler.next_item(NOW + 30.0) is None
    scheduler.pop_in_flight(2)
    assert scheduler.next_item(NOW + 30.0) == FakeItem(1)


def test_no_more_rows_are_read_than_can_be_used() -> None:
    scheduler = filled(make_scheduler(3, lookahead=4), 1)

    assert scheduler.count_wanted(0, free_slots_only=False) == 3
    assert scheduler.count_wanted(2, free_slots_only=False) == 1
    assert scheduler.count_wanted(0, free_slots_only=True) == 2
    submit_all(scheduler)
    assert scheduler.count_wanted(0, free_slots_only=True) == 2


def test_after_a_stop_nothing_is_submitted_and_the_rest_is_returned() -> None:
    scheduler = filled(make_scheduler(2), 4)
    scheduler.defer(scheduler.next_item(NOW), NOW + 90.0, in_doubt=True)
    scheduler.defer(scheduler.next_item(NOW), NOW + 20.0)
    skipped, doubtful = scheduler.stop()

    assert ([item.row for item in skipped], [item.row for item in doubtful]) == ([3, 4, 2], [1])
    assert scheduler.next_item(NOW + 100) is None
    assert scheduler.count_wanted(0, free_slots_only=False) == 0


def test_it_polls_only_if_something_is_in_flight() -> None:
    scheduler = filled(make_scheduler(1), 1)
    assert not scheduler.poll_due(NOW)
    submit_all(scheduler)
    assert scheduler.poll_due(NOW)
    scheduler.record_poll(NOW)
    assert not scheduler.poll_due(NOW + 9.9)
    assert scheduler.poll_due(NOW + 10.0)


def test_a_deferral_cycle_is_worth_a_worker_when_a_quarter_has_ended() -> None:
    assert [compute_wake_count(size, is_last=False) for size in (1, 3, 4, 40)] == [1, 1, 1, 10]


def test_at_the_end_of_a_batch_more_clips_are_archived_together() -> None:
    assert [compute_wake_count(size, is_last=True) for size in (1, 12, 13, 40)] == [1, 12, 9, 30]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["ready", "submit", "refuse", "later", "doubt", "end", "wait"]), st.floats(0, 60)),
    max_size=120,
)


@settings(max_examples=200)
@given(st.integers(1, 6), ACTIONS)
def test_whatever_happens_no_clip_is_lost_or_doubled_and_the_window_holds(size: Any, actions: Any) -> None:
    scheduler, now, made, ended = make_scheduler(size), NOW, 0, set()
    for action, seconds in actions:
        if action == "ready":
            made += 1
            scheduler.add_ready(FakeItem(made))
        elif action == "wait":
            now += seconds
        elif action == "end" and scheduler.in_flight:
            row = min(scheduler.in_flight)
            ended.add(scheduler.pop_in_flight(row).item.row)
        elif action in ("submit", "refuse", "later", "doubt"):
            before = scheduler.occupied
            has_doubt = scheduler.has_doubt
            item = scheduler.next_item(now)
            if item is None:
                continue
            assert before < scheduler.window.size or has_doubt
            if action == "submit":
                scheduler.add_in_flight(item, f"r{item.row}", now)
            elif action == "refuse":
                scheduler.refuse(item, now, seconds, pause=seconds, is_limit=True)
            else:
                scheduler.defer(item, now + seconds, in_doubt=action == "doubt")
            assert scheduler.occupied <= max(before, scheduler.window.ceiling)
        known = [*scheduler.open_rows(), *scheduler.in_flight, *ended]
        assert sorted(known) == list(range(1, made + 1))
