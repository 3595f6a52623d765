# SPDX-License-Identifier: Apache-2.0
"""What is looked at when, by a clock of the test's own."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.polling.durations import Durations
from airflow_provider_wan.polling.pace import Pace
from airflow_provider_wan.polling.plan import PAGE, Look, Plan
from airflow_provider_wan.polling.schedule import Wait

START = 1_000_000.0
KIND = ("720P", 5)


def record(request_id, status="processing", *, created=START, updated=None):
    return RequestRecord(
        request_id,
        RequestStatus(status),
        status,
        created_at=created,
        updated_at=updated if updated is not None else created,
        payload={"resolution": KIND[0], "duration": KIND[1]},
    )


def plan_of(*ids, seconds=(), submitted_at=None, end=1e9, not_before=0.0):
    durations = Durations()
    for each in seconds:
        durations.add(KIND, each)
    plan = Plan(durations)
    for each in ids:
        plan.add(Wait(each, START + end, not_before, 10.0, None, *KIND, submitted_at), START, -1.0)
    return plan


SIXTY = [54.0, 56.0, 57.0, 58.0, 59.0, 60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0] * 2


def looks_at(plan, request_id="r0", *, answer, until):
    """The times, after the start, at which one clip is looked at."""
    now, times = START, []
    while now < START + until:
        looks, again = plan.looks(now, 5, 5.0)
        for look in looks:
            times.append(round(now - START, 1))
            plan.record_came(look, answer(now), now, now)
        now = max(now + 0.25, min(again, now + 1.0))
    return times


def test_where_nothing_is_known_looks_are_even():
    times = looks_at(plan_of("r0"), answer=lambda _: record("r0"), until=100)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 0.0
    assert all(9.0 <= gap <= 14.5 for gap in gaps)


def test_a_clip_that_can_not_be_done_yet_is_not_looked_at():
    plan = plan_of("r0", seconds=SIXTY, submitted_at=START)
    times = looks_at(plan, answer=lambda _: record("r0", updated=START), until=120)
    assert times[0] > 40
    assert sum(50 < each < 80 for each in times) >= 2


def test_time_in_the_queue_does_not_count_as_running():
    plan = plan_of("r0", seconds=SIXTY, submitted_at=START)
    began = START + 300

    def answer(now):
        return record("r0", "queued") if now < began else record("r0", updated=began)

    times = looks_at(plan, answer=answer, until=420)
    first_running = next(each for each in times if each >= 300)
    # Having seen when it began, it waits for the time at which its kind is done.
    assert not [each for each in times if first_running < each < 345]
    assert len([each for each in times if each < 300]) <= 8


def test_a_clip_that_runs_far_too_long_is_looked_at_ever_more_rarely():
    plan = plan_of("r0", seconds=SIXTY, submitted_at=START)
    times = looks_at(plan, answer=lambda _: record("r0", updated=START), until=4000)
    assert times[-1] - times[-2] > 60


def test_every_wait_gets_a_look_at_its_end():
    plan = plan_of("r0", seconds=SIXTY, submitted_at=START, end=33.0)
    assert 33.0 in [round(each) for each in looks_at(plan, answer=lambda _: record("r0"), until=40)]


def test_nothing_is_looked_at_before_its_time():
    plan = plan_of("r0", not_before=START + 8)
    assert plan.looks(START + 7.9, 5, 5.0)[0] == []
    assert plan.looks(START + 8.0, 5, 5.0)[0] != []


def page_of(plan, look, ids, now, **more):
    rows = [record(each, **more) for each in ids]
    plan.page_came(look, RequestPage(tuple(rows), len(rows)), now, now)


def test_one_clip_costs_a_look_up_and_many_cost_a_page():
    one, many = plan_of("r0"), plan_of(*(f"r{n}" for n in range(50)))
    assert [look.request_id for look in one.looks(START, 5, 5.0)[0]] == ["r0"]
    (look,) = many.looks(START, 5, 5.0)[0]
    assert (look.request_id, look.offset, look.limit) == (None, 0, PAGE)


def test_a_page_is_asked_for_where_the_clips_stand_by_now():
    plan = plan_of("r0", "r1")
    (look,) = plan.looks(START, 5, 5.0)[0]
    page_of(plan, look, ["x0", "r1", "r0"], START)
    (look,) = plan.looks(START + 15, 5, 5.0)[0]
    assert look.offset == 1
    # Thirty newer requests came meanwhile.
    page_of(plan, look, [*(f"n{n}" for n in range(30)), "r1", "r0"], START + 15)
    (look,) = plan.looks(START + 30, 5, 5.0)[0]
    assert look.offset <= 31 < look.offset + look.limit


def test_a_page_has_room_for_what_came_since_the_list_was_seen():
    plan = plan_of(*(f"r{n}" for n in range(195)))
    plan.places.growth, plan.places.base, plan.places._grew_at = 3.0, 194.0, START
    for n in range(195):
        plan.clips[f"r{n}"].rank = float(n)
    # Each page is planned at the places of the start; ten seconds later they are thirty places deeper.
    looks, _ = plan.looks(START + 10, 5, 5.0)
    ranks = {f"r{n}": n for n in range(195)}
    assert sorted(member for look in looks for member in look.members) == sorted(ranks)
    for look in looks:
        assert all(look.offset <= 194 - ranks[each] + 30 < look.offset + look.limit for each in look.members)


def test_a_larger_page_is_not_asked_for_again_where_it_was_refused():
    plan = plan_of(*(f"r{n}" for n in range(300)))
    for n in range(300):
        plan.clips[f"r{n}"].rank = float(n)
    looks, _ = plan.looks(START, 5, 5.0)
    assert looks[0].limit > PAGE
    for look in looks:
        plan.page_failed(look, errors.WanBadRequestError("limit"), START)
    looks, _ = plan.looks(START + 15, 5, 5.0)
    assert {look.limit for look in looks} == {PAGE}


def test_no_more_looks_are_chosen_than_may_be_made():
    plan = plan_of(*(f"r{n}" for n in range(500)))
    plan.list_health.failed(errors.WanNotFoundError("x"), START)
    looks, _ = plan.looks(START, 5, 5.0)
    assert len(looks) == 5
    assert len({look.request_id for look in plan.looks(START, 5, 5.0)[0]} | {look.request_id for look in looks}) == 10


def test_an_unreadable_clock_of_the_api_does_not_make_a_clip_wait():
    plan = plan_of("r0")
    times = looks_at(plan, answer=lambda _: record("r0", created=START * 1000, updated=-5.0), until=60)
    assert len(times) >= 4


@pytest.mark.parametrize("faster", [5.0, 1.0, 0.2])
def test_a_change_of_the_service_s_pace_is_learnt(faster):
    plan = plan_of(seconds=SIXTY)
    roll = random.Random(1)
    for n in range(120):
        begun = START + 1000.0 * n
        ran = 60.0 / faster * roll.uniform(0.9, 1.1)
        plan.add(Wait(f"r{n}", begun + 9999, begun, 10.0, None, *KIND, begun), begun, 0.0)
        now = begun
        while f"r{n}" in plan.clips:
            for look in plan.looks(now, 5, 5.0)[0]:
                done = now >= begun + ran
                status, updated = ("success", begun + ran) if done else ("processing", begun)
                plan.record_came(look, record(f"r{n}", status, created=begun, updated=updated), now, now)
                if done:
                    lag = now - begun - ran
                    plan.drop(f"r{n}")
            now += 1.0
    assert plan.durations.profile(KIND).typical == pytest.approx(60.0 / faster, rel=0.5)
    assert lag < 20


class TestDurations:
    def test_too_few_say_nothing(self):
        durations = Durations()
        for _ in range(7):
            durations.add(KIND, 60.0)
        assert durations.profile(KIND) is None

    def test_the_chance_grows_from_none_to_certainty(self):
        profile = plan_of(seconds=SIXTY).durations.profile(KIND)
        chances = [profile.chance(seconds) for seconds in (0, 30, 55, 60, 66, 200)]
        assert chances == sorted(chances)
        assert chances[0] == 0.0
        assert chances[1] < 0.01
        assert 0.3 < profile.chance(60) < 0.7
        assert chances[-1] == 1.0

    def test_what_is_expected_of_a_clip_is_the_integral_of_its_chance(self):
        profile = plan_of(seconds=SIXTY).durations.profile(KIND)
        step = 0.01
        summed = sum(profile.unseen(0.0, n * step)[0] * step for n in range(5500))
        assert profile.unseen(0.0, 55.0)[1] == pytest.approx(summed, rel=0.03)
        summed = sum(profile.unseen_in_queue(n * step, 0.001)[0] * step for n in range(9000))
        assert profile.unseen_in_queue(90.0, 0.001)[1] == pytest.approx(summed, rel=0.05)

    @pytest.mark.parametrize("seconds", [0.0, -5.0, float("inf"), 1e7])
    def test_impossible_ones_are_not_taken_in(self, seconds):
        durations = Durations()
        for _ in range(20):
            durations.add(KIND, seconds)
        assert durations.profile(KIND) is None


class TestPace:
    def test_retry_after_is_obeyed_but_not_for_ever(self):
        pace = Pace()
        pace.failed(errors.WanRateLimitError("x", 30.0), 100.0, 10.0, 0.0)
        assert pace.pause(100.0) == 30.0
        pace.failed(errors.WanRateLimitError("x", 1e9), 100.0, 10.0, 0.0)
        assert pace.pause(100.0) == 300.0

    def test_without_a_word_the_pause_doubles_up_to_a_minute(self):
        pace, now, pauses = Pace(), 100.0, []
        for _ in range(6):
            pace.failed(errors.WanRateLimitError("x"), now, 10.0, 0.0)
            pauses.append(pace.pause(now))
            now += pauses[-1]
        assert pauses == [10, 20, 40, 60, 60, 60]
        pace.answered()
        pace.failed(errors.WanRateLimitError("x"), now, 10.0, 0.0)
        assert pace.pause(now) == 10

    def test_single_failures_do_not_stop_the_others(self):
        pace = Pace()
        assert not pace.failed(errors.WanLookupError("x"), 100.0, 10.0, 0.0)
        assert pace.pause(100.0) == 0.0
        pace.answered()
        assert [pace.failed(errors.WanLookupError("x"), 100.0, 10.0, 0.0) for _ in range(3)] == [False, False, True]
        assert pace.pause(100.0) == 10.0


def test_a_look_that_was_not_made_is_made_later():
    plan = plan_of("r0")
    (look,) = plan.looks(START, 5, 5.0)[0]
    assert plan.looks(START + 1, 5, 5.0)[0] == []
    plan.release(look)
    assert plan.looks(START + 2, 5, 5.0)[0] == [look]
    assert isinstance(look, Look)
