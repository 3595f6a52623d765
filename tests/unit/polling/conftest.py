# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.polling import hub, turns


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch):
    """What one test's clips took says nothing of another's."""
    monkeypatch.setattr(hub, "_durations", {})
    monkeypatch.setattr(turns, "_turns", {})
