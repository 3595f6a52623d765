# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_wan.api.errors import (
    WanLookupError,
    WanNotFoundError,
    WanRateLimitError,
    WanResultError,
    WanResultGoneError,
    WanResultRefusedError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.archiver import Archiver
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.ledger import EntryState
from airflow_provider_wan.ledger.recovery import LostClipError
from airflow_provider_wan.media.archive import MismatchedClipError
from airflow_provider_wan.media.clip_record import ArchivedClip
from airflow_provider_wan.media.delivery import AskedClip
from airflow_provider_wan.media.video import VideoInfo
from dev.testkit.ledger import ME, NOW, a_claim, a_post

RECORD = RequestRecord(request_id="r1", status=RequestStatus.SUCCESS, status_text="success", created_at=NOW)
MakeItem = Callable[..., PreparedItem]


VIDEO = VideoInfo(5.0, 1280, 720, "avc1", True, 1000, False)
CLIP = ArchivedClip("r1", "b", "clips/1.mp4", "abc", "etag", VIDEO)


class FakeArchive:
    def __init__(self) -> None:
        self.clip = CLIP
        self.error: Exception | None = None
        self.maker: str | None = None
        self.etags: dict[str, str] | Exception = {}
        self.given: dict[str, Any] = {}
        self.fetches = False

    def archive(self, bucket: str, key: str, request_id: str, fetch: Any, **given: Any) -> ArchivedClip:
        self.given = {"key": key, "request_id": request_id, **given}
        if self.fetches:
            self.given["record"] = fetch()
        if self.error is not None:
            raise self.error
        return self.clip

    def is_missing(self, uri: str, request_id: str, sha256: str) -> bool:
        return True

    def list_etags(self, bucket: str, prefix: str, keys: Any) -> dict[str, str]:
        if isinstance(self.etags, Exception):
            raise self.etags
        return self.etags

    def find_request_id(self, bucket: str, key: str) -> str | None:
        return self.maker


class FakeLedger:
    def __init__(self, entry: Any = None) -> None:
        self.entry = entry
        self.archived: list[Any] = []

    def record_result(self, fingerprint: str, record: Any) -> Any:
        return self.entry

    def record_archive(self, *values: Any, is_missing: Any) -> None:
        assert is_missing("s3://b/k", "r1", "abc")
        self.archived.append(values)


@pytest.fixture
def archive() -> Any:
    return FakeArchive()


def make_archiver(archive: Any, ledger: Any = None, api: Any = None) -> Archiver:
    fake: Any = ledger or FakeLedger()
    return Archiver(archive, fake, api, "b", "clips/")


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


def test_a_key_that_is_too_long_for_s3_is_refused_before_it_is_paid_for(archive: Any, make_item: MakeItem) -> None:
    archiver = make_archiver(archive)
    archiver._prefix = "p/" * 300

    archiver.check_free(make_item(name="a" * 200), a_claim(ME))
    with pytest.raises(WanValidationError, match=r"key of 1204 bytes .* at most 960 fit into S3. Shorten"):
        archiver.check_free(make_item(name="\u732b" * 200), a_claim(ME))


def test_a_free_key_or_that_of_an_earlier_request_is_accepted(archive: Any, make_item: MakeItem) -> None:
    make_archiver(archive).check_free(make_item(), a_claim(ME))
    archive.maker = "r1"
    make_archiver(archive).check_free(make_item(), replace(a_claim(ME), request_id="r1"))


def test_a_clip_is_archived_and_recorded(archive: Any, make_item: MakeItem) -> None:
    ledger = FakeLedger()
    item = replace(make_item(), cost=0.5, paid_here=True)

    result = make_archiver(archive, ledger).archive(item, RECORD)

    assert (result.status, result.cost, result.reused) == (ItemStatus.ARCHIVED, 0.5, False)
    assert (result.archive_uri, result.etag, result.note) == (CLIP.uri, "etag", None)
    assert ledger.archived == [(item.fingerprint, "r1", CLIP.uri, "abc")]


def test_a_clip_of_another_task_costs_nothing_here(archive: Any, make_item: MakeItem) -> None:
    result = make_archiver(archive).archive(replace(make_item(), cost=0.5), RECORD)

    assert (result.cost, result.reused) == (0.0, True)


def test_a_clip_is_compared_with_what_the_row_or_the_ledger_asks_for(archive: Any, make_item: MakeItem) -> None:
    make_archiver(archive).archive(make_item(seed=9, resolution="720P"), RECORD)
    assert archive.given["asked"] == AskedClip(5.0, "720P", 9)

    make_archiver(archive, FakeLedger(replace(a_post(ME), duration=10))).archive(make_item(), RECORD)
    assert archive.given["asked"] == AskedClip(10.0, "720P", 7)


def test_a_clip_at_a_key_of_its_own_is_archived_with_a_note(
    archive: Any, make_item: MakeItem, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FakeLedger()
    archive.clip = replace(CLIP, key="clips/1-r1.mp4", displaced="clips/1.mp4 holds the clip of request r9")

    result = make_archiver(archive, ledger).archive(make_item(), RECORD)

    assert (result.status, result.archive_uri) == (ItemStatus.ARCHIVED, "s3://b/clips/1-r1.mp4")
    assert result.note == archive.clip.displaced
    assert ledger.archived[0][2] == "s3://b/clips/1-r1.mp4"
    assert "holds the clip of request r9" in caplog.text


def test_a_clip_that_was_not_asked_for_is_kept_and_is_no_success(archive: Any, make_item: MakeItem) -> None:
    ledger = FakeLedger()
    other = replace(CLIP, key="clips/1-r1.mp4", deviations=("it has 64x64 pixels",))
    archive.error = MismatchedClipError(other)

    result = make_archiver(archive, ledger).archive(replace(make_item(), cost=0.5, paid_here=True), RECORD)

    assert (result.status, result.archive_uri, result.cost) == (ItemStatus.LOST, other.uri, 0.5)
    assert "64x64" in str(result.error)
    assert ledger.archived[0][2] == other.uri


def test_a_transient_error_is_raised_and_a_permanent_one_loses_the_clip(archive: Any, make_item: MakeItem) -> None:
    archive.error = WanResultError("torn")
    with pytest.raises(WanResultError):
        make_archiver(archive).archive(make_item(), RECORD)

    archive.error = WanResultRefusedError("too large")
    result = make_archiver(archive).archive(make_item(), RECORD)

    assert (result.status, result.request_id) == (ItemStatus.LOST, "r1")
    assert "too large" in str(result.error)


class TestReuse:
    """A clip that the ledger says is archived."""

    @pytest.fixture(autouse=True)
    def missing(self, archive: Any) -> None:
        archive.fetches = True

    def api(self, answer: Any) -> Any:
        def get_request(request_id: str) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(get_request=get_request)

    def test_it_is_searched_at_the_ledgers_address(self, archive: Any, make_item: MakeItem) -> None:
        archive.fetches = False
        entry = archived_entry("s3://b/other/1.mp4")

        result = make_archiver(archive, FakeLedger(entry)).archive(make_item(), RECORD)

        assert archive.given["sources"] == ("s3://b/other/1.mp4",)
        assert (result.status, result.reused) == (ItemStatus.ARCHIVED, True)

    def test_one_that_is_missing_is_archived_anew_from_the_service(self, archive: Any, make_item: MakeItem) -> None:
        ledger, record = FakeLedger(), replace(RECORD, video_url="https://host/a.mp4")

        archiver = make_archiver(archive, ledger, self.api(record))
        result = archiver.reuse_archived(make_item(), archived_entry("s3://b/other/1.mp4"))

        assert archive.given["record"] is record
        assert result.status is ItemStatus.ARCHIVED
        assert ledger.archived[0][2] == CLIP.uri

    @pytest.mark.parametrize(
        "answer", [WanNotFoundError("HTTP 404"), RECORD, replace(RECORD, status=RequestStatus.FAILED)]
    )
    def test_one_that_the_service_no_longer_has_is_reported_as_lost(
        self, archive: Any, make_item: MakeItem, answer: Any
    ) -> None:
        archiver = make_archiver(archive, None, self.api(answer))

        result = archiver.reuse_archived(make_item(), archived_entry("s3://b/other/1.mp4"))

        assert result.status is ItemStatus.LOST
        for words in ("was paid for ($0.50)", "s3://b/other/1.mp4", "idempotency_key", "Nothing was paid now"):
            assert words in str(result.error)

    def test_an_api_that_does_not_answer_is_asked_again(self, archive: Any, make_item: MakeItem) -> None:
        archiver = make_archiver(archive, None, self.api(WanRateLimitError("HTTP 429")))

        with pytest.raises(WanLookupError, match=r"no longer at s3://b/other/1.mp4.*429"):
            archiver.reuse_archived(make_item(), archived_entry("s3://b/other/1.mp4"))

    def test_a_result_that_is_gone_at_its_host_is_tried_again_and_then_lost(
        self, archive: Any, make_item: MakeItem
    ) -> None:
        archive.error = WanResultGoneError("host answers 404")
        archiver = make_archiver(archive, None, self.api(replace(RECORD, video_url="https://host/a.mp4")))

        with pytest.raises(LostClipError, match="host answers 404"):
            archiver.reuse_archived(make_item(), archived_entry("s3://b/other/1.mp4"))


class TestFindMissing:
    """The clips of an earlier try."""

    def results(self, **changes: Any) -> list[ItemResult]:
        values = {"archive_uri": "s3://b/clips/1.mp4", "etag": "e1", **changes}
        return [ItemResult(1, None, ItemStatus.ARCHIVED, **values), ItemResult(2, None, ItemStatus.FAILED)]

    @pytest.mark.parametrize(
        ("etags", "missing"),
        [
            ({"clips/1.mp4": "e1"}, set()),
            ({"clips/1.mp4": "e2"}, {1}),
            ({}, {1}),
            (ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2"), set()),
        ],
    )
    def test_a_clip_is_missing_if_it_is_not_listed_as_it_was(self, archive: Any, etags: Any, missing: Any) -> None:
        archive.etags = etags

        assert make_archiver(archive).find_missing(self.results()) == missing

    def test_results_without_an_etag_or_in_another_bucket_are_taken_as_they_are(self, archive: Any) -> None:
        archive.etags = {"clips/1.mp4": "e2"}

        assert make_archiver(archive).find_missing(self.results(etag=None)) == set()
        assert make_archiver(archive).find_missing(self.results(archive_uri="s3://c/clips/1.mp4")) == set()
