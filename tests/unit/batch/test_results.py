# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_wan.batch.report import BatchSummary
from airflow_provider_wan.batch.results import ItemResult, ItemStatus, ResultCounts


def make_result(row: int, status: ItemStatus = ItemStatus.ARCHIVED, **values: Any) -> ItemResult:
    return ItemResult(row, f"s3://b/{row}.png", status, **values)


def test_a_result_comes_back_as_it_was() -> None:
    result = make_result(3, ItemStatus.FAILED, error="no", request_id="r3", cost=0.5)

    assert ItemResult.from_json(result.to_json()) == result


def test_a_line_with_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="gone"):
        ItemResult.from_json(b'{"row": 1, "image": null, "status": "gone"}')


def test_fields_of_other_versions_are_ignored() -> None:
    line = json.loads(make_result(1).to_json()) | {"color": "red"}

    assert ItemResult.from_json(json.dumps(line).encode()) == make_result(1)


def test_results_are_counted() -> None:
    counts = ResultCounts()
    counts.add(make_result(1, seconds=5, reused=True), transient=False)
    counts.add(make_result(2, ItemStatus.DUPLICATE), transient=False)
    counts.add(make_result(3, ItemStatus.FAILED), transient=True)

    assert (counts.total, counts.archived, counts.without_clip) == (3, 1, 1)
    assert (counts.reused, counts.video_seconds, counts.can_progress) == (1, 5, True)


def test_a_permanent_failure_alone_makes_a_retry_useless() -> None:
    counts = ResultCounts()
    counts.add(make_result(1, ItemStatus.REJECTED), transient=False)

    assert counts.can_progress is False


def test_a_summary_names_every_status() -> None:
    result = BatchSummary(3, {"archived": 2}, 0, 0, 10, 1.0, 2.0, 0, "s3://b/x/").as_result()

    assert result["archived"] == 2
    assert all(result[status.value] == 0 for status in ItemStatus if status is not ItemStatus.ARCHIVED)
    assert len(json.dumps(result)) < 1000
