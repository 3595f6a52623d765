# SPDX-License-Identifier: Apache-2.0
"""The gallery's answers to someone who may read everything. Who may read what: tests/system/test_gallery.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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


@pytest.fixture
def source() -> Source:
    return Source(CLIP)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(source: Source, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    reader = SimpleNamespace(is_authorized_dag=lambda **_: True)
    monkeypatch.setattr(app_module, "get_auth_manager", lambda: reader)
    monkeypatch.setattr(app_module, "_check_dag", lambda *_: None)
    app = create_app(ClipIndex(source, clock))
    app.dependency_overrides[get_user] = lambda: SimpleNamespace(username="admin")
    with TestClient(app, follow_redirects=False) as each:
        yield each


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
