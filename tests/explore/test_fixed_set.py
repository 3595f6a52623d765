# SPDX-License-Identifier: Apache-2.0
"""All histories of the fixed set: one fault in every scenario, and two in those that differ most."""

from __future__ import annotations

import pytest

from dev.explore.explorer import Explorer
from dev.explore.guard import nothing_real
from dev.explore.plan import explore_one_fault, explore_two_faults


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_no_schedule_charges_twice_or_loses_a_clip(capsys: pytest.CaptureFixture[str]) -> None:
    explorer = Explorer()
    with nothing_real():
        explore_one_fault(explorer)
        explore_two_faults(explorer)
    with capsys.disabled():
        print(f"\n{explorer.coverage.format()}")
    assert explorer.coverage.schedules > 10_000
