# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_wan.batch.throttle import COOLDOWN_SECONDS, GROWTH_SECONDS, ConcurrencyWindow, SubmitPacer

NOW = 1_700_000_000.0


def test_a_refusal_halves_it_and_pauses() -> None:
    window = ConcurrencyWindow.open(20, NOW).refuse(NOW, 5.0)

    assert (window.size, window.pause_until) == (10, NOW + 5.0)


def test_refusals_of_one_trouble_halve_it_once() -> None:
    window = ConcurrencyWindow.open(20, NOW)
    for second in range(10):
        window = window.refuse(NOW + second, 1.0)

    assert window.size == 10


def test_a_refusal_after_a_while_halves_it_again() -> None:
    window = ConcurrencyWindow.open(20, NOW).refuse(NOW, 1.0).refuse(NOW + COOLDOWN_SECONDS, 1.0)

    assert window.size == 5


def test_it_grows_with_time_up_to_its_ceiling() -> None:
    window = ConcurrencyWindow.open(20, NOW).refuse(NOW, 0.0)

    assert window.grow(NOW + GROWTH_SECONDS - 1).size == 10
    assert window.grow(NOW + GROWTH_SECONDS).size == 12
    assert window.grow(NOW + 100 * GROWTH_SECONDS).size == 20


def test_a_pause_does_not_count_as_time_to_grow() -> None:
    window = ConcurrencyWindow.open(20, NOW).refuse(NOW, 600.0)

    assert window.grow(NOW + 600.0).size == 10


def test_a_new_ceiling_limits_the_size() -> None:
    window = ConcurrencyWindow.open(20, NOW).refuse(NOW, 5.0)

    assert window.with_ceiling(20) == window
    assert window.with_ceiling(4).size == 4


EVENTS = st.lists(st.tuples(st.booleans(), st.floats(0, 1000), st.floats(0, 1000)), max_size=40)


@given(st.integers(1, 500), EVENTS)
def test_whatever_happens_it_stays_between_one_and_its_ceiling(ceiling: Any, events: Any) -> None:
    window, now = ConcurrencyWindow.open(ceiling, NOW), NOW
    for refused, seconds, wait in events:
        now += seconds
        before = window.size
        window = window.refuse(now, wait) if refused else window.grow(now)
        assert 1 <= window.size <= ceiling
        assert window.size <= before if refused else window.size >= before
        assert not refused or window.pause_until >= now + wait


@given(st.floats(0.1, 100), st.lists(st.floats(0, 5), min_size=2, max_size=60))
def test_a_pace_is_never_exceeded(per_second: Any, waits: Any) -> None:
    pacer, now, sent = SubmitPacer(per_second), NOW, []
    for wait in waits:
        now = max(now + wait, pacer.next_at)
        pacer = pacer.record(now)
        sent.append(now)
    for first in range(len(sent)):
        for last in range(first + 1, len(sent)):
            span = sent[last] - sent[first]
            # One more than the span allows, for the delay of a moment that may be made up for.
            assert last - first <= span * per_second + 1 + 1e-3
