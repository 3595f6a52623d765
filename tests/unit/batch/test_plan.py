# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_wan.batch.plan import Plan, wake_after
from airflow_provider_wan.batch.window import Pace, Window

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Clip:
    row: int


def a_plan(size=3, *, per_second=1000.0, ahead=4):
    return Plan(Window.open(size, NOW), Pace(per_second), ahead, poll_interval=10.0)


def filled(plan, count):
    for row in range(1, count + 1):
        plan.ready(Clip(row))
    return plan


def submit_all(plan, now=NOW):
    rows = []
    while (clip := plan.next_clip(now)) is not None:
        plan.submitted(clip, f"r{clip.row}", now)
        rows.append(clip.row)
    return rows


def test_no_more_than_the_window_are_under_way_and_the_first_go_first():
    plan = filled(a_plan(3), 5)

    assert submit_all(plan) == [1, 2, 3]
    plan.ended(2)
    assert submit_all(plan) == [4]


def test_submissions_keep_the_pace():
    plan = filled(a_plan(3, per_second=2.0), 2)
    plan.submitted(plan.next_clip(NOW), "r1", NOW)
    plan.paid(NOW)

    assert plan.next_clip(NOW + 0.4) is None
    assert plan.wake_at(looks=False) == NOW + 0.5
    assert plan.next_clip(NOW + 0.5) == Clip(2)


def test_what_was_refused_goes_first_when_the_pause_is_over():
    plan = filled(a_plan(4), 4)
    plan.refused(plan.next_clip(NOW), NOW, 5.0, limit=True)

    assert plan.next_clip(NOW + 4.9) is None
    assert plan.wake_at() == NOW + 5.0
    assert submit_all(plan, NOW + 5.0) == [1, 2]


def test_no_connection_pauses_and_does_not_shrink_the_window():
    plan = filled(a_plan(4), 1)
    plan.refused(plan.next_clip(NOW), NOW, 5.0, limit=False)

    assert plan.window.size == 4


def test_a_doubt_keeps_its_place_in_the_window_and_goes_on_although_it_is_full():
    plan = filled(a_plan(2), 3)
    plan.put_off(plan.next_clip(NOW), NOW + 90.0, held=True)

    assert submit_all(plan) == [2]
    assert plan.in_doubt
    assert plan.next_clip(NOW + 89.0) is None
    assert plan.next_clip(NOW + 90.0) == Clip(1)


def test_what_was_put_off_waits_for_its_time_and_for_room():
    plan = filled(a_plan(1), 2)
    plan.put_off(plan.next_clip(NOW), NOW + 20.0)

    assert submit_all(plan) == [2]
    assert plan.next_clip(NOW + 30.0) is None
    plan.ended(2)
    assert plan.next_clip(NOW + 30.0) == Clip(1)


def test_so_many_are_made_ready_as_can_be_used():
    plan = filled(a_plan(3, ahead=4), 1)

    assert plan.wanted(0, only_room=False) == 3
    assert plan.wanted(2, only_room=False) == 1
    assert plan.wanted(0, only_room=True) == 2
    submit_all(plan)
    assert plan.wanted(0, only_room=True) == 2


def test_after_a_stop_nothing_is_submitted_and_all_that_is_left_is_told():
    plan = filled(a_plan(2), 4)
    plan.put_off(plan.next_clip(NOW), NOW + 90.0, held=True)
    plan.put_off(plan.next_clip(NOW), NOW + 20.0)
    left, doubtful = plan.stop()

    assert ([clip.row for clip in left], [clip.row for clip in doubtful]) == ([3, 4, 2], [1])
    assert plan.next_clip(NOW + 100) is None
    assert plan.wanted(0, only_room=False) == 0


def test_it_looks_only_where_something_is_under_way():
    plan = filled(a_plan(1), 1)
    assert not plan.look_due(NOW)
    submit_all(plan)
    assert plan.look_due(NOW)
    plan.looked(NOW)
    assert not plan.look_due(NOW + 9.9)
    assert plan.look_due(NOW + 10.0)


def test_a_wave_is_worth_a_worker_when_a_quarter_has_ended():
    assert [wake_after(size) for size in (1, 3, 4, 40)] == [1, 1, 1, 10]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["ready", "submit", "refuse", "later", "doubt", "end", "wait"]), st.floats(0, 60)),
    max_size=120,
)


@settings(max_examples=200)
@given(st.integers(1, 6), ACTIONS)
def test_whatever_happens_no_clip_is_lost_or_doubled_and_the_window_holds(size, actions):
    plan, now, made, ended = a_plan(size), NOW, 0, set()
    for action, seconds in actions:
        if action == "ready":
            made += 1
            plan.ready(Clip(made))
        elif action == "wait":
            now += seconds
        elif action == "end" and plan.running:
            row = min(plan.running)
            ended.add(plan.ended(row).clip.row)
        elif action in ("submit", "refuse", "later", "doubt"):
            before = plan.under_way
            held = plan.in_doubt
            clip = plan.next_clip(now)
            if clip is None:
                continue
            assert before < plan.window.size or held
            if action == "submit":
                plan.submitted(clip, f"r{clip.row}", now)
            elif action == "refuse":
                plan.refused(clip, now, seconds, limit=True)
            else:
                plan.put_off(clip, now + seconds, held=action == "doubt")
            assert plan.under_way <= max(before, plan.window.ceiling)
        known = [*plan.open_rows(), *plan.running, *ended]
        assert sorted(known) == list(range(1, made + 1))
