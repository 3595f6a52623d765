# SPDX-License-Identifier: Apache-2.0
"""What is polled when, by a simulated clock."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.polling.decision import PAGE_SIZE, Poll, PollTarget
from airflow_provider_wan.polling.runtime_stats import RuntimeStats
from airflow_provider_wan.polling.scheduler import PollScheduler
from airflow_provider_wan.polling.throttle import CircuitBreaker

START = 1_000_000.0
KIND = ("720P", 5)


def record(request_id: Any, status: str = "processing", *, created: Any = START, updated: Any = None) -> Any:
    return RequestRecord(
        request_id,
        RequestStatus(status),
        status,
        created_at=created,
        updated_at=updated if updated is not None else created,
        payload={"resolution": KIND[0], "duration": KIND[1]},
    )


def build_scheduler(
    *ids: Any, seconds: Any = (), submitted_at: Any = None, end: float = 1e9, not_before: float = 0.0
) -> Any:
    runtime_stats = RuntimeStats()
    for each in seconds:
        runtime_stats.add(KIND, each)
    scheduler = PollScheduler(runtime_stats)
    for each in ids:
        scheduler.add(PollTarget(each, START + end, not_before, 10.0, None, *KIND, submitted_at), START, -1.0)
    return scheduler


SIXTY = [54.0, 56.0, 57.0, 58.0, 59.0, 60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0] * 2


def poll_times(scheduler: Any, request_id: str = "r0", *, response: Any, until: Any) -> Any:
    """Return the times, after the start, at which one request is polled."""
    now, times = START, []
    while now < START + until:
        polls, again = scheduler.select_polls(now, 5, 5.0)
        for poll in polls:
            times.append(round(now - START, 1))
            scheduler.on_record(poll, response(now), now, now)
        now = max(now + 0.25, min(again, now + 1.0))
    return times


def test_where_nothing_is_known_polls_are_even() -> None:
    times = poll_times(build_scheduler("r0"), response=lambda _: record("r0"), until=100)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 0.0
    assert all(9.0 <= gap <= 14.5 for gap in gaps)


def test_a_clip_that_can_not_be_done_yet_is_not_polled() -> None:
    scheduler = build_scheduler("r0", seconds=SIXTY, submitted_at=START)
    times = poll_times(scheduler, response=lambda _: record("r0", updated=START), until=120)
    assert times[0] > 40
    assert sum(50 < each < 80 for each in times) >= 2


def test_time_in_the_queue_does_not_count_as_running() -> None:
    scheduler = build_scheduler("r0", seconds=SIXTY, submitted_at=START)
    began = START + 300

    def response(now: Any) -> Any:
        return record("r0", "queued") if now < began else record("r0", updated=began)

    times = poll_times(scheduler, response=response, until=420)
    first_running = next(each for each in times if each >= 300)
    # Once its start is known, it is next polled at the usual end of its kind.
    assert not [each for each in times if first_running < each < 345]
    assert len([each for each in times if each < 300]) <= 8


def test_a_clip_that_runs_far_too_long_is_polled_ever_more_rarely() -> None:
    scheduler = build_scheduler("r0", seconds=SIXTY, submitted_at=START)
    times = poll_times(scheduler, response=lambda _: record("r0", updated=START), until=4000)
    assert times[-1] - times[-2] > 60


def test_every_wait_gets_a_poll_at_its_end() -> None:
    scheduler = build_scheduler("r0", seconds=SIXTY, submitted_at=START, end=33.0)
    assert 33.0 in [round(each) for each in poll_times(scheduler, response=lambda _: record("r0"), until=40)]


def test_nothing_is_polled_before_its_time() -> None:
    scheduler = build_scheduler("r0", not_before=START + 8)
    assert scheduler.select_polls(START + 7.9, 5, 5.0)[0] == []
    assert scheduler.select_polls(START + 8.0, 5, 5.0)[0] != []


def receive_page(scheduler: Any, poll: Any, ids: Any, now: Any, **more: Any) -> None:
    rows = [record(each, **more) for each in ids]
    scheduler.on_page(poll, RequestPage(tuple(rows), len(rows)), now, now)


def test_one_clip_costs_a_lookup_and_many_cost_a_page() -> None:
    one, many = build_scheduler("r0"), build_scheduler(*(f"r{n}" for n in range(50)))
    assert [poll.request_id for poll in one.select_polls(START, 5, 5.0)[0]] == ["r0"]
    (poll,) = many.select_polls(START, 5, 5.0)[0]
    assert (poll.request_id, poll.offset, poll.limit) == (None, 0, PAGE_SIZE)


def test_a_page_is_asked_for_if_the_clips_stand_by_now() -> None:
    scheduler = build_scheduler("r0", "r1")
    (poll,) = scheduler.select_polls(START, 5, 5.0)[0]
    receive_page(scheduler, poll, ["x0", "r1", "r0"], START)
    (poll,) = scheduler.select_polls(START + 15, 5, 5.0)[0]
    assert poll.offset == 1
    # Thirty newer requests came meanwhile.
    receive_page(scheduler, poll, [*(f"n{n}" for n in range(30)), "r1", "r0"], START + 15)
    (poll,) = scheduler.select_polls(START + 30, 5, 5.0)[0]
    assert poll.offset <= 31 < poll.offset + poll.limit


def test_a_page_has_room_for_submissions_since_the_last_page() -> None:
    scheduler = build_scheduler(*(f"r{n}" for n in range(195)))
    scheduler.list_index.growth, scheduler.list_index.base, scheduler.list_index._growth_measured_at = 3.0, 194.0, START
    for n in range(195):
        scheduler.requests[f"r{n}"].rank = float(n)
    # Each page is planned at the positions of the start; ten seconds later they are thirty positions deeper.
    polls, _ = scheduler.select_polls(START + 10, 5, 5.0)
    ranks = {f"r{n}": n for n in range(195)}
    assert sorted(member for poll in polls for member in poll.members) == sorted(ranks)
    for poll in polls:
        assert all(poll.offset <= 194 - ranks[each] + 30 < poll.offset + poll.limit for each in poll.members)


def test_a_larger_page_is_not_asked_for_again_where_it_was_refused() -> None:
    scheduler = build_scheduler(*(f"r{n}" for n in range(300)))
    for n in range(300):
        scheduler.requests[f"r{n}"].rank = float(n)
    polls, _ = scheduler.select_polls(START, 5, 5.0)
    assert polls[0].limit > PAGE_SIZE
    for poll in polls:
        scheduler.on_page_error(poll, errors.WanBadRequestError("limit"), START)
    polls, _ = scheduler.select_polls(START + 15, 5, 5.0)
    assert {poll.limit for poll in polls} == {PAGE_SIZE}


def test_no_more_polls_are_chosen_than_may_be_made() -> None:
    scheduler = build_scheduler(*(f"r{n}" for n in range(500)))
    scheduler.list_availability.record_failure(errors.WanNotFoundError("x"), START)
    polls, _ = scheduler.select_polls(START, 5, 5.0)
    assert len(polls) == 5
    assert (
        len(
            {poll.request_id for poll in scheduler.select_polls(START, 5, 5.0)[0]} | {poll.request_id for poll in polls}
        )
        == 10
    )


def test_an_unreadable_clock_of_the_api_does_not_make_a_clip_wait() -> None:
    scheduler = build_scheduler("r0")
    times = poll_times(scheduler, response=lambda _: record("r0", created=START * 1000, updated=-5.0), until=60)
    assert len(times) >= 4


@pytest.mark.parametrize("faster", [5.0, 1.0, 0.2])
def test_a_change_of_the_service_s_pace_is_learned(faster: float) -> None:
    scheduler = build_scheduler(seconds=SIXTY)
    roll = random.Random(1)
    for n in range(120):
        begun = START + 1000.0 * n
        ran = 60.0 / faster * roll.uniform(0.9, 1.1)
        scheduler.add(PollTarget(f"r{n}", begun + 9999, begun, 10.0, None, *KIND, begun), begun, 0.0)
        now = begun
        while f"r{n}" in scheduler.requests:
            for poll in scheduler.select_polls(now, 5, 5.0)[0]:
                done = now >= begun + ran
                status, updated = ("success", begun + ran) if done else ("processing", begun)
                scheduler.on_record(poll, record(f"r{n}", status, created=begun, updated=updated), now, now)
                if done:
                    lag = now - begun - ran
                    scheduler.remove(f"r{n}")
            now += 1.0
    assert scheduler.runtime_stats.distribution(KIND).median == pytest.approx(60.0 / faster, rel=0.5)
    assert lag < 20


class TestRuntimeStats:
    def test_too_few_say_nothing(self) -> None:
        runtime_stats = RuntimeStats()
        for _ in range(7):
            runtime_stats.add(KIND, 60.0)
        assert runtime_stats.distribution(KIND) is None

    def test_the_chance_grows_from_none_to_certainty(self) -> None:
        distribution = build_scheduler(seconds=SIXTY).runtime_stats.distribution(KIND)
        chances = [distribution.probability(seconds) for seconds in (0, 30, 55, 60, 66, 200)]
        assert chances == sorted(chances)
        assert chances[0] == 0.0
        assert chances[1] < 0.01
        assert 0.3 < distribution.probability(60) < 0.7
        assert chances[-1] == 1.0

    def test_what_is_expected_of_a_clip_is_the_integral_of_its_chance(self) -> None:
        distribution = build_scheduler(seconds=SIXTY).runtime_stats.distribution(KIND)
        step = 0.01
        summed = sum(distribution.expected_completion(0.0, n * step)[0] * step for n in range(5500))
        assert distribution.expected_completion(0.0, 55.0)[1] == pytest.approx(summed, rel=0.03)
        summed = sum(distribution.expected_completion_from_queue(n * step, 0.001)[0] * step for n in range(9000))
        assert distribution.expected_completion_from_queue(90.0, 0.001)[1] == pytest.approx(summed, rel=0.05)

    @pytest.mark.parametrize("seconds", [0.0, -5.0, float("inf"), 1e7])
    def test_impossible_ones_are_not_taken_in(self, seconds: Any) -> None:
        runtime_stats = RuntimeStats()
        for _ in range(20):
            runtime_stats.add(KIND, seconds)
        assert runtime_stats.distribution(KIND) is None


class TestCircuitBreaker:
    def test_retry_after_is_obeyed_but_not_for_ever(self) -> None:
        breaker = CircuitBreaker()
        breaker.record_failure(errors.WanRateLimitError("x", 30.0), 100.0, 10.0, 0.0)
        assert breaker.remaining_pause(100.0) == 30.0
        breaker.record_failure(errors.WanRateLimitError("x", 1e9), 100.0, 10.0, 0.0)
        assert breaker.remaining_pause(100.0) == 300.0

    def test_without_a_word_the_pause_doubles_up_to_a_minute(self) -> None:
        breaker, now, pauses = CircuitBreaker(), 100.0, []
        for _ in range(6):
            breaker.record_failure(errors.WanRateLimitError("x"), now, 10.0, 0.0)
            pauses.append(breaker.remaining_pause(now))
            now += pauses[-1]
        assert pauses == [10, 20, 40, 60, 60, 60]
        breaker.record_success()
        breaker.record_failure(errors.WanRateLimitError("x"), now, 10.0, 0.0)
        assert breaker.remaining_pause(now) == 10

    def test_single_failures_do_not_stop_the_others(self) -> None:
        breaker = CircuitBreaker()
        assert not breaker.record_failure(errors.WanLookupError("x"), 100.0, 10.0, 0.0)
        assert breaker.remaining_pause(100.0) == 0.0
        breaker.record_success()
        assert [breaker.record_failure(errors.WanLookupError("x"), 100.0, 10.0, 0.0) for _ in range(3)] == [
            False,
            False,
            True,
        ]
        assert breaker.remaining_pause(100.0) == 10.0


def test_a_poll_that_was_not_made_is_made_later() -> None:
    scheduler = build_scheduler("r0")
    (poll,) = scheduler.select_polls(START, 5, 5.0)[0]
    assert scheduler.select_polls(START + 1, 5, 5.0)[0] == []
    scheduler.release(poll)
    assert scheduler.select_polls(START + 2, 5, 5.0)[0] == [poll]
    assert isinstance(poll, Poll)
