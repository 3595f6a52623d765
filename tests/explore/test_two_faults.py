# SPDX-License-Identifier: Apache-2.0
"""Two crashes, or two processes at once: a clip is charged at most once, and one that is charged is never lost."""

from __future__ import annotations

import pytest

from dev.explore.explorer import Explorer
from dev.explore.guard import nothing_real
from dev.explore.histories import ACCEPTED, RESET_ACCEPTED, Scenario
from dev.explore.plan import explore_two_faults


@pytest.mark.parametrize("scenario", [ACCEPTED, RESET_ACCEPTED], ids=lambda scenario: scenario.name)
def test_no_schedule_with_two_faults_charges_twice_or_loses_a_clip(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    explorer = Explorer()
    with nothing_real():
        explore_two_faults(explorer, [scenario])
    with capsys.disabled():
        print(f"\n{explorer.coverage.format()}")
    assert explorer.coverage.schedules > 1000
