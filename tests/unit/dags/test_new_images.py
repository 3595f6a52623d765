# SPDX-License-Identifier: Apache-2.0
"""The example Dag ``wan_new_images``: what starts a run, and where the images go."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
from airflow.sdk import DAG, Variable

from dev.stack import ROOT


@pytest.fixture
def dag(dags: list[DAG]) -> DAG:
    runpy.run_path(str(ROOT / "dags" / "wan_new_images.py"))
    return dags[0]


@pytest.mark.parametrize(
    ("keys", "starts"),
    [(["incoming/"], False), (["incoming/notes.txt"], False), (["incoming/", "incoming/a.PNG"], True)],
)
def test_an_image_of_any_type_starts_a_run(dag: DAG, keys: list[str], starts: bool) -> None:
    sensor: Any = dag.get_task("new_images")
    assert sensor.check_fn([{"Size": 1, "Key": key} for key in keys]) is starts


def test_images_that_are_done_or_failed_are_moved_and_the_others_stay(
    dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = ("archived", "duplicate", "rejected", "failed", "in_doubt", "timeout", "lost")
    rows: list[dict[str, Any]] = [
        {"image": f"s3://media/incoming/{status}.jpg", "status": status, "error": "one\u2028two\x85three"}
        for status in statuses
    ]
    copied, deleted = {}, []

    class Hook:
        def read_key(self, key: str, bucket: str) -> str:
            assert (key, bucket) == ("clips/results.jsonl", "media")
            # As a batch writes it: only a line feed ends a line.
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

        def copy_object(self, source: str, target: str, *buckets: str) -> None:
            copied[source] = target

        def delete_objects(self, bucket: str, key: str) -> None:
            deleted.append(key)

    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.s3.S3Hook", lambda aws_conn_id: Hook())
    monkeypatch.setattr(Variable, "get", lambda name, default: "media")
    move: Any = dag.get_task("move")
    move.python_callable({"results": "s3://media/clips/results.jsonl"})
    assert copied == {
        "incoming/archived.jpg": "done/archived.jpg",
        "incoming/duplicate.jpg": "done/duplicate.jpg",
        "incoming/rejected.jpg": "failed/rejected.jpg",
        "incoming/failed.jpg": "failed/failed.jpg",
    }
    assert sorted(deleted) == sorted(copied)
