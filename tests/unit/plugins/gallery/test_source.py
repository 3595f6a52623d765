# SPDX-License-Identifier: Apache-2.0
"""Which ledgers the gallery reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.models import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Table, create_engine, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.operators.ledger_context import LEDGER_XCOM_KEY
from airflow_provider_wan.plugins.gallery.source import LedgerReader
from dev.testkit.ledger import a_claim

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
    monkeypatch.setenv("AIRFLOW__WAN__LEDGER_URI", OWN)
    runs = iter(range(1, 1000))

    def push(dag_id: str, value: Any, *, key: str = LEDGER_XCOM_KEY, at: int = 1_800_000_000) -> None:
        row = {
            "dag_run_id": next(runs),
            "task_id": "clips",
            "map_index": -1,
            "key": key,
            "dag_id": dag_id,
            "run_id": "manual__1",
            "value": json.dumps(value),
            "timestamp": datetime.fromtimestamp(at, UTC),
        }
        with engine.begin() as connection:
            connection.execute(insert(XComModel), [row])

    yield push
    engine.dispose()


def test_the_deployments_ledger_comes_first_and_those_of_tasks_follow_newest_first(xcoms: Any) -> None:
    for n in range(3):
        xcoms("cats", "s3://b/old/_ledger", at=1_800_000_000 + n)
    xcoms("dogs", "s3://b/old/_ledger", at=1_700_000_000)
    xcoms("cats", "s3://b/new/_ledger", at=1_800_000_100)
    found = LedgerReader().ledgers()
    assert [(each.uri, each.dag_ids) for each in found] == [
        (OWN, None),
        ("s3://b/new/_ledger", {"cats"}),
        ("s3://b/old/_ledger", {"cats", "dogs"}),
    ]
    assert found[2].used_at == 1_800_000_002


def test_what_is_no_ledger_and_the_deployments_own_are_left_out(xcoms: Any) -> None:
    xcoms("cats", {"uri": "s3://b/l"})
    xcoms("cats", "https://example.com/ledger")
    xcoms("cats", f"{OWN}/")
    xcoms("cats", "s3://b/l", key="return_value")
    assert [each.uri for each in LedgerReader().ledgers()] == [OWN]


def test_clips_of_a_named_ledger_have_its_tag(xcoms: Any, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/clips/_ledger"
    open_store(uri).create(replace(a_claim(fingerprint="a" * 64), dag_id="cats"))
    xcoms("cats", uri)
    _, ledger = LedgerReader().ledgers()
    for since in (None, 0.0):
        (clip,) = LedgerReader().clips(ledger, since)
        assert clip.id == f"{'a' * 64}-{ledger.tag}"
