# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG


@pytest.fixture
def dags(monkeypatch: pytest.MonkeyPatch) -> list[DAG]:
    """Collects the Dags of a file while it runs."""
    collected: list[DAG] = []
    leave = DAG.__exit__

    def leave_and_record(dag: DAG, *rest: Any) -> Any:
        collected.append(dag)
        return leave(dag, *rest)

    monkeypatch.setattr(DAG, "__exit__", leave_and_record)
    return collected
