# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from airflow_provider_wan.api.errors import Retry
from airflow_provider_wan.batch import checkpoint as checkpoint_module
from airflow_provider_wan.batch.checkpoint import Checkpoint, CheckpointStore, InFlightRecord, StopReason
from airflow_provider_wan.batch.errors import CheckpointError
from airflow_provider_wan.batch.results import ItemResult, ItemStatus, ResultCounts
from airflow_provider_wan.batch.throttle import ConcurrencyWindow
from dev.testkit.memory_s3 import MemoryS3


@pytest.fixture
def bucket() -> Any:
    return MemoryS3()


@pytest.fixture
def store(bucket: Any) -> Any:
    return CheckpointStore(bucket, "b", "out/_batch/x/")


def row(number: Any, status: Any = ItemStatus.ARCHIVED, **more: Any) -> Any:
    return ItemResult(number, f"s3://b/{number}.png", status, **more)


def lines(bucket: Any, name: Any) -> Any:
    return [json.loads(line) for line in bucket.objects[f"out/_batch/x/{name}"].splitlines()]


def test_a_checkpoint_comes_back_as_it_was(store: Any) -> None:
    checkpoint = Checkpoint(
        "id",
        "a",
        1.0,
        2.0,
        last_row=7,
        open_rows=(3, 5),
        in_flight=(InFlightRecord(4, "r4", "f4", 1.5, 0.5, True),),
        finished_ranges=((9, 12),),
        stop_reason=StopReason("why", True),
        window=ConcurrencyWindow(20, 10, 1.5, 2.5),
        counts=ResultCounts({"archived": 2}, 1, 10, True),
        attempts={3: 2},
    )
    store.write(checkpoint)

    assert store.read() == checkpoint


def test_without_a_checkpoint_there_is_none(store: Any) -> None:
    assert store.read() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is damaged"),
        (b"[]", "has format version None"),
        (b"{}", "has format version None"),
        (b"7", "has format version None"),
        (b'{"version": 99}', "has format version 99"),
        (b'{"version": 1, "identity": "id", "started_at": 1, "end_time": 2, "taken": 7}', "has format version 1"),
        (b'{"version": 2, "manifest_id": "id", "started_at": 1, "end_time": 2, "open_rows": 7}', "is damaged"),
        (b'{"version": 2, "manifest_id": "id"}', "is damaged"),
    ],
)
def test_an_older_or_a_damaged_checkpoint_is_refused(store: Any, text: bytes, reason: str) -> None:
    store.put("checkpoint.json", text, "application/json")

    with pytest.raises(CheckpointError, match=f"s3://b/out/_batch/x/checkpoint.json {reason}") as raised:
        store.read()

    assert raised.value.retry is Retry.NEVER
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_results_have_a_row_an_item_in_order_and_the_last_word_counts(
    store: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "BLOCK_ROWS", 10)
    store.write_part(
        "id", 1, [row(12), row(3, ItemStatus.FAILED, error="no"), row(25, ItemStatus.REJECTED, error="bad")]
    )
    store.write_part("id", 2, [row(3), row(1), row(31)])
    store.write_part("other", 1, [row(99)])

    store.merge_parts("id", 31)

    assert [(each["row"], each["status"]) for each in lines(bucket, "results.jsonl")] == [
        (1, "archived"),
        (3, "archived"),
        (12, "archived"),
        (25, "rejected"),
        (31, "archived"),
    ]
    assert [each["row"] for each in lines(bucket, "rejected.jsonl")] == [25]


def test_a_reason_loses_the_query_strings_of_its_urls(store: Any, bucket: Any) -> None:
    store.write_part("id", 1, [row(1, ItemStatus.FAILED, error="https://h/x.png?X-Amz-Signature=secret failed")])
    store.merge_parts("id", 1)

    assert "secret" not in bucket.objects["out/_batch/x/rejected.jsonl"].decode()


def test_forgetting_leaves_the_results(store: Any, bucket: Any) -> None:
    store.write_part("id", 1, [row(1)])
    store.merge_parts("id", 1)
    store.delete_parts()

    assert sorted(bucket.objects) == ["out/_batch/x/rejected.jsonl", "out/_batch/x/results.jsonl"]


@pytest.mark.parametrize(
    "line",
    [b'{"row": 1, "sta', b"\xff\xfe", b"7", b'{"row": 1, "image": null}', b'{"image": null, "status": "archived"}'],
    ids=["torn", "binary", "number", "no status", "no row"],
)
def test_a_damaged_line_of_a_part_is_left_out_and_the_others_are_read(
    store: Any, bucket: Any, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.write_part("id", 1, [row(1), row(2, ItemStatus.FAILED)])
    (key,) = bucket.objects
    bucket.objects[key] += line
    store.merge_parts("id", 2)

    assert [each.row for each in store.read_parts("id", newest_first=True)] == [2, 1]
    assert [each["row"] for each in lines(bucket, "results.jsonl")] == [1, 2]
    assert "1 lines of" in caplog.text
    assert "damaged" in caplog.text
