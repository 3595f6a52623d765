# SPDX-License-Identifier: Apache-2.0
"""The batches of a run, and how far they are."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from airflow_provider_wan.batch.checkpoint import Checkpoint
from airflow_provider_wan.batch.results import ResultCounts
from airflow_provider_wan.links.wan import WanSheetLink
from airflow_provider_wan.plugins.gallery import batches
from airflow_provider_wan.plugins.gallery.batches import PAUSE_SECONDS, BatchTask, ProgressReader, list_batches

BATCHES = [BatchTask("clips", index, f"s3://b/clips/{index}/_batch/sheet.html") for index in range(20)]


@pytest.mark.parametrize(
    "stored",
    [
        "https://elsewhere.example.com/sheet.html",
        "s3://b/secrets/key.pem",
        "file:///etc/passwd",
        "sheet.html",
        {"uri": "s3://b/clips/_batch/sheet.html"},
        None,
    ],
    ids=["web", "other-file", "disk", "no-uri", "mapping", "none"],
)
def test_an_xcom_that_names_no_sheet_leads_nowhere(xcoms: Any, stored: Any) -> None:
    xcoms("cats", stored, key=WanSheetLink.key)
    xcoms("cats", "s3://b/clips/_batch/sheet.html", key=WanSheetLink.key, run_id="manual__2")
    assert list_batches("cats", "manual__1") == []
    assert [each.sheet_uri for each in list_batches("cats", "manual__2")] == ["s3://b/clips/_batch/sheet.html"]


def test_a_batch_shows_how_far_it_is_and_how_much_of_its_budget_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ResultCounts({"archived": 2, "failed": 1})
    checkpoint = Checkpoint("id", "a", 1.0, 2.0, counts=counts, total_rows=8, spent=1.5, max_cost=4.0)
    monkeypatch.setattr(batches, "s3_client", lambda: None)
    monkeypatch.setattr(batches, "read_object", lambda client, bucket, key, limit: checkpoint.to_json())
    assert ProgressReader().read(BATCHES[3:4]) == [
        {
            "name": "clips [3]",
            "done": 3,
            "archived": 2,
            "total": 8,
            "in_flight": 0,
            "ended": False,
            "spent": 1.5,
            "max_cost": 4.0,
        }
    ]


def test_a_store_that_does_not_answer_is_waited_for_once_and_not_by_each_batch_and_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def wait(batch: BatchTask) -> None:
        asked.append(batch)
        raise ConnectTimeoutError(endpoint_url="https://s3.example.com")

    monkeypatch.setattr(batches, "read_progress", wait)
    now = [0.0]
    reader = ProgressReader(lambda: now[0])
    assert reader.read(BATCHES) == reader.read(BATCHES) == []
    assert len(asked) == 1
    now[0] += PAUSE_SECONDS
    reader.read(BATCHES)
    assert len(asked) == 2


def test_a_connection_that_cannot_be_used_leaves_the_page_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("not a valid connection")

    monkeypatch.setattr(batches, "s3_client", fail)
    assert ProgressReader().read(BATCHES) == []
