# SPDX-License-Identifier: Apache-2.0
"""The archive engine against a real S3 and real sockets."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_wan.api.errors import (
    WanError,
    WanResultError,
    WanResultGoneError,
    WanResultRefusedError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.media.archive import ClipArchive, MismatchedClipError, Presence, StoreError
from airflow_provider_wan.media.delivery import AskedClip
from airflow_provider_wan.media.fetch import BrokenDownloadError, ResultHosts, open_result
from dev.seaweed import SeaweedFS
from dev.testkit.media_files import padded, video
from dev.testkit.result_host import ResultHost, body, cut, redirect, stall, status, unannounced
from dev.testkit.s3_folder import BUCKET, Folder
from dev.testkit.s3_proxy import S3Proxy

CLIP = video(5)
LONG = padded(CLIP, 20)  # three parts
LOCAL = ResultHosts(api_base_url="http://127.0.0.1:1/api")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive._LONGEST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def wide() -> bytes:
    return video(5, width=1280, height=720, audio=False)


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


def test_a_second_archive_finds_the_clip_and_downloads_nothing(folder: Folder, host: ResultHost) -> None:
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
def test_a_foreign_object_at_the_key_is_not_overwritten_by_default(
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
        (status(410), WanResultGoneError, "answers 410: the clip can't be downloaded now"),
        (status(403), WanResultGoneError, "answers 403: the clip can't be downloaded now"),
        (status(404), WanResultGoneError, "answers 404: the clip can't be downloaded now"),
        (status(500), BrokenDownloadError, "answers 500"),
        (status(418), WanResultError, "answers 418"),
        (body(b"<!DOCTYPE html><p>Sorry", "text/html"), WanResultError, "an HTML page"),
        (body(b""), WanResultError, "empty"),
        (body(CLIP[:-500]), WanResultError, "cut off"),
        (body(CUT_LONG), WanResultError, "cut off"),
        (unannounced(CUT_LONG), WanResultError, "cut off"),
        (cut(LONG, 9_000_000), BrokenDownloadError, "broke after"),
        (unannounced(video(1)), BrokenDownloadError, "may be cut off: it lasts 1.*5 s were asked for"),
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

    listed = ResultHosts(required=(("127.0.0.1", "localhost"),))
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
        """An interruption, such as Airflow's timeout."""

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


def test_an_upload_that_s3_refuses_is_reported_and_aborted(folder: Folder, host: ResultHost) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(folder.client, name)

        def upload_part(self, **arguments: Any) -> Any:
            if arguments["PartNumber"] == 2:
                arguments["UploadId"] = "0" * 32
            return folder.client.upload_part(**arguments)

    with pytest.raises(StoreError, match=r"NoSuchUpload.*pays nothing"):
        ClipArchive(Refusing(), LOCAL).store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))
    assert folder.names() == []
    assert folder.uploads_under_way() == []


def test_a_host_that_does_not_listen_is_named_without_its_query(folder: Folder) -> None:
    with ResultHost() as gone:
        url = gone.url()
    with pytest.raises(BrokenDownloadError, match="can't be reached"):
        archive(folder).store(finished(url), BUCKET, folder.key("a.mp4"))


class Patched:
    """The real client with some methods replaced."""

    def __init__(self, client: Any, **changed: Any) -> None:
        self._client = client
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def race(folder: Folder, host: ResultHost, writers: list[tuple[ClipArchive, bytes]]) -> list[Any]:
    """Let writers archive the clips of different requests to one key at once; return a clip or an error for each."""
    ready = threading.Barrier(len(writers))
    results: list[Any] = [None] * len(writers)

    def write(number: int, engine: ClipArchive, data: bytes) -> None:
        url = host.play(body(data), path=f"/{number}.mp4")
        ready.wait()
        try:
            results[number] = engine.store(finished(url, f"req-{number}"), BUCKET, folder.key("a.mp4"))
        except WanError as error:
            results[number] = error

    threads = [threading.Thread(target=write, args=(n, *writer)) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("foreign", [b'{"caption": "A cat"}', b"[1]", b"no JSON"], ids=["object", "array", "text"])
def test_a_foreign_object_at_the_key_of_the_record_is_not_overwritten_by_default(
    folder: Folder, host: ResultHost, foreign: bytes
) -> None:
    folder.put("a.json", foreign)
    record = finished(host.play(body(CLIP)))
    store = archive(folder)

    assert store.find_request_id(BUCKET, folder.key("a.mp4")) == ""
    with pytest.raises(WanValidationError, match=r"a\.json for its record, which holds an object of another origin"):
        store.store(record, BUCKET, folder.key("a.mp4"))
    clip = store.archive(BUCKET, folder.key("a.mp4"), "req-1", lambda: record)

    assert folder.get("a.json") == foreign
    assert clip.uri == folder.uri("a-req-1.mp4")
    assert folder.get("a-req-1.mp4") == CLIP
    assert clip.displaced is not None


def test_a_foreign_object_at_the_key_of_the_record_is_overwritten_if_that_is_wanted(
    folder: Folder, host: ResultHost
) -> None:
    folder.put("a.json", b"{}")

    archive(folder, replace=True).store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))

    assert json.loads(folder.get("a.json"))["request_id"] == "req-1"


@pytest.mark.parametrize("size", [1, 20], ids=["one part", "three parts"])
@pytest.mark.parametrize(("may_replace", "occupied"), [(False, False), (True, False), (True, True)])
def test_of_tasks_that_archive_to_one_key_at_once_exactly_one_wins(
    folder: Folder, host: ResultHost, size: int, may_replace: bool, occupied: bool
) -> None:
    clips = [padded(CLIP, size, fill=bytes([n])) for n in range(3)]
    if occupied:
        folder.put("a.mp4", b"an earlier one")

    results = race(folder, host, [(archive(folder, replace=may_replace), clip) for clip in clips])

    winners = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
    assert len(winners) == 1
    (winner,) = winners
    assert folder.get("a.mp4") == clips[winner]
    assert json.loads(folder.get("a.json"))["request_id"] == f"req-{winner}"
    for result in results:
        if isinstance(result, Exception):
            assert isinstance(result, WanValidationError)
            assert folder.uri("a.mp4") in str(result)
            assert f"of request req-{winner}" in str(result) or f"for request req-{winner}" in str(result)
    assert folder.uploads_under_way() == []


def test_two_tasks_that_archive_the_same_request_at_once_both_have_its_clip(folder: Folder, host: ResultHost) -> None:
    url, ready = host.play(body(CLIP)), threading.Barrier(2)
    results: list[Any] = []

    def write() -> None:
        ready.wait()
        results.append(archive(folder).store(finished(url), BUCKET, folder.key("a.mp4")))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.sha256 for result in results} == {hashlib.sha256(CLIP).hexdigest()}


@pytest.mark.parametrize("data", [CLIP, LONG], ids=["one part", "three parts"])
def test_a_write_that_collides_with_its_own_repetition_is_its_own(
    folder: Folder, host: ResultHost, data: bytes
) -> None:
    def twice(name: str) -> Any:
        def call(**wanted: Any) -> Any:
            response = getattr(folder.client, name)(**wanted)
            return response if wanted["Key"].endswith(".json") else getattr(folder.client, name)(**wanted)

        return call

    calls = {name: twice(name) for name in ("put_object", "complete_multipart_upload")}
    clip = ClipArchive(Patched(folder.client, **calls), LOCAL).store(
        finished(host.play(body(data))), BUCKET, folder.key("a.mp4")
    )
    assert folder.get("a.mp4") == data
    assert clip.sha256 == hashlib.sha256(data).hexdigest()
    assert json.loads(folder.get("a.json"))["sha256"] == clip.sha256


def without_conditions(client: Any, *, refuses: bool) -> Any:
    """Simulate a server that ignores conditional writes, or answers them with 501."""

    def call(name: str) -> Any:
        def send(**wanted: Any) -> Any:
            conditions = [wanted.pop(each) for each in ("IfNoneMatch", "IfMatch") if each in wanted]
            if refuses and conditions:
                raise ClientError(
                    {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}, name
                )
            return getattr(client, name)(**wanted)

        return send

    return Patched(client, **{name: call(name) for name in ("put_object", "complete_multipart_upload")})


@pytest.mark.parametrize("data", [CLIP, LONG], ids=["one part", "three parts"])
@pytest.mark.parametrize("refuses", [False, True], ids=["ignored", "501"])
def test_a_server_without_conditional_writes_is_used_and_named_with_the_remedy(
    folder: Folder, host: ResultHost, caplog: pytest.LogCaptureFixture, data: bytes, refuses: bool
) -> None:
    engine = ClipArchive(without_conditions(folder.client, refuses=refuses), LOCAL)
    for number in range(2):
        url = host.play(body(data), path=f"/{number}.mp4")
        engine.store(finished(url, f"req-{number}"), BUCKET, folder.key(f"{number}.mp4"))

    assert [folder.get(f"{number}.mp4") for number in range(2)] == [data, data]
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "implement conditional writes" in message or "ignores conditions" in message
    assert "run_id" in message
    with pytest.raises(WanValidationError, match="holds the clip of request req-0"):
        engine.store(finished(host.play(body(data))), BUCKET, folder.key("0.mp4"))


def test_without_conditional_writes_a_task_that_was_overwritten_says_so(folder: Folder, host: ResultHost) -> None:
    client = without_conditions(folder.client, refuses=False)

    def overtaken(**wanted: Any) -> Any:
        response = client.put_object(**wanted)
        if wanted["Key"].endswith(".mp4"):
            client.put_object(**{**wanted, "Metadata": {"wan-request-id": "another"}, "Body": LONG})
        return response

    with pytest.raises(WanValidationError, match="holds the clip of request another"):
        ClipArchive(Patched(client, put_object=overtaken), LOCAL).store(
            finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4")
        )


def test_of_two_copies_to_one_key_exactly_one_wins(folder: Folder, host: ResultHost) -> None:
    engine = archive(folder)
    for number in range(2):
        url = host.play(body(padded(CLIP, number + 1)), path=f"/{number}.mp4")
        engine.store(finished(url, f"req-{number}"), BUCKET, folder.key(f"{number}.mp4"))
    ready = threading.Barrier(2)
    results: list[Any] = [None, None]

    def copy(number: int) -> None:
        ready.wait()
        try:
            source = folder.uri(f"{number}.mp4")
            results[number] = archive(folder).copy(source, BUCKET, folder.key("b.mp4"), f"req-{number}")
        except WanError as error:
            results[number] = error

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
    assert folder.get("b.mp4") == folder.get(f"{winner}.mp4")
    assert f"request req-{winner}" in str(results[1 - winner])


def test_a_claim_of_a_task_that_died_is_taken_over_after_a_while_and_at_once_by_its_own_retry(
    folder: Folder, host: ResultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(**wanted: Any) -> Any:
        if wanted["Key"].endswith(".mp4"):
            raise KilledError
        return folder.client.put_object(**wanted)

    dying = ClipArchive(Patched(folder.client, put_object=killed, delete_object=lambda **_: None), LOCAL)
    url = host.play(body(CLIP))
    with pytest.raises(KilledError):
        dying.store(finished(url), BUCKET, folder.key("a.mp4"))
    assert folder.names() == ["a.json"]

    assert archive(folder).find(BUCKET, folder.key("a.mp4"), "req-1") is None
    with pytest.raises(WanValidationError, match="just being written for request req-1"):
        archive(folder).store(finished(url, "req-2"), BUCKET, folder.key("a.mp4"))
    monkeypatch.setattr("airflow_provider_wan.media.archive_key.MAX_CLAIM_AGE", 0.0)
    archive(folder).store(finished(url, "req-2"), BUCKET, folder.key("a.mp4"))
    with pytest.raises(KilledError):
        dying.store(finished(url, "req-3"), BUCKET, folder.key("b.mp4"))
    monkeypatch.undo()
    assert archive(folder).store(finished(url, "req-3"), BUCKET, folder.key("b.mp4")).request_id == "req-3"


def test_a_task_whose_claim_was_taken_over_leaves_the_record_of_the_other(
    folder: Folder, seaweed: SeaweedFS, host: ResultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive_key.MAX_CLAIM_AGE", 0.0)
    key, slow = folder.key("a.mp4"), seaweed.client()
    other = finished(host.play(body(LONG), path="/other.mp4"), "req-2")

    def stand_still(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith("a.mp4") and folder.names() == ["a.json"]:
            archive(folder).store(other, BUCKET, key)

    slow.meta.events.register("before-call.s3.PutObject", stand_still)
    with pytest.raises(WanValidationError, match="holds the clip of request req-2"):
        ClipArchive(slow, LOCAL).store(finished(host.play(body(CLIP)), "req-1"), BUCKET, key)
    assert json.loads(folder.get("a.json"))["request_id"] == "req-2"
    assert folder.get("a.mp4") == LONG


def test_behind_a_proxy_that_rewrites_etags_a_clip_is_archived_with_a_warning(
    folder: Folder, host: ResultHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive_key._CLAIM_RETRY_DELAY", 0.01)

    def call(name: str) -> Any:
        def send(**wanted: Any) -> Any:
            response = getattr(folder.client, name)(**wanted)
            return {**response, "ETag": f"W/{response['ETag']}"}

        return send

    client = Patched(folder.client, **{name: call(name) for name in ("put_object", "get_object", "head_object")})

    ClipArchive(client, LOCAL).store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))

    assert folder.get("a.mp4") == CLIP
    assert json.loads(folder.get("a.json"))["request_id"] == "req-1"
    assert "refuses its own ETags" in caplog.text


@pytest.mark.parametrize(
    ("payload", "asked", "message"),
    [
        ({"duration": 10}, AskedClip(seconds=5.0), "duration=10, where 5.0 was asked for"),
        ({"resolution": "720p"}, AskedClip(resolution="1080P"), "resolution='720p'"),
        ({"seed": 8}, AskedClip(seed=7), "seed=8, where 7"),
        ({"seed": "8.0"}, AskedClip(seed=7), "seed"),
        ({"seed": 0}, AskedClip(seed=7), "seed=0"),
        ({}, AskedClip(seconds=10.0), r"it lasts 5.\d+ s, where 10 s were asked for"),
        ({"duration": "no number"}, AskedClip(seconds=10.0), r"it lasts 5.\d+ s, where 10 s were asked for"),
        ({}, AskedClip(resolution="720P"), "it has 320x240 pixels, where 720P was asked for"),
    ],
)
def test_a_clip_that_was_not_asked_for_is_kept_at_a_key_of_its_own_and_never_delivered(
    folder: Folder, host: ResultHost, payload: dict[str, Any], asked: AskedClip, message: str
) -> None:
    record = finished(host.play(body(CLIP)), **payload)
    engine = archive(folder)
    for attempt in (
        lambda: engine.store(record, BUCKET, folder.key("a.mp4"), asked=asked),
        lambda: engine.store(record, BUCKET, folder.key("a.mp4"), asked=asked),
        lambda: engine.copy(folder.uri("a-req-1.mp4"), BUCKET, folder.key("b.mp4"), "req-1"),
        lambda: engine.archive(BUCKET, folder.key("a-req-1.mp4"), "req-1", lambda: record, asked=asked),
    ):
        with pytest.raises(MismatchedClipError, match=message) as caught:
            attempt()
        assert caught.value.clip.uri == folder.uri("a-req-1.mp4")
        assert "paid for" in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).clip == caught.value.clip

    assert folder.names() == ["a-req-1.json", "a-req-1.mp4"]
    assert folder.get("a-req-1.mp4") == CLIP
    assert len(json.loads(folder.get("a-req-1.json"))["deviations"]) >= 1
    assert len(host.seen) <= 2  # it is not downloaded again by a second try


@pytest.mark.parametrize(
    "payload",
    [
        {"duration": "5"},
        {"duration": 5.0},
        {"duration": None},
        {"duration": "five"},
        {"seed": "7.0"},
        {"seed": True},
        {"resolution": "720p"},
        {"resolution": "1280*720"},
        {"resolution": None},
    ],
)
def test_an_echo_in_another_form_is_no_contradiction(
    folder: Folder, host: ResultHost, wide: bytes, payload: dict[str, Any]
) -> None:
    record = finished(host.play(body(wide)), **payload)
    asked = AskedClip(5.0, "720P", 7)
    archive(folder).store(record, BUCKET, folder.key("a.mp4"), asked=asked)
    assert json.loads(folder.get("a.json"))["deviations"] == []


def test_a_clip_whose_key_is_occupied_gets_one_of_its_own_and_is_found_there_again(
    folder: Folder, host: ResultHost
) -> None:
    engine = archive(folder)
    url = host.play(body(CLIP))
    engine.store(finished(url), BUCKET, folder.key("a.mp4"))
    other = finished(url, "req-2")

    clips = [engine.archive(BUCKET, folder.key("a.mp4"), "req-2", lambda: other) for _ in range(2)]

    assert [clip.uri for clip in clips] == [folder.uri("a-req-2.mp4")] * 2
    assert [clip.existing for clip in clips] == [False, True]
    assert all("holds the clip of request req-1" in str(clip.displaced) for clip in clips)
    assert json.loads(folder.get("a.json"))["request_id"] == "req-1"
    assert len(host.seen) == 2


def test_a_clip_that_can_not_be_copied_now_is_not_lost(folder: Folder, host: ResultHost) -> None:
    source = archive(folder).store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))

    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "CopyPart")

    def gone() -> RequestRecord:
        raise WanResultGoneError("the API no longer knows the request")

    engine = ClipArchive(Patched(folder.client, upload_part_copy=refuse), LOCAL)
    with pytest.raises(StoreError, match="can't be copied now"):
        engine.archive(BUCKET, folder.key("b.mp4"), "req-1", gone, sources=(source.uri,))
    folder.client.delete_object(Bucket=BUCKET, Key=folder.key("a.mp4"))
    with pytest.raises(WanResultGoneError, match="no longer knows"):
        engine.archive(BUCKET, folder.key("b.mp4"), "req-1", gone, sources=(source.uri,))


class TestCheck:
    """Whether a clip is where the ledger says."""

    @pytest.fixture
    def stored(self, folder: Folder, host: ResultHost) -> Any:
        return archive(folder).store(finished(host.play(body(LONG))), BUCKET, folder.key("a.mp4"))

    def check(self, folder: Folder, stored: Any, **options: Any) -> Any:
        return archive(folder, **options).check(stored.uri, "req-1", stored.sha256)

    def test_a_clip_that_is_there_is_known_by_its_record(self, folder: Folder, stored: Any) -> None:
        check = self.check(folder, stored)

        assert (check.presence, check.clip) == (Presence.PRESENT, stored.as_existing())

    def test_a_clip_without_its_record_is_known_by_its_bytes(self, folder: Folder, stored: Any) -> None:
        folder.client.delete_object(Bucket=BUCKET, Key=folder.key("a.json"))

        assert self.check(folder, stored).presence is Presence.PRESENT

    def test_a_copy_with_another_etag_is_known_by_its_bytes(self, folder: Folder, stored: Any) -> None:
        folder.put("a.mp4", LONG)

        assert self.check(folder, stored).presence is Presence.PRESENT

    def test_a_deleted_clip_is_missing(self, folder: Folder, stored: Any) -> None:
        folder.client.delete_object(Bucket=BUCKET, Key=folder.key("a.mp4"))

        assert self.check(folder, stored).presence is Presence.MISSING
        assert archive(folder).is_missing(stored.uri, "req-1", stored.sha256)

    @pytest.mark.parametrize("body", [LONG[:-100], video(1)], ids=["cut off", "another video"])
    def test_another_object_in_its_place_is_a_missing_clip(self, folder: Folder, stored: Any, body: bytes) -> None:
        folder.put("a.mp4", body)

        assert self.check(folder, stored).presence is Presence.MISSING

    def test_the_clip_of_another_request_in_its_place_is_a_missing_clip(
        self, folder: Folder, stored: Any, host: ResultHost
    ) -> None:
        other = finished(host.play(body(CLIP), path="/other.mp4"), "req-2")
        archive(folder, replace=True).store(other, BUCKET, folder.key("a.mp4"))

        assert self.check(folder, stored).presence is Presence.MISSING

    def test_a_missing_bucket_is_a_missing_clip(self, folder: Folder) -> None:
        assert archive(folder).check("s3://no-such-bucket/a.mp4", "req-1", None).presence is Presence.MISSING

    @pytest.mark.parametrize("uri", [None, "", "https://host/a.mp4"])
    def test_an_address_that_is_not_on_s3_is_unknown(self, folder: Folder, uri: str | None) -> None:
        assert archive(folder).check(uri, "req-1", None).presence is Presence.UNKNOWN

    def test_a_403_without_the_right_to_list_is_unknown(self, folder: Folder, stored: Any, seaweed: SeaweedFS) -> None:
        folder.client.delete_object(Bucket=BUCKET, Key=folder.key("a.mp4"))
        keys = {"aws_access_key_id": seaweed.access_key, "aws_secret_access_key": seaweed.secret_key}
        with S3Proxy(seaweed.port, may_list=False) as proxy:
            client = boto3.client("s3", endpoint_url=proxy.url, region_name=seaweed.region, **keys)
            check = ClipArchive(client, LOCAL).check(stored.uri, "req-1", stored.sha256)

        assert (check.presence, check.reason) == (Presence.UNKNOWN, "403")

    def test_a_404_that_may_be_that_of_a_proxy_is_unknown(self, folder: Folder, stored: Any) -> None:
        def refuse(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "GetObject")

        client = Patched(folder.client, head_object=refuse, get_object=refuse)
        assert ClipArchive(client, LOCAL).check(stored.uri, "req-1", None).presence is Presence.UNKNOWN

    def test_a_store_that_does_not_answer_is_unknown(self, folder: Folder, stored: Any) -> None:
        def fail(**_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="http://s3")

        check = ClipArchive(Patched(folder.client, head_object=fail), LOCAL).check(stored.uri, "req-1", None)

        assert (check.presence, check.reason) == (Presence.UNKNOWN, "EndpointConnectionError")

    def test_an_object_that_appears_meanwhile_is_unknown(self, folder: Folder, stored: Any) -> None:
        def miss(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject")

        check = ClipArchive(Patched(folder.client, head_object=miss), LOCAL).check(stored.uri, "req-1", None)

        assert check.presence is Presence.UNKNOWN


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "half an emoji \ud83d, and \x00"},
        {"\ud83d": "a key"},
        {"cfg": float("nan"), "scale": float("inf")},
        {"nested": {"a": [{"b": "\udc00"}]}},
        {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
        {"large": ["x" * 19_000] * 30},
        {"long": "x" * 2_000_000},
    ],
    ids=["surrogate and NUL", "surrogate in a name", "no finite number", "nested", "deep", "large", "long"],
)
def test_nothing_that_the_api_echoes_stops_an_archive(
    folder: Folder, host: ResultHost, payload: dict[str, Any]
) -> None:
    record = replace(finished(host.play(body(CLIP)), **payload), created_at=1e18, updated_at=-1e18)
    store = archive(folder)

    clip = store.store(record, BUCKET, folder.key("a.mp4"))

    document = json.loads(folder.get("a.json"), parse_constant=lambda name: pytest.fail(name))
    assert document["sha256"] == clip.sha256
    assert document["requested_at"] is None
    assert store.find(BUCKET, folder.key("a.mp4"), "req-1") == clip.as_existing()


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (200, {"Content-Encoding": "gzip"}),
        (203, {}),
        (206, {"Content-Range": "bytes 0-2999/3000"}),
    ],
    ids=str,
)
def test_a_file_that_is_compressed_transformed_or_a_whole_range_is_read_as_it_is(
    host: ResultHost, code: int, headers: dict[str, str]
) -> None:
    data = bytes(range(250)) * 12
    sent = gzip.compress(data) if headers.get("Content-Encoding") else data
    url = host.play(status(code, sent, **headers))
    with open_result(url, ResultHosts(api_base_url=host.url("/api"))) as result:
        assert b"".join(result.pieces) == data
        assert result.length == (None if headers.get("Content-Encoding") else 3000)


@pytest.mark.parametrize("content_range", ["bytes 0-999/3000", "bytes 1-2999/3000", "bytes 0-2999/*", ""])
def test_a_part_of_a_file_is_not_taken_for_the_file(host: ResultHost, content_range: str) -> None:
    url = host.play(status(206, b"x" * 1000, **{"Content-Range": content_range}))
    with pytest.raises(WanResultError, match="206"):
        open_result(url, ResultHosts(api_base_url=host.url("/api"))).__enter__()


def test_a_redirect_to_what_is_no_url_is_an_error_of_the_result(host: ResultHost) -> None:
    url = host.play(redirect("https://[bad]/c.mp4"))
    with pytest.raises(WanResultError, match="is not a URL"):
        open_result(url, ResultHosts(api_base_url=host.url("/api"))).__enter__()
