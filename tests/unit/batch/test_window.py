# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_wan.batch.window import COOL_SECONDS, GROW_SECONDS, Pace, Window

NOW = 1_700_000_000.0


def test_a_refusal_halves_it_and_pauses():
    window = Window.open(20, NOW).refused(NOW, 5.0)

    assert (window.size, window.pause_until) == (10, NOW + 5.0)


def test_refusals_of_one_trouble_halve_it_once():
    window = Window.open(20, NOW)
    for second in range(10):
        window = window.refused(NOW + second, 1.0)

    assert window.size == 10


def test_a_refusal_after_a_while_halves_it_again():
    window = Window.open(20, NOW).refused(NOW, 1.0).refused(NOW + COOL_SECONDS, 1.0)

    assert window.size == 5


def test_it_grows_with_time_up_to_its_ceiling():
    window = Window.open(20, NOW).refused(NOW, 0.0)

    assert window.grown(NOW + GROW_SECONDS - 1).size == 10
    assert window.grown(NOW + GROW_SECONDS).size == 12
    assert window.grown(NOW + 100 * GROW_SECONDS).size == 20


def test_a_pause_does_not_count_as_time_to_grow():
    window = Window.open(20, NOW).refused(NOW, 600.0)

    assert window.grown(NOW + 600.0).size == 10


def test_it_comes_back_from_the_journal_within_a_new_ceiling():
    window = Window.open(20, NOW).refused(NOW, 5.0)

    assert Window.from_json(window.as_json(), 20) == window
    assert Window.from_json(window.as_json(), 4).size == 4


EVENTS = st.lists(st.tuples(st.booleans(), st.floats(0, 1000), st.floats(0, 1000)), max_size=40)


@given(st.integers(1, 500), EVENTS)
def test_whatever_happens_it_stays_between_one_and_its_ceiling(ceiling, events):
    window, now = Window.open(ceiling, NOW), NOW
    for refused, seconds, wait in events:
        now += seconds
        before = window.size
        window = window.refused(now, wait) if refused else window.grown(now)
        assert 1 <= window.size <= ceiling
        assert window.size <= before if refused else window.size >= before
        assert not refused or window.pause_until >= now + wait


@given(st.floats(0.1, 100), st.lists(st.floats(0, 5), min_size=2, max_size=60))
def test_a_pace_is_never_exceeded(per_second, waits):
    pace, now, taken = Pace(per_second), NOW, []
    for wait in waits:
        now = max(now + wait, pace.next_at)
        pace = pace.taken(now)
        taken.append(now)
    for first in range(len(taken)):
        for last in range(first + 1, len(taken)):
            span = taken[last] - taken[first]
            # One more than the span allows, for the delay of a moment that may be made up for.
            assert last - first <= span * per_second + 1 + 1e-3
