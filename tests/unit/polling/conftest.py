# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.polling import hub, throttle


@pytest.fixture(autouse=True)
def forget_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget run times, so that one test's clips do not affect another's."""
    monkeypatch.setattr(hub, "_runtime_stats", {})
    monkeypatch.setattr(throttle, "_rate_limiters", {})
