# SPDX-License-Identifier: Apache-2.0
"""Where the links of a task lead."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey

from airflow_provider_wan.links.wan import WanClipsLink, WanSheetLink

OPERATOR: Any = object()


def key(map_index: int = -1) -> Any:
    return TaskInstanceKey(dag_id="cats", task_id="g.clip", run_id="manual__1+2/3", try_number=1, map_index=map_index)


@pytest.mark.parametrize(("map_index", "mapped"), [(-1, ""), (0, "/mapped/0"), (17, "/mapped/17")])
def test_the_clips_of_a_task_are_a_tab_of_its_page(
    monkeypatch: pytest.MonkeyPatch, map_index: int, mapped: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    link = WanClipsLink().get_link(OPERATOR, ti_key=key(map_index))
    task = "https://airflow.example.com/team/dags/cats/runs/manual__1%2B2%2F3/tasks/g.clip"
    assert link == f"{task}{mapped}/plugin/wan-task-instance"


@pytest.mark.parametrize(("stored", "there"), [("s3://b/sheet.html", True), (None, False)])
def test_the_sheet_is_linked_once_the_batch_has_one_and_without_a_signature(stored: str | None, there: bool) -> None:
    with mock.patch("airflow_provider_wan.links.wan.XCom.get_value", return_value=stored):
        link = WanSheetLink().get_link(OPERATOR, ti_key=key())
    assert link.endswith("/wan/dags/cats/runs/manual__1%2B2%2F3/tasks/g.clip/-1/sheet") is there
    assert "?" not in link
