# SPDX-License-Identifier: Apache-2.0
"""The archive engine against a real S3 and real sockets."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import (
    WanResultError,
    WanResultGoneError,
    WanResultRefusedError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.media.archive import ClipArchive
from airflow_provider_wan.media.fetch import BrokenDownloadError, ResultHosts
from dev.testkit.media_files import padded, video
from dev.testkit.result_host import ResultHost, body, cut, redirect, stall, status, unannounced
from dev.testkit.s3_folder import BUCKET, Folder

CLIP = video(5)
LONG = padded(CLIP, 20)  # three parts
LOCAL = ResultHosts(api_base_url="http://127.0.0.1:1/api")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive._LONGEST_PAUSE", 0.01)


def finished(url: str, request_id: str = "req-1", **payload: Any) -> RequestRecord:
    return RequestRecord(
        request_id,
        RequestStatus.SUCCESS,
        "success",
        model="wan2.6-i2v",
        created_at=1_790_000_000,
        updated_at=1_790_000_060,
        payload={"prompt": "A café", "img_url": "https://host/a.png?X-Amz-Signature=s", "duration": 5, **payload},
        video_url=url,
    )


def archive(folder: Folder, hosts: ResultHosts = LOCAL, **options: Any) -> ClipArchive:
    return ClipArchive(folder.client, hosts, **options)


@pytest.mark.parametrize("data", [CLIP, LONG], ids=["one part", "three parts"])
def test_a_clip_is_stored_byte_by_byte_with_its_record(folder: Folder, host: ResultHost, data: bytes) -> None:
    url = host.play(body(data))

    clip = archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"), cost=0.75)

    assert folder.get("a.mp4") == data
    assert clip.sha256 == hashlib.sha256(data).hexdigest()
    assert not clip.existing
    head = folder.head("a.mp4")
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"]["wan-request-id"] == "req-1"
    record = json.loads(folder.get("a.json"))
    assert record["sha256"] == clip.sha256
    assert record["etag"] == head["ETag"].strip('"')
    assert record["source_url"] == host.url("/clip.mp4")
    assert record["parameters"] == {"prompt": "A café", "img_url": "https://host/a.png", "duration": 5}
    facts = ("request_id", "model", "size", "width", "height", "codec", "cost_usd", "processing_seconds")
    assert [record[name] for name in facts] == ["req-1", "wan2.6-i2v", len(data), 320, 240, "avc1", 0.75, 60]
    assert record["seconds"] == pytest.approx(5, abs=0.1)
    assert "secret" not in json.dumps(record)


def test_the_results_host_is_asked_without_key_cookie_or_netrc(
    folder: Folder, host: ResultHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    url = host.play(body(CLIP))

    archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))

    assert not {"authorization", "cookie", "x-organization-id"} & set(host.seen[0].headers)
    assert host.seen[0].headers["accept-encoding"] == "identity"


def test_a_second_look_finds_the_clip_and_downloads_nothing(folder: Folder, host: ResultHost) -> None:
    store = archive(folder)
    first = store.store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))

    again = store.find(BUCKET, folder.key("a.mp4"), "req-1")

    assert again == first.as_existing()
    assert len(host.seen) == 1


def test_a_video_whose_record_was_never_written_is_checked_in_s3_and_gets_it(folder: Folder, host: ResultHost) -> None:
    store = archive(folder)
    url = host.play(body(LONG))
    first = store.store(finished(url), BUCKET, folder.key("a.mp4"))
    folder.client.delete_object(Bucket=BUCKET, Key=folder.key("a.json"))

    assert store.find(BUCKET, folder.key("a.mp4"), "req-1") is None
    again = store.store(finished(url), BUCKET, folder.key("a.mp4"))

    assert again == first.as_existing()
    assert len(host.seen) == 1
    assert json.loads(folder.get("a.json"))["sha256"] == first.sha256


def test_a_video_that_was_copied_with_its_record_is_known_by_its_bytes(folder: Folder, host: ResultHost) -> None:
    store = archive(folder)
    store.store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))
    folder.put("b.mp4", LONG)  # another ETag than that of three parts, and no metadata
    folder.put("b.json", folder.get("a.json"))

    found = store.find(BUCKET, folder.key("b.mp4"), "req-1")

    assert found is not None
    assert found.existing


@pytest.mark.parametrize("foreign", [b"somebody's file", video(1)], ids=["no video", "a video"])
def test_a_foreign_object_at_the_key_is_not_overwritten_unless_told(
    folder: Folder, host: ResultHost, foreign: bytes
) -> None:
    folder.put("a.mp4", foreign)
    url = host.play(body(CLIP))
    for attempt in (
        lambda: archive(folder).find(BUCKET, folder.key("a.mp4"), "req-1"),
        lambda: archive(folder).store(finished(url), BUCKET, folder.key("a.mp4")),
    ):
        with pytest.raises(WanValidationError, match=r"object of another origin.*replace=True"):
            attempt()
    assert folder.get("a.mp4") == foreign
    assert host.seen == []

    archive(folder, replace=True).store(finished(url), BUCKET, folder.key("a.mp4"))

    assert folder.get("a.mp4") == CLIP


def test_the_clip_of_another_request_is_named_and_kept(folder: Folder, host: ResultHost) -> None:
    archive(folder).store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))
    with pytest.raises(WanValidationError, match=r"holds the clip of request req-1.*run id"):
        archive(folder).find(BUCKET, folder.key("a.mp4"), "req-2")


def test_our_own_video_that_was_damaged_since_is_fetched_again(folder: Folder, host: ResultHost) -> None:
    store = archive(folder)
    url = host.play(body(CLIP))
    store.store(finished(url), BUCKET, folder.key("a.mp4"))
    folder.put("a.mp4", CLIP[:-100], Metadata={"wan-request-id": "req-1"})

    assert store.find(BUCKET, folder.key("a.mp4"), "req-1") is None
    assert not store.store(finished(url), BUCKET, folder.key("a.mp4")).existing
    assert folder.get("a.mp4") == CLIP


CUT_LONG = LONG[: 18 * 1024 * 1024]


@pytest.mark.parametrize(
    ("play", "error", "words"),
    [
        (status(410), WanResultGoneError, "answers 410: the clip is gone"),
        (status(403), WanResultGoneError, "answers 403: the clip is gone"),
        (status(404), WanResultGoneError, "answers 404: the clip is gone"),
        (status(500), BrokenDownloadError, "answers 500"),
        (status(418), WanResultError, "answers 418"),
        (body(b"<!DOCTYPE html><p>Sorry", "text/html"), WanResultError, "an HTML page"),
        (body(b""), WanResultError, "empty"),
        (body(CLIP[:-500]), WanResultError, "cut off"),
        (body(CUT_LONG), WanResultError, "cut off"),
        (unannounced(CUT_LONG), WanResultError, "cut off"),
        (cut(LONG, 9_000_000), BrokenDownloadError, "broke after"),
        (body(video(1)), WanResultError, "lasts 1.*5 s were asked for"),
        (status(302), WanResultError, "more than 3 times"),
        (redirect("file:///etc/passwd"), WanResultRefusedError, "neither http nor https"),
    ],
    ids=lambda value: None if callable(value) else str(value)[:30],
)
def test_a_result_that_is_not_good_leaves_nothing_in_the_bucket(
    folder: Folder, host: ResultHost, play: Any, error: type[Exception], words: str
) -> None:
    url = host.play(play)
    with pytest.raises(error, match=words) as caught:
        archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))
    assert "secret" not in str(caught.value)
    assert folder.names() == []
    assert folder.uploads_under_way() == []


def test_a_redirect_to_another_host_is_refused_unless_listed(folder: Folder, host: ResultHost) -> None:
    host.play(body(CLIP), path="/real.mp4")
    url = host.play(redirect(host.url("/real.mp4", name="localhost")))
    with pytest.raises(WanResultRefusedError, match=r"redirects the result to another host, localhost.*result_hosts"):
        archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))
    assert len(host.seen) == 1

    listed = ResultHosts(allowed=("127.0.0.1", "localhost"))
    archive(folder, listed).store(finished(url), BUCKET, folder.key("a.mp4"))

    assert folder.get("a.mp4") == CLIP


def test_a_redirect_on_the_same_host_is_followed(folder: Folder, host: ResultHost) -> None:
    host.play(body(CLIP), path="/real.mp4")
    archive(folder).store(finished(host.play(redirect("/real.mp4"))), BUCKET, folder.key("a.mp4"))
    assert folder.get("a.mp4") == CLIP


def test_a_broken_download_begins_anew_and_the_log_has_no_signature(
    folder: Folder, host: ResultHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="airflow_provider_wan")
    url = host.play(cut(LONG, 9_000_000, reset=True), status(503), status(404), body(LONG))

    clip = archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))

    assert folder.get("a.mp4") == LONG
    assert clip.sha256 == hashlib.sha256(LONG).hexdigest()
    assert folder.uploads_under_way() == []
    assert caplog.text.count("trying again") == 3
    assert "secret" not in caplog.text


def test_a_host_that_falls_silent_is_left_and_asked_again(
    folder: Folder, host: ResultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.fetch.READ_TIMEOUT", 0.3)
    url = host.play(stall(CLIP, 3000), body(CLIP))
    archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))
    assert folder.get("a.mp4") == CLIP
    assert len(host.seen) == 2


def test_a_task_that_is_killed_while_it_uploads_leaves_nothing_behind(folder: Folder, host: ResultHost) -> None:
    class Killed(BaseException):
        """Such as Airflow's own time-out."""

    class Killing:
        def __getattr__(self, name: str) -> Any:
            return getattr(folder.client, name)

        def complete_multipart_upload(self, **_: Any) -> Any:
            raise Killed

    with pytest.raises(Killed):
        ClipArchive(Killing(), LOCAL).store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))
    assert folder.names() == []
    assert folder.uploads_under_way() == []


def test_a_result_beyond_the_cap_is_refused_by_its_announced_length(folder: Folder, host: ResultHost) -> None:
    with pytest.raises(WanResultRefusedError, match=r"more than 1000 bytes.*max_bytes"):
        archive(folder, max_bytes=1000).store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))


def test_a_result_beyond_the_cap_is_refused_while_it_flows_where_no_length_is_announced(
    folder: Folder, host: ResultHost
) -> None:
    url = host.play(unannounced(LONG))
    with pytest.raises(WanResultRefusedError, match="more than"):
        archive(folder, max_bytes=len(LONG) - 1).store(finished(url), BUCKET, folder.key("a.mp4"))
    assert folder.names() == []
    assert folder.uploads_under_way() == []


def test_an_upload_that_s3_refuses_is_told_and_aborted(folder: Folder, host: ResultHost) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(folder.client, name)

        def upload_part(self, **arguments: Any) -> Any:
            if arguments["PartNumber"] == 2:
                arguments["UploadId"] = "0" * 32
            return folder.client.upload_part(**arguments)

    with pytest.raises(folder.client.exceptions.ClientError):
        ClipArchive(Refusing(), LOCAL).store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))
    assert folder.names() == []
    assert folder.uploads_under_way() == []


def test_a_host_that_does_not_listen_is_told_of_without_its_query(folder: Folder) -> None:
    with ResultHost() as gone:
        url = gone.url()
    with pytest.raises(BrokenDownloadError, match="can't be reached"):
        archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))
