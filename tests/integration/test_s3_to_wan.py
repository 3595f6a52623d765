# SPDX-License-Identifier: Apache-2.0
"""S3ToWanOperator against a real S3, the sandbox, and web servers."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.media.source import SourceMissingError
from airflow_provider_wan.s3.presign import PresignError
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from dev.testkit.media_files import mp3, noise, picture, wav
from dev.testkit.result_host import ResultHost, body, status
from dev.testkit.s3_folder import BUCKET, Folder

GOOD = picture(480, 640)


def run(**arguments: Any) -> Any:
    result = S3ToWanOperator(task_id="ingest", **arguments).execute({})
    json.dumps(result)  # fit for XCom
    return result


def test_an_s3_image_is_presigned_where_it_lies(folder: Folder) -> None:
    source = folder.put("in/photo", GOOD)  # no content type, no extension

    result = run(source=source)

    answer = requests.get(result["url"], timeout=10)
    assert (answer.status_code, answer.content) == (200, GOOD)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert result["expires_at"] == pytest.approx(time.time() + 6 * 3600, abs=60)
    del result["url"], result["expires_at"]
    digest = hashlib.sha256(GOOD).hexdigest()
    assert result == {
        "kind": "image",
        "source": source,
        "uri": source,
        "content_type": "image/jpeg",
        "size": len(GOOD),
        "width": 480,
        "height": 640,
        "sha256": digest,
        "source_sha256": digest,
    }
    assert folder.names() == ["in/photo"]


def test_the_url_lives_as_long_as_was_asked_for(folder: Folder) -> None:
    result = run(source=folder.put("a.jpg", GOOD), expires_in=timedelta(minutes=20))
    assert "X-Amz-Expires=1200&" in result["url"]
    assert result["expires_at"] == pytest.approx(time.time() + 1200, abs=60)


def test_an_image_that_does_not_fit_is_adapted_into_a_copy_that_is_stored_once(folder: Folder) -> None:
    big = picture(4000, 3000)
    source = folder.put("in/big.jpg", big)

    first = run(source=source, fit="resize", dest_prefix=folder.uri("fitted/"))
    stored_at = folder.head("fitted/" + first["uri"].rpartition("/")[2])["LastModified"]
    time.sleep(1.1)  # S3 has a resolution of one second
    again = run(source=source, fit="resize", dest_prefix=folder.uri("fitted"))

    assert (first["width"], first["height"]) == (2000, 1500)
    assert first["uri"] == folder.uri(f"fitted/{first['sha256']}.jpg")
    assert first["source_sha256"] == hashlib.sha256(big).hexdigest() != first["sha256"]
    fetched = requests.get(first["url"], timeout=10).content
    assert hashlib.sha256(fetched).hexdigest() == first["sha256"]
    assert again["uri"] == first["uri"]
    assert folder.head("fitted/" + first["uri"].rpartition("/")[2])["LastModified"] == stored_at


@pytest.mark.parametrize("form", ["path", "file url"])
def test_a_local_file_is_copied_to_the_prefix(folder: Folder, tmp_path: Path, form: str) -> None:
    path = tmp_path / "my photo.jpg"
    path.write_bytes(GOOD)
    result = run(source=str(path) if form == "path" else path.as_uri(), dest_prefix=folder.uri("copies/"))
    assert requests.get(result["url"], timeout=10).content == GOOD


def test_a_web_image_is_copied_and_its_query_string_is_nowhere(
    folder: Folder, host: ResultHost, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    host.play(body(GOOD, "image/jpeg"), path="/a.jpg")

    result = run(source=host.url("/a.jpg?token=secret-of-the-web"), dest_prefix=folder.uri("copies/"))

    assert result["source"] == host.url("/a.jpg")
    assert requests.get(result["url"], timeout=10).content == GOOD
    logged = caplog.text + capsys.readouterr().out
    assert "delivered by presign" in logged
    assert "secret-of-the-web" not in logged
    assert "X-Amz-Signature" not in logged


def test_by_upload_the_bytes_get_a_public_url_that_the_api_can_use(
    folder: Folder, sandbox: SandboxServer, tmp_path: Path
) -> None:
    path = tmp_path / "photo.bmp"
    path.write_bytes(picture(480, 640, "BMP"))
    with pytest.raises(AirflowFailException, match=r"must be JPEG or PNG here.*fit=\"resize\""):
        run(source=str(path), delivery="upload")

    result = run(source=str(path), delivery="upload", fit="resize")

    assert result["url"].startswith(sandbox.result_url)
    assert (result["content_type"], result["uri"], result["expires_at"]) == ("image/png", None, None)
    assert WanHook().submit(I2VRequest(img_url=result["url"])).request_id


@pytest.mark.parametrize(("name", "data"), [("a.wav", wav(12)), ("a.mp3", mp3(12))])
def test_audio_is_delivered_with_its_length_and_a_warning_where_the_api_will_trim_it(
    folder: Folder, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], name: str, data: bytes
) -> None:
    result = run(source=folder.put(name, data), kind="audio", clip_duration=10)
    assert result["seconds"] == pytest.approx(12, abs=0.2)
    assert requests.get(result["url"], timeout=10).content == data
    assert "the API trims it to the clip's 10 s" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (picture(359, 500), "image", "359×500 pixels"),
        (picture(2001, 500), "image", "2001×500 pixels"),
        (GOOD[:-2000], "image", "cut off"),
        (b"%PDF-1.7 named photo.jpg", "image", "a PDF"),
        (picture(400, 400, "PNG", "RGBA"), "image", "PNG with alpha"),
        (noise(1900, 1900, "PNG"), "image", "at most 10000000 bytes"),
        (wav(2), "audio", "3 to 30 seconds"),
        (wav(31), "audio", "3 to 30 seconds"),
        (b"a text named song.mp3", "audio", "must be a WAV or an MP3"),
    ],
    ids=["359 px", "2001 px", "cut off", "pdf", "alpha", "10 MB", "2 s", "31 s", "text"],
)
def test_a_source_that_breaks_a_rule_is_not_retried(folder: Folder, data: bytes, kind: Any, words: str) -> None:
    with pytest.raises(AirflowFailException, match=words):
        run(source=folder.put("in", data), kind=kind)


def test_what_is_not_there_may_come_yet_and_is_retried(folder: Folder, host: ResultHost, tmp_path: Path) -> None:
    host.play(status(404), path="/a.jpg")
    sources = [folder.uri("none.jpg"), "s3://no-such-bucket-at-all/a.jpg", str(tmp_path / "none.jpg"), str(tmp_path)]
    for source in [*sources, host.url("/a.jpg?token=secret"), "http://127.0.0.1:9/a.jpg?token=secret"]:
        with pytest.raises(SourceMissingError) as caught:
            run(source=source, dest_prefix=folder.uri("copies/"))
        assert "secret" not in str(caught.value)


def test_a_vast_source_is_refused_before_it_is_read(folder: Folder, tmp_path: Path) -> None:
    vast = tmp_path / "vast.jpg"
    with vast.open("wb") as file:
        file.truncate(5 * 2**30)
    with pytest.raises(AirflowFailException, match="5368709120 bytes"):
        run(source=str(vast), dest_prefix=folder.uri(), fit="resize")


@pytest.mark.parametrize(
    "arguments",
    [
        {"source": "/tmp/a.jpg"},
        {"source": "https://host/a.jpg"},
        {"source": "s3://b/a.jpg", "fit": "resize"},
        {"source": "/tmp/a.jpg", "dest_prefix": "/tmp/copies"},
    ],
)
def test_a_missing_or_bad_prefix_is_named_before_any_work(arguments: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException) as caught:
        run(**arguments)
    assert isinstance(caught.value.__context__, WanValidationError)
    assert caught.value.__context__.field == "dest_prefix"


@pytest.mark.parametrize("source", ["ftp://host/a.jpg", "", "s3://bucket", "data:image/png;base64,AAAA://x"])
def test_a_source_of_another_kind_is_refused(source: str) -> None:
    with pytest.raises(AirflowFailException, match="source="):
        run(source=source, dest_prefix="s3://b/p")


@pytest.mark.parametrize("wrong", [{"kind": "video"}, {"fit": "stretch"}, {"delivery": "mail"}])
def test_a_wrong_choice_is_refused_when_the_dag_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(WanValidationError, match="must be one of"):
        S3ToWanOperator(task_id="ingest", source="s3://b/k", **wrong)


def test_a_url_that_does_not_work_is_noticed_here_and_not_by_the_api(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = S3ToWanOperator(task_id="ingest", source=folder.put("a.jpg", GOOD))
    client = operator.s3

    def sign_another(*_: Any, **options: Any) -> str:
        options["Params"] = {**options["Params"], "Key": folder.key("other.jpg")}
        url: str = folder.client.generate_presigned_url("get_object", **options)
        return url

    monkeypatch.setattr(client, "generate_presigned_url", sign_another)
    with pytest.raises(PresignError, match=r"answers 40[34]"):
        operator.execute({})


def test_the_bucket_of_the_tests_is_private(folder: Folder) -> None:
    result = run(source=folder.put("a.jpg", GOOD))
    assert requests.get(result["url"].partition("?")[0], timeout=10).status_code == 403
    assert BUCKET in result["url"]
