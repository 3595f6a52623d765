# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanResultError, WanValidationError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.archiver import Archiver
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemStatus
from airflow_provider_wan.ledger import EntryState
from dev.testkit.ledger import ME, NOW, a_claim, a_post

RECORD = RequestRecord(request_id="r1", status=RequestStatus.SUCCESS, status_text="success", created_at=NOW)
MakeItem = Callable[..., PreparedItem]


class StoredClip:
    uri = "s3://b/clips/1.mp4"
    sha256 = "abc"
    request_id = "r1"


class FakeArchive:
    def __init__(self) -> None:
        self.found: Any = None
        self.copied: Any = None
        self.error: Exception | None = None
        self.maker: str | None = None
        self.stored: list[str] = []

    def find(self, bucket: str, key: str, request_id: str, *, forbidden_is_absent: bool = False) -> Any:
        return self.found

    def store(self, record: Any, bucket: str, key: str, **_: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.stored.append(key)
        return StoredClip()

    def copy(self, uri: str, bucket: str, key: str, request_id: str) -> Any:
        return self.copied

    def find_request_id(self, bucket: str, key: str) -> str | None:
        return self.maker


class FakeLedger:
    def __init__(self, entry: Any = None) -> None:
        self.entry = entry
        self.archived: list[Any] = []

    def record_result(self, fingerprint: str, record: Any) -> Any:
        return self.entry

    def record_archive(self, *values: Any) -> None:
        self.archived.append(values)


@pytest.fixture
def archive() -> Any:
    return FakeArchive()


def make_archiver(archive: Any, ledger: Any = None) -> Archiver:
    fake: Any = ledger or FakeLedger()
    return Archiver(archive, fake, "b", "clips/")


def archived_entry(uri: str | None) -> Any:
    return replace(a_post(ME), state=EntryState.ARCHIVED, request_id="r1", archive_uri=uri)


def test_the_key_is_the_name_or_is_unique_by_the_fingerprint(archive: Any, make_item: MakeItem) -> None:
    item = make_item()

    assert make_archiver(archive).build_key(make_item(name="cats/tom")) == "clips/cats/tom.mp4"
    assert make_archiver(archive).build_key(item) == f"clips/1-{item.fingerprint[:10]}.mp4"


@pytest.mark.parametrize(("maker", "rule"), [("", "another object"), ("r9", "the clip of request r9")])
def test_an_occupied_key_is_refused_before_the_payment(
    archive: Any, make_item: MakeItem, maker: str, rule: str
) -> None:
    archive.maker = maker

    with pytest.raises(WanValidationError, match=rule):
        make_archiver(archive).check_free(make_item(), a_claim(ME))


def test_a_free_key_or_that_of_an_earlier_request_is_accepted(archive: Any, make_item: MakeItem) -> None:
    make_archiver(archive).check_free(make_item(), a_claim(ME))
    archive.maker = "r1"
    make_archiver(archive).check_free(make_item(), replace(a_claim(ME), request_id="r1"))


def test_a_clip_is_archived_and_recorded(archive: Any, make_item: MakeItem) -> None:
    ledger = FakeLedger()
    item = replace(make_item(), cost=0.5, paid_here=True)

    result = make_archiver(archive, ledger).archive(item, RECORD)

    assert (result.status, result.cost, result.reused) == (ItemStatus.ARCHIVED, 0.5, False)
    assert ledger.archived == [(item.fingerprint, "r1", StoredClip.uri, "abc")]


def test_a_clip_of_another_task_costs_nothing_here(archive: Any, make_item: MakeItem) -> None:
    result = make_archiver(archive).archive(replace(make_item(), cost=0.5), RECORD)

    assert (result.cost, result.reused) == (0.0, True)


def test_a_clip_that_is_archived_here_is_not_downloaded_again(archive: Any, make_item: MakeItem) -> None:
    archive.found = StoredClip()

    assert make_archiver(archive).archive(make_item(), RECORD).status is ItemStatus.ARCHIVED
    assert archive.stored == []


def test_a_transient_error_is_raised_and_a_permanent_one_loses_the_clip(archive: Any, make_item: MakeItem) -> None:
    archive.error = WanResultError("torn")
    with pytest.raises(WanResultError):
        make_archiver(archive).archive(make_item(), RECORD)

    archive.error = WanValidationError("key", "k", "holds another object")
    result = make_archiver(archive).archive(make_item(), RECORD)

    assert (result.status, result.request_id) == (ItemStatus.LOST, "r1")
    assert "holds another object" in str(result.error)


def test_a_clip_archived_elsewhere_is_copied(archive: Any, make_item: MakeItem) -> None:
    archive.copied = StoredClip()

    result = make_archiver(archive).reuse_archived(make_item(), archived_entry("s3://b/other/1.mp4"))

    assert (result.status, result.reused) == (ItemStatus.ARCHIVED, True)


@pytest.mark.parametrize("uri", ["s3://b/other/1.mp4", None])
def test_an_archived_clip_that_is_missing_is_lost(archive: Any, make_item: MakeItem, uri: str | None) -> None:
    result = make_archiver(archive).reuse_archived(make_item(), archived_entry(uri))

    assert result.status is ItemStatus.LOST
    assert "idempotency_key" in str(result.error)
