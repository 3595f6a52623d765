# SPDX-License-Identifier: Apache-2.0
"""``wan-provider harvest`` and ``doctor --output`` with a real S3."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.cli.main import main
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import EntryState, open_store
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.sandbox import SandboxServer
from dev.seaweed import SeaweedFS
from dev.testkit.ledger import NOW, a_post
from dev.testkit.media_files import picture
from dev.testkit.s3_folder import BUCKET, Folder
from dev.testkit.s3_proxy import S3Proxy


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_wan.cli.main.keep_logs_out_of_the_output", lambda: None)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return open_store(f"file://{tmp_path}/ledger")


@pytest.fixture
def pay(sandbox: SandboxServer, folder: Folder, store: Any) -> Any:
    """Pays for clips, and leaves their entries as a worker that then died: submitted."""
    folder.put("in.jpg", picture(480, 640))
    parameters = {"Bucket": BUCKET, "Key": folder.key("in.jpg")}
    image = folder.client.generate_presigned_url("get_object", Params=parameters)

    def submit() -> str:
        hook = WanHook()
        request_id = hook.submit(I2VRequest(img_url=image, resolution="720P")).request_id
        until = time.monotonic() + 30
        while not hook.get_request(request_id).status.is_terminal and time.monotonic() < until:
            time.sleep(0.05)
        return request_id

    def go(name: str, duplicates: int = 0) -> Any:
        account = WanHook().config.account.id
        post = replace(a_post(), fingerprint=name, account=account, source_uri="s3://images/old cat.png")
        entry = entries.submitted(post, submit(), NOW)
        for _ in range(duplicates):
            entry = entries.record_duplicate(entry, submit(), 7, NOW)
        store.create(entry)
        return entry

    return go


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    status = main([*arguments, "--json"])
    out = capsys.readouterr().out
    return status, json.loads(out[out.index("{") :])


def test_what_is_paid_for_is_archived_once_with_its_duplicates(
    pay: Any, store: Any, folder: Folder, capsys: pytest.CaptureFixture[str], sandbox: SandboxServer
) -> None:
    names = ["a" * 64, "b" * 64]
    pay(names[0])
    charged_twice = pay(names[1], duplicates=1)
    command = ("harvest", "--ledger", store.uri, "--to", folder.uri("harvest/"))
    assert run(capsys, *command, "--dry-run")[1]["counts"] == {"to archive": 3}
    assert store.read(names[0]).entry.state is EntryState.SUBMITTED
    assert run(capsys, *command)[1]["counts"] == {"archived": 3}
    assert [store.read(name).entry.state for name in names] == [EntryState.ARCHIVED] * 2
    assert store.read(names[0]).entry.archive_uri == folder.uri(f"harvest/old_cat-{'a' * 10}.mp4")
    # The duplicate can't be noted in the entry; it is found where it is.
    assert run(capsys, *command)[1]["counts"] == {"existing": 1}
    assert len(sandbox.charges()) == 3
    assert charged_twice.duplicates[0].request_id in str(folder.client.list_objects_v2(Bucket=BUCKET))


def test_a_clip_that_was_archived_and_is_gone_is_archived_anew(
    pay: Any, store: Any, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    pay("a" * 64)
    command = ("harvest", "--ledger", store.uri, "--to", folder.uri("harvest/"))
    run(capsys, *command)
    uri = store.read("a" * 64).entry.archive_uri
    folder.client.delete_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
    capsys.readouterr()
    assert main(["unarchived", "--ledger", store.uri, "--check-files", "--json"]) == 0
    assert "a" * 64 in capsys.readouterr().out
    assert run(capsys, *command)[1]["counts"] == {"archived": 1}


def test_a_clip_whose_request_is_gone_or_of_another_account_is_named(
    pay: Any, store: Any, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = pay("a" * 64)
    store.create(replace(entry, fingerprint="b" * 64, request_id="00000000-0000-4000-8000-000000000000"))
    store.create(replace(entry, fingerprint="c" * 64, account="another"))
    status, found = run(capsys, "harvest", "--ledger", store.uri, "--to", folder.uri("harvest/"))
    assert (status, found["counts"], found["other_accounts"]) == (1, {"archived": 1, "gone": 1}, 1)


def test_a_doctor_checks_the_rights_on_s3_and_leaves_nothing_behind(
    sandbox: SandboxServer, store: Any, folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    status, found = run(capsys, "doctor", "--ledger", store.uri, "--output", folder.uri("clips/"))
    assert (status, found["checks"][-1]["status"]) == (0, "ok")
    assert folder.client.list_objects_v2(Bucket=BUCKET, Prefix=folder.key("clips/"))["KeyCount"] == 0
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection | {"password": "another-secret"}))
    status, found = run(capsys, "doctor", "--ledger", store.uri, "--output", folder.uri("clips/"))
    assert (status, found["checks"][-1]["status"]) == (2, "failed")


def test_a_clip_that_can_not_be_archived_does_not_keep_the_others_from_it(
    pay: Any, store: Any, folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pay("a" * 64)
    odd = pay("b" * 64)
    get_request = WanHook.get_request

    def get_odd_request(hook: WanHook, request_id: str) -> Any:
        record = get_request(hook, request_id)
        return replace(record, video_url="https://[bad]/c.mp4") if request_id == odd.request_id else record

    monkeypatch.setattr(WanHook, "get_request", get_odd_request)
    status, found = run(capsys, "harvest", "--ledger", store.uri, "--to", folder.uri("harvest/"))
    outcomes = {each["request_id"]: each["outcome"] for each in found["clips"]}
    assert status == 1
    assert outcomes.pop(odd.request_id) == "error"
    assert list(outcomes.values()) == ["archived"]


def test_clips_are_harvested_without_the_right_to_list_the_bucket(
    pay: Any, store: Any, folder: Folder, seaweed: SeaweedFS, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay("a" * 64)
    connection = json.loads(seaweed.airflow_connection())
    with S3Proxy(seaweed.port, may_list=False) as proxy:
        connection["extra"]["endpoint_url"] = proxy.url
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        status, found = run(capsys, "harvest", "--ledger", store.uri, "--to", folder.uri("harvest/"))
    assert (status, [each["outcome"] for each in found["clips"]]) == (0, ["archived"])
