# SPDX-License-Identifier: Apache-2.0
"""WanToS3Operator against a real S3, the sandbox, and hosts of results that misbehave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.api.errors import (
    WanLookupError,
    WanResultError,
    WanResultGoneError,
    WanValidationError,
)
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
from dev.testkit.ledger import FINGERPRINT, NOW, a_claim
from dev.testkit.media_files import box, picture, video
from dev.testkit.result_host import ResultHost, body, status
from dev.testkit.s3_folder import BUCKET, Folder


@pytest.fixture
def image_url(folder: Folder) -> str:
    folder.put("in.jpg", picture(480, 640))
    parameters = {"Bucket": BUCKET, "Key": folder.key("in.jpg")}
    url: str = folder.client.generate_presigned_url("get_object", Params=parameters)
    return url


@pytest.fixture
def submit(sandbox: SandboxServer, image_url: str) -> Callable[..., str]:
    """Submits a clip and waits until the sandbox has brought it to its end."""

    def go(**more: Any) -> str:
        hook = WanHook()
        request = I2VRequest(img_url=image_url, prompt="The tide comes in", resolution="720P", **more)
        request_id = hook.submit(request).request_id
        until = time.monotonic() + 30
        while not hook.get_request(request_id).status.is_terminal and time.monotonic() < until:
            time.sleep(0.05)
        return request_id

    return go


def run(**arguments: Any) -> Any:
    return WanToS3Operator(task_id="archive", **arguments).execute({"outlet_events": OutletEventAccessors()})


def test_a_finished_clip_is_archived_and_found_again(
    folder: Folder, sandbox: SandboxServer, submit: Callable[..., str]
) -> None:
    request_id = submit()

    first = run(request_id=request_id, s3_key=folder.uri("clips/a.mp4"))
    calls = len(sandbox.journal())
    again = run(request_id={"request_id": request_id, "cost": 0.5}, s3_key=folder.key("clips/a.mp4"), s3_bucket=BUCKET)

    assert first["uri"] == folder.uri("clips/a.mp4")
    assert first["record_uri"] == folder.uri("clips/a.json")
    assert (first["content_type"], first["request_id"], first["existing"]) == ("video/mp4", request_id, False)
    assert first["size"] == folder.head("clips/a.mp4")["ContentLength"]
    assert first["width"] < first["height"]
    assert first["seconds"] == pytest.approx(5, abs=0.2)
    assert again == {**first, "existing": True}
    assert len(sandbox.journal()) == calls  # neither the API nor the result's host was asked
    record = json.loads(folder.get("clips/a.json"))
    assert record["cost_usd"] == 0.5  # 5 s at 0.10
    assert record["parameters"]["prompt"] == "The tide comes in"
    assert "X-Amz" not in json.dumps(record)
    json.dumps(first)  # fit for XCom


def test_the_ledger_learns_where_the_clip_lies(folder: Folder, submit: Callable[..., str], tmp_path: Path) -> None:
    request_id, uri = submit(), f"file://{tmp_path}/ledger"
    store = open_store(uri)
    store.create(entries.submitted(entries.record_intent(a_claim(), NOW), request_id, NOW))

    clip = run(
        request_id={"request_id": request_id, "fingerprint": FINGERPRINT}, s3_key=folder.uri("a.mp4"), ledger_uri=uri
    )

    stored = store.read(FINGERPRINT)
    assert stored is not None
    assert (stored.entry.state, stored.entry.archive_uri) == ("archived", clip["uri"])
    assert stored.entry.archive_sha256 == clip["sha256"]


def test_a_clip_that_was_archived_before_is_copied_after_the_api_has_forgotten_it(
    folder: Folder, sandbox: SandboxServer, submit: Callable[..., str]
) -> None:
    request_id = submit()
    first = run(request_id=request_id, s3_key=folder.uri("monday.mp4"))
    sandbox.call(lambda core: core.reset())

    result = {"request_id": request_id, "archive_uri": first["uri"]}
    second = run(request_id=result, s3_key=folder.uri("tuesday.mp4"))

    assert (second["sha256"], second["existing"]) == (first["sha256"], False)
    assert folder.get("tuesday.mp4") == folder.get("monday.mp4")
    record = json.loads(folder.get("tuesday.json"))
    assert (record["uri"], record["copied_from"]) == (second["uri"], first["uri"])
    assert run(request_id=result, s3_key=folder.uri("tuesday.mp4")) == {**second, "existing": True}


def test_an_archive_that_is_gone_is_no_reason_not_to_fetch_the_clip(folder: Folder, submit: Callable[..., str]) -> None:
    result = {"request_id": submit(), "archive_uri": folder.uri("deleted.mp4")}
    assert run(request_id=result, s3_key=folder.uri("a.mp4"))["size"] > 0


def test_a_request_that_runs_is_a_retryable_error_that_names_the_sensor(
    folder: Folder, sandbox: SandboxServer, image_url: str
) -> None:
    sandbox.inject("runs_forever")
    request_id = WanHook().submit(I2VRequest(img_url=image_url)).request_id
    with pytest.raises(WanLookupError, match=r"not finished.*WanRequestSensor"):
        run(request_id=request_id, s3_key=folder.uri("a.mp4"))


@pytest.mark.parametrize(
    ("status", "reason", "error", "words"),
    [
        (
            "failed",
            "invalid payload parameters: img_url",
            AirflowFailException,
            "failed: invalid payload.*Clear the task that made it",
        ),
        ("failed", "internal error", AirflowFailException, "failed: internal error"),
        ("cancelled", None, AirflowFailException, "was cancelled"),
    ],
)
def test_a_request_without_a_clip_fails_with_its_reason_and_is_not_retried(
    folder: Folder, sandbox: SandboxServer, image_url: str, status: str, reason: str, error: type, words: str
) -> None:
    sandbox.inject("never_runs")
    request_id = WanHook().submit(I2VRequest(img_url=image_url)).request_id
    sandbox.finish(request_id, status, reason)
    with pytest.raises(error, match=f"Request {request_id} {words}"):
        run(request_id=request_id, s3_key=folder.uri("a.mp4"))


def test_an_unknown_request_is_asked_about_again_and_left_to_a_retry(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_wan.transfers.wan_to_s3.PATIENCE_SECONDS", 0.1)
    with pytest.raises(WanLookupError, match="no-such-request"):
        run(request_id="no-such-request", s3_key=folder.uri("a.mp4"))


@pytest.mark.parametrize("fault", ["result_404", "result_403", "get_404", "get_401", "get_410"])
def test_a_refusal_that_passes_does_not_lose_the_clip(
    folder: Folder, sandbox: SandboxServer, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive._LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("airflow_provider_wan.transfers.wan_to_s3.FIRST_PAUSE_SECONDS", 0.1)
    request_id = submit()
    sandbox.inject(fault, count=2)
    assert run(request_id=request_id, s3_key=folder.uri("a.mp4"))["request_id"] == request_id


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("result_404", WanResultGoneError),
        ("result_html", WanResultError),
        ("result_cut", WanResultError),
        ("result_short", WanResultError),
        ("result_redirect", AirflowFailException),
    ],
)
def test_each_of_the_sandboxs_bad_results_leaves_nothing_behind(
    folder: Folder,
    sandbox: SandboxServer,
    submit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type,
) -> None:
    monkeypatch.setattr("airflow_provider_wan.media.archive._LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("airflow_provider_wan.transfers.wan_to_s3.PATIENCE_SECONDS", 0.1)
    request_id = submit()
    sandbox.inject(fault, count=None)
    with pytest.raises(error):
        run(request_id=request_id, s3_key=folder.uri("a.mp4"))
    assert folder.names() == ["in.jpg"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"request_id": "", "s3_key": "s3://b/k.mp4"}, "request_id"),
        ({"request_id": {"status": "success"}, "s3_key": "s3://b/k.mp4"}, "request_id"),
        ({"request_id": "r", "s3_key": "k.mp4"}, "s3_key"),
        ({"request_id": "r", "s3_key": "s3://b/clips/"}, "s3_key"),
        ({"request_id": "r", "s3_key": "s3://b/clip.json"}, "s3_key"),
        ({"request_id": "r", "s3_key": "s3://b"}, "s3_key"),
        ({"request_id": "r", "s3_key": "s3://b/k.mp4", "s3_bucket": "c"}, "s3_bucket"),
    ],
)
def test_a_bad_argument_is_named_before_anything_is_asked(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        run(**arguments)
    assert isinstance(caught.value.__context__, WanValidationError)
    assert caught.value.__context__.field == field


MEASURE = """
import json, resource, sys
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
operator = WanToS3Operator(task_id="archive", request_id="big", s3_key=sys.argv[1], outlets=[])
operator.archive, S3Hook("aws_default").get_conn().list_buckets()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = operator.execute({})
added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"added_megabytes": added / 1024, **result}))
"""


@pytest.mark.parametrize("pieces", [300, pytest.param(1024, marks=pytest.mark.nightly)])
def test_a_result_of_many_megabytes_is_archived_in_less_than_100_mb_of_added_memory(
    folder: Folder, host: ResultHost, wan_connection: Callable[..., None], pieces: int
) -> None:
    wan_connection(host.url("/api"), "tests-key-1f9d3b")
    clip = video(5) + box(b"free", bytes(pieces * 2**20))[:8]
    url = host.play(body(clip, repeated=(bytes(2**20), pieces)))
    answer = {
        "request_id": "big",
        "status": "success",
        "payload": {},
        "outcome": {"media_urls": [{"id": "0", "url": url}]},
    }
    host.play(
        status(200, json.dumps(answer).encode(), **{"Content-Type": "application/json"}), path="/api/requests/big"
    )

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, folder.uri("big.mp4")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["size"] == folder.head("big.mp4")["ContentLength"] == len(clip) + pieces * 2**20
    assert result["added_megabytes"] < 100
    folder.client.delete_object(Bucket=BUCKET, Key=folder.key("big.mp4"))
    assert "authorization" not in host.seen[-1].headers
