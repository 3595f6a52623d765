# SPDX-License-Identifier: Apache-2.0
"""The gallery's answers to someone who may read everything. Who may read what: tests/system/test_gallery.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from airflow_provider_wan.plugins.gallery import app as app_module
from airflow_provider_wan.plugins.gallery.app import create_app
from airflow_provider_wan.plugins.gallery.index import ClipIndex
from tests.unit.plugins.gallery.test_clips import CLIP
from tests.unit.plugins.gallery.test_index import Clock, Source, read

CHECK_DAG = app_module._check_dag


@pytest.fixture
def source() -> Source:
    return Source(CLIP)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(source: Source, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    reader = SimpleNamespace(is_authorized_dag=lambda **_: True, get_authorized_dag_ids=lambda **_: {"cats"})
    monkeypatch.setattr(app_module, "get_auth_manager", lambda: reader)
    monkeypatch.setattr(app_module, "_check_dag", lambda *_: None)
    app = create_app(ClipIndex(source, clock))
    app.dependency_overrides[get_user] = lambda: SimpleNamespace(username="admin")
    with TestClient(app, follow_redirects=False) as each:
        yield each


def test_whoever_may_read_all_dags_but_one_does_not_see_that_one(
    client: Any, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the policies of some auth managers: "all" is a resource of its own there."""
    asked = []

    def may_read(*, details: Any, **_: Any) -> bool:
        asked.append(details.id)
        return bool(details.id != "payroll")

    manager = SimpleNamespace(is_authorized_dag=may_read, get_authorized_dag_ids=lambda **_: {"cats"})
    monkeypatch.setattr(app_module, "get_auth_manager", lambda: manager)
    monkeypatch.setattr("airflow.api_fastapi.core_api.security.get_auth_manager", lambda: manager)
    monkeypatch.setattr("airflow.models.DagModel.get_team_name", lambda *_: None, raising=False)
    monkeypatch.setattr(app_module, "_check_dag", CHECK_DAG)
    source.stored_clips = [
        replace(CLIP, fingerprint=f"{n:064x}", dag_id=dag_id)
        for n, dag_id in enumerate(["cats", "payroll", "deleted from Airflow", None])
    ]
    page = client.get("/api/clips").json()
    assert {clip["dag_id"] for clip in page["clips"]} == {"cats", "deleted from Airflow", None}
    assert page["totals"]["clips"] == 3
    assert "payroll" not in client.get("/api/spend").text
    assert "cats" not in asked, "Airflow has said already that they may read it"


def test_while_the_ledger_is_read_no_clip_is_reported_missing(client: Any, source: Source) -> None:
    source.gate = threading.Event()
    source.stored_clips = []
    answer = client.get(f"/media/{CLIP.id}/source")
    assert (answer.status_code, "Try again" in answer.json()["detail"]) == (503, True)
    source.gate.set()
    read(client.app.state.index)
    assert client.get(f"/media/{CLIP.id}/source").status_code == 404


def test_a_process_that_is_asked_for_media_only_reads_the_ledger_anew_too(
    client: Any, source: Source, clock: Clock
) -> None:
    client.get(f"/media/{CLIP.id}/source")
    clock.now += 60
    client.get(f"/media/{CLIP.id}/source")
    client.app.state.index._thread.join(30)
    assert len(source.asked) == 2
