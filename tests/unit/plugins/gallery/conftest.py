# SPDX-License-Identifier: Apache-2.0
"""XComs as Airflow's API server stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.models import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Table, create_engine, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_provider_wan.operators.ledger_context import LEDGER_XCOM_KEY

OWN = "s3://deployment/ledger"


@pytest.fixture
def xcoms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stores the XComs of task instances as Airflow's API server does."""
    if not isinstance(XComModel.__table__, Table):
        pytest.skip("this Airflow has two tables of XComs, joined with others: see tests/system/test_batches.py")
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    TaskInstance.metadata.create_all(engine, tables=[XComModel.__table__])

    @contextmanager
    def session() -> Iterator[Session]:
        with Session(engine) as each:
            yield each

    monkeypatch.setattr("airflow.utils.session.create_session", session)
    monkeypatch.setattr("airflow_provider_wan.plugins.gallery.batches.create_session", session)
    monkeypatch.setenv("AIRFLOW__WAN__LEDGER_URI", OWN)
    runs = iter(range(1, 1000))

    def push(
        dag_id: str, value: Any, *, key: str = LEDGER_XCOM_KEY, at: int = 1_800_000_000, run_id: str = "manual__1"
    ) -> None:
        row = {
            "dag_run_id": next(runs),
            "task_id": "clips",
            "map_index": -1,
            "key": key,
            "dag_id": dag_id,
            "run_id": run_id,
            "value": json.dumps(value),
            "timestamp": datetime.fromtimestamp(at, UTC),
        }
        with engine.begin() as connection:
            connection.execute(insert(XComModel), [row])

    yield push
    engine.dispose()
