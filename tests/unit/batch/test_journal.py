# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_wan.batch import journal as journal_module
from airflow_provider_wan.batch.journal import Checkpoint, Journal, UnderWay
from airflow_provider_wan.batch.results import Row, Status, Summary, Tally
from airflow_provider_wan.batch.state import ranges_of, slice_of


class Body(io.BytesIO):
    def iter_lines(self, size: int, keepends: bool = False) -> Any:
        yield from self.read().splitlines(keepends)


class Bucket:
    """What is used of an S3 client, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> dict[str, str]:
        self.objects[Key] = bytes(Body)
        return {"ETag": '"x"'}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": Body(self.objects[Key])}

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        del self.objects[Key]

    def list_objects_v2(self, *, Bucket: str, Prefix: str) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in self.objects if key.startswith(Prefix)]}


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def journal(bucket):
    return Journal(bucket, "b", "out/_batch/x/")


def row(number, status=Status.ARCHIVED, **more):
    return Row(number, f"s3://b/{number}.png", status, **more)


def lines(bucket, name):
    return [json.loads(line) for line in bucket.objects[f"out/_batch/x/{name}"].splitlines()]


def test_a_checkpoint_comes_back_as_it_was(journal):
    checkpoint = Checkpoint(
        "id",
        1.0,
        2.0,
        taken=7,
        open=(3, 5),
        running=(UnderWay(4, "r4", "f4", 1.5, 0.5, True),),
        settled=((9, 12),),
        stopped=("why", True),
        tally=Tally().as_json(),
        tries={"3": 2},
    )
    journal.write(checkpoint)

    assert Checkpoint.from_json(checkpoint.to_json()) == journal.read() != None  # noqa: E711
    assert journal.read().running == checkpoint.running


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"7", b'{"version": 99}', b'{"version": 1, "open": 7}'])
def test_what_is_no_checkpoint_of_this_version_counts_as_none(journal, text):
    journal.put("checkpoint.json", text, "application/json")

    assert journal.read() is None


def test_results_have_a_row_an_item_in_order_and_the_last_word_counts(journal, bucket, monkeypatch):
    monkeypatch.setattr(journal_module, "BLOCK", 10)
    journal.add_part("id", 1, [row(12), row(3, Status.FAILED, error="no"), row(25, Status.REJECTED, error="bad")])
    journal.add_part("id", 2, [row(3), row(1), row(31)])
    journal.add_part("other", 1, [row(99)])

    journal.merge("id", 31)

    assert [(each["row"], each["status"]) for each in lines(bucket, "results.jsonl")] == [
        (1, "archived"),
        (3, "archived"),
        (12, "archived"),
        (25, "rejected"),
        (31, "archived"),
    ]
    assert [each["row"] for each in lines(bucket, "rejected.jsonl")] == [25]


def test_a_reason_loses_the_query_strings_of_its_urls(journal, bucket):
    journal.add_part("id", 1, [row(1, Status.FAILED, error="https://h/x.png?X-Amz-Signature=secret failed")])
    journal.merge("id", 1)

    assert "secret" not in bucket.objects["out/_batch/x/rejected.jsonl"].decode()


def test_forgetting_leaves_the_results(journal, bucket):
    journal.add_part("id", 1, [row(1)])
    journal.merge("id", 1)
    journal.forget()

    assert sorted(bucket.objects) == ["out/_batch/x/rejected.jsonl", "out/_batch/x/results.jsonl"]


def test_a_tally_counts_and_comes_back(journal):
    tally = Tally()
    tally.add(row(1, seconds=5, reused=True), passing=False)
    tally.add(row(2, Status.DUPLICATE), passing=False)
    tally.add(row(3, Status.FAILED), passing=True)

    assert (tally.settled, tally.bad, tally.reused, tally.video_seconds, tally.passing) == (3, 1, 1, 5, True)
    assert Tally.from_json(json.loads(json.dumps(tally.as_json()))) == tally


def test_a_summary_names_every_status():
    told = Summary(3, {"archived": 2}, 0, 0, 10, 1.0, 2.0, "s3://b/x/").as_result()

    assert told["archived"] == 2
    assert all(told[status.value] == 0 for status in Status if status is not Status.ARCHIVED)
    assert len(json.dumps(told)) < 1000


def test_rows_are_put_together_into_ranges():
    assert ranges_of([5, 1, 2, 3, 9, 8]) == ((1, 3), (5, 5), (8, 9))


@pytest.mark.parametrize("value", [[0, 5], [5, 1], [1], "1-5", [1, "5"], [1, True], 7])
def test_what_is_no_range_of_rows_is_refused(value):
    with pytest.raises(ValueError, match="rows="):
        slice_of(value)
