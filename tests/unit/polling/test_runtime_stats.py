# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.polling.runtime_stats import RuntimeDistribution


@pytest.mark.parametrize("longest", [900.0, 100_000.0])
def test_a_request_that_took_very_long_does_not_delay_the_polls_of_the_others(longest: float) -> None:
    distribution = RuntimeDistribution([5.0] * 20 + [longest])
    assert distribution.earliest < distribution.median == pytest.approx(5.0)


def test_no_request_of_even_run_times_is_polled_long_before_its_end() -> None:
    distribution = RuntimeDistribution([100.0 + number for number in range(40)])
    assert 80.0 < distribution.earliest < 100.0
