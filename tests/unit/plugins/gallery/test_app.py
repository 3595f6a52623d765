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
from botocore.exceptions import ClientError
from fastapi.testclient import TestClient

from airflow_provider_wan.plugins.gallery import app as app_module
from airflow_provider_wan.plugins.gallery import media
from airflow_provider_wan.plugins.gallery.app import create_app
from airflow_provider_wan.plugins.gallery.batches import BatchTask
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
    app.dependency_overrides[app_module.may_read_dag.dependency] = lambda: None
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


@pytest.mark.parametrize(
    ("code", "status"), [("404", 404), (None, 307), ("403", 307)], ids=["absent", "there", "hidden"]
)
def test_a_sheet_that_is_not_written_yet_is_no_page_of_the_store(
    client: Any, monkeypatch: pytest.MonkeyPatch, code: str | None, status: int
) -> None:
    uri = "s3://b/clips/_batch/sheet.html"
    monkeypatch.setattr(app_module, "list_batches", lambda *_: [BatchTask("clips", -1, uri)])
    monkeypatch.setattr(app_module, "media_url", lambda uri: "https://s3.example.com/sheet.html")

    def head_object(**_: Any) -> dict[str, Any]:
        if code is not None:
            raise ClientError({"Error": {"Code": code}}, "HeadObject")
        return {}

    monkeypatch.setattr(media, "s3_client", lambda: SimpleNamespace(head_object=head_object))
    answer = client.get("/dags/cats/runs/r/tasks/clips/-1/sheet")
    assert answer.status_code == status
    assert status != 404 or "when it ends" in answer.json()["detail"]


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
