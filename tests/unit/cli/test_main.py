# SPDX-License-Identifier: Apache-2.0
"""The command with a real ledger folder and real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_wan.api.single_use import SingleUseConnection
from airflow_provider_wan.batch.rows import Item, RawRow, parse_row
from airflow_provider_wan.cli.harvest import _build_name
from airflow_provider_wan.cli.main import main
from airflow_provider_wan.cli.spend import sum_up
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import EntryState, TaskReference, open_store
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.stores.file import FileStore
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.sandbox.core import SandboxCore
from dev.testkit.ledger import FINGERPRINT, NOW, REQUEST, a_claim, a_post


def _add_console_request(age: float, core: SandboxCore) -> None:
    core.admin.console(age=age)


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logging of this process as it is."""
    monkeypatch.setattr("airflow_provider_wan.cli.main.keep_logs_out_of_the_output", lambda: None)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    return f"file://{tmp_path}/ledger"


@pytest.fixture
def store_in_doubt(ledger: Any, api: Any) -> Any:
    store = open_store(ledger)
    entry = entries.in_doubt(entries.record_intent(a_claim(account=WanHook().config.account), NOW), "reset", NOW)
    store.create(entry)
    return store


@pytest.fixture
def api(connection: Any) -> Iterator[Any]:
    with SandboxServer(render="none", api_key="key-0123456789abcdef") as sandbox:
        connection(sandbox.base_url)
        for age in (20_000.0, 10_000.0):
            sandbox.call(partial(_add_console_request, time.time() - NOW + age))
        yield sandbox


def test_the_ledger_is_listed_with_one_line_per_entry(
    store_in_doubt: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--ledger", ledger]) == 0
    captured = capsys.readouterr()
    assert FINGERPRINT in captured.out
    assert "in_doubt" in captured.out
    assert "1 entry" in captured.err


def test_what_the_api_says_takes_one_line_and_controls_no_terminal(
    ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = entries.Outcome("refused:\nsee\r\n\x1b]0;title\x07\x1b[2J\u2028below \x9b31m", False, NOW)
    open_store(ledger).create(replace(a_post(), state=EntryState.FAILED, outcome=outcome))
    assert main(["ledger", "--ledger", ledger]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert (heading.startswith("fingerprint"), line.isprintable()) == (True, True)
    assert line.endswith("refused: see ]0;title [2J below 31m")
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == ["The entry is not in doubt; nothing to reconcile."]


def test_the_list_can_be_filtered_by_state(
    store_in_doubt: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--ledger", ledger, "--state", "archived"]) == 0
    assert capsys.readouterr().out == ""


def test_an_empty_ledger_is_not_an_error(ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger").mkdir()
    assert main(["ledger", "--ledger", ledger]) == 0
    assert "0 entries" in capsys.readouterr().err


def test_without_a_ledger_the_error_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    assert main(["ledger"]) == 2
    assert "ledger_uri" in capsys.readouterr().err


def test_an_unknown_fingerprint_is_named(ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger").mkdir()
    assert main(["reconcile", "f" * 64, "--ledger", ledger]) == 2
    assert "is not in the ledger" in capsys.readouterr().err


def test_an_entry_that_is_not_in_doubt_is_unchanged(ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(ledger).create(a_claim())
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 0
    assert "not in doubt" in capsys.readouterr().out
    stored = open_store(ledger).read(FINGERPRINT)
    assert stored is not None
    assert stored.entry.state is EntryState.CLAIMED


def test_a_scan_changes_nothing_and_prints_its_finding(
    store_in_doubt: Any, ledger: Any, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger]) == 0
    assert "Not in the API's list" in capsys.readouterr().out
    assert store_in_doubt.read(FINGERPRINT).entry.state is EntryState.IN_DOUBT
    assert all(call["method"] == "GET" for call in api.journal())


def test_a_confirmed_absence_lets_the_next_attempt_submit(store_in_doubt: Any, ledger: Any, api: Any) -> None:
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 0
    entry = store_in_doubt.read(FINGERPRINT).entry
    assert entry.state is EntryState.FAILED
    assert not entry.outcome.permanent


def test_a_request_is_recorded_only_if_the_api_knows_it(
    store_in_doubt: Any, ledger: Any, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", "no-such-request"]) == 2
    assert "404" in capsys.readouterr().err
    assert store_in_doubt.read(FINGERPRINT).entry.state is EntryState.IN_DOUBT

    other = WanHook().submit(REQUEST.with_seed(8)).request_id
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", other]) == 2
    assert "seed or payload" in capsys.readouterr().err

    request_id = WanHook().submit(REQUEST.with_seed(7)).request_id
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 2
    assert "shows it" in capsys.readouterr().err
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", request_id]) == 0
    entry = store_in_doubt.read(FINGERPRINT).entry
    assert (entry.state, entry.request_id) == (EntryState.SUBMITTED, request_id)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


CLIPS: list[dict[str, Any]] = [
    {"state": EntryState.ARCHIVED, "dag_id": "nightly", "run_id": "r1", "request_id": "q1", "cost": 0.5},
    {"state": EntryState.SUCCEEDED, "dag_id": "nightly", "run_id": "r2", "request_id": "q2", "cost": 0.5},
    {"state": EntryState.SUBMITTED, "dag_id": "weekly", "run_id": "r1", "request_id": "q3"},
    {"state": EntryState.FAILED, "dag_id": "weekly", "run_id": "r1", "request_id": "q4", "cost": 0.0},
    {"state": EntryState.CLAIMED, "dag_id": "weekly", "run_id": "r1"},
]


@pytest.fixture
def clips(ledger: Any) -> Any:
    """A clip a day from NOW on; the first was reused by another Dag, and the second was charged twice."""
    store = open_store(ledger)
    for number, changes in enumerate(CLIPS):
        moment = NOW + number * 86400.0
        entry = replace(a_claim(), fingerprint=f"{number}" * 64, claimed_at=moment, submitted_at=moment, **changes)
        if number == 0:
            entry = entries.reused(entry, "other/r9/t/-1", TaskReference("other", "r9", "t"), moment)
        if number == 1:
            entry = entries.record_duplicate(entry, "q9", 7, moment)
        if entry.state is EntryState.CLAIMED:
            entry = replace(entry, submitted_at=None)
        store.create(entry)
    return store


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[Any]:
    assert main([*arguments, "--json"]) == 0
    return sorted(each["fingerprint"][0] for each in json.loads(capsys.readouterr().out))


def test_the_ledger_is_filtered_by_state_dag_run_day_and_duplicates(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def select(*options: str) -> list[Any]:
        return listed(capsys, "ledger", "--ledger", ledger, *options)

    day = datetime.fromtimestamp(NOW + 86400.0, UTC).date().isoformat()
    assert select() == ["0", "1", "2", "3", "4"]
    assert select("--state", "archived", "--state", "failed") == ["0", "3"]
    assert select("--dag", "nightly") == ["0", "1"]
    assert select("--run", "r1", "--dag", "weekly") == ["2", "3", "4"]
    assert select("--day", day) == select("--duplicates") == ["1"]
    assert select("--since", day) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("command", ["ledger", "unarchived", "spend"])
def test_entries_that_were_last_written_before_are_not_read(
    command: str, clips: Any, ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = datetime.fromtimestamp(NOW + 86400.0, UTC)
    for path in Path(ledger.removeprefix("file://")).glob("[234]*.json"):
        os.utime(path, (NOW, NOW))
    read: list[str] = []
    read_entry = FileStore.read

    def record_read(self: FileStore, name: str) -> Any:
        read.append(name[0])
        return read_entry(self, name)

    monkeypatch.setattr(FileStore, "read", record_read)
    assert main([command, "--ledger", ledger, "--since", old.isoformat()]) == 0
    assert sorted(read) == ["0", "1"]


def test_duplicate_charges_are_shown_to_people_too(clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--ledger", ledger]) == 0
    captured = capsys.readouterr()
    assert "duplicate charges: q9" in captured.out
    assert "5 entries" in captured.err


def test_an_entry_as_json_holds_what_people_ask_for_and_no_secret(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--ledger", ledger, "--duplicates", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["charged"], entry["duplicates"], entry["dag_id"], entry["state"]) == (
        1.0,
        ["q9"],
        "nightly",
        "succeeded",
    )
    assert not {"prompt", "key_id", "payload_sha256"} & entry.keys()


def test_what_is_paid_for_and_not_archived_is_listed(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys, "unarchived", "--ledger", ledger) == ["1", "2"]
    assert listed(capsys, "unarchived", "--ledger", ledger, "--dag", "weekly") == ["2"]


@pytest.mark.parametrize(
    ("by", "charged"),
    [
        ("dag", {"nightly": 1.5, "weekly": 0.0, "other": 0.0}),
        ("run", {"nightly r1": 0.5, "nightly r2": 1.0, "weekly r1": 0.0, "other r9": 0.0}),
    ],
)
def test_spending_is_summed_up_by_group(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str], by: str, charged: dict[str, float]
) -> None:
    assert main(["spend", "--ledger", ledger, "--by", by, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {group[by]: group["charged"] for group in found["groups"]} == charged
    assert found["total"] == {
        "clips": 4,
        "estimate": 2.0,
        "charged": 1.5,
        "open": 0.5,
        "duplicates": 1,
        "reused": 1,
        "saved": 0.5,
    }


def test_spending_of_some_days_leaves_out_the_others(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    since, until = (datetime.fromtimestamp(NOW + days * 86400.0, UTC).isoformat() for days in (1, 2))
    # The files were written now, which is after all of these days.
    assert main(["spend", "--ledger", ledger, "--by", "day", "--since", since, "--until", until, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(group["clips"], group["charged"]) for group in found["groups"]] == [(1, 1.0)]
    assert main(["spend", "--ledger", ledger]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "total",
        "4",
        "$2.00",
        "$1.50",
        "$0.50",
        "1",
        "1",
        "$0.50",
    ]


@pytest.mark.parametrize("command", ["ledger", "unarchived", "spend"])
def test_an_entry_that_can_not_be_read_is_named_and_not_left_out_without_a_word(
    ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    open_store(ledger).create(a_post(fingerprint="whole"))
    (tmp_path / "ledger" / "damaged.json").write_text("{")
    for _ in range(2):
        assert main([command, "--ledger", ledger]) == 0
        assert capsys.readouterr().err.count("damaged.json is skipped") == 1


def test_a_claim_whose_post_may_have_been_sent_is_listed_as_one_that_may_be_paid_for(
    ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(ledger)
    store.create(a_post(fingerprint="sending"))
    store.create(a_claim(fingerprint="claimed"))
    assert main(["unarchived", "--ledger", ledger, "--json"]) == 0
    assert [entry["fingerprint"] for entry in json.loads(capsys.readouterr().out)] == ["sending"]


def test_a_duplicate_charge_counts_whatever_became_of_the_clip_since() -> None:
    twice = entries.record_duplicate(entries.submitted(a_post(), "r1", NOW), "r2", 7, NOW)
    again = entries.reclaim(entries.failed(twice, "internal error", False, NOW), a_claim())
    refused = entries.rejected(again, "HTTP 402", NOW)
    for entry in (twice, again, refused):
        groups = sum_up([entry], "dag", None, None)
        assert [(group.duplicates, group.charged) for group in groups.values()] == [(1, 0.5)]


def test_reuses_that_the_ledger_names_no_more_count_where_the_clip_was_paid_for() -> None:
    entry = replace(a_claim(), state=EntryState.ARCHIVED, request_id="q", submitted_at=NOW, cost=0.5, dag_id="maker")
    for number in range(30):
        entry = entries.reused(entry, f"t{number}", TaskReference("user", f"r{number}"), NOW)
    groups = sum_up([entry], "dag", None, None)
    assert {name: group.reused for name, group in groups.items()} == {"maker": 10, "user": 20}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["doctor", "--wan-conn-id", "nothing_here"], "nothing_here"),
        (["harvest", "--to", "s3://b/p/", "--wan-conn-id", "nothing_here"], "nothing_here"),
        (["harvest", "--to", "/tmp/p/"], "--to"),
        (["ledger", "--ledger", "gs://bucket/x"], "gs://bucket/x"),
        (["unarchived", "--ledger", "file:///no/such/folder"], "no task has written a ledger there"),
        (["spend", "--since", "yesterday"], "--since"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_exit_status_2(
    clips: Any, ledger: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    given = arguments if "--ledger" in arguments else [*arguments, "--ledger", ledger]
    assert main(given) == 2
    assert words in one_line(capsys)


def test_a_ledger_that_may_not_be_read_is_one_line(
    clips: Any, ledger: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert main(["ledger", "--ledger", ledger]) == 2
    assert "can't be read" in one_line(capsys)


def test_the_real_command_keeps_logs_and_tracebacks_out_of_its_output(clips: Any, ledger: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "airflow_provider_wan.cli"]
    done = subprocess.run(
        [*command, "spend", "--ledger", ledger, "--json"], capture_output=True, text=True, check=False
    )
    assert (json.loads(done.stdout)["total"]["clips"], done.returncode) == (4, 0)
    lost = subprocess.run([*command, "ledger", "--ledger", "s3://b/x"], capture_output=True, text=True, check=False)
    assert (lost.stdout, lost.returncode) == ("", 2)
    assert "Traceback" not in lost.stderr


def test_an_output_that_ends_early_is_no_error_and_one_that_cannot_be_written_is(clips: Any, ledger: Any) -> None:
    command = [sys.executable, "-m", "airflow_provider_wan.cli", "spend", "--ledger", ledger]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_doctor_finds_nothing_wrong_with_a_deployment_that_works(
    api: Any, ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--ledger", ledger, "--json"]) == 0
    captured = capsys.readouterr()
    checks = {check["name"]: check for check in json.loads(captured.out)["checks"]}
    assert {check["status"] for name, check in checks.items() if name != "S3"} == {"ok"}
    assert checks["S3"]["status"] == "skipped"
    assert "key-0123456789abcdef" not in captured.out + captured.err
    assert all(call["method"] == "GET" for call in api.journal())


def statuses(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    exit_status = main(["doctor", *arguments, "--json"])
    captured = capsys.readouterr()
    assert captured.err.count("\n") == (1 if exit_status else 0)
    return exit_status, {check["name"]: check["status"] for check in json.loads(captured.out)["checks"]}


def test_a_doctor_names_a_refused_key(api: Any, ledger: Any, connection: Any, capsys: Any) -> None:
    connection(api.base_url, key="another-key-0123456789")
    exit_status, found = statuses(capsys, "--ledger", ledger)
    assert (exit_status, found["key"], found["API by requests (workers)"], found["ledger"]) == (2, "failed", "ok", "ok")


def test_a_doctor_names_a_price_and_a_model_that_differ(api: Any, ledger: Any, connection: Any, capsys: Any) -> None:
    connection(api.base_url, extra={"prices": {"720P": 1.0, "1080P": 2.0}})
    assert statuses(capsys, "--ledger", ledger)[1]["model"] == "warning"
    connection(api.base_url, extra={"model": "no-such-model"})
    assert statuses(capsys, "--ledger", ledger)[1]["model"] == "failed"


def test_a_doctor_names_a_proxy_and_a_host_that_can_not_be_reached(
    api: Any, ledger: Any, connection: Any, capsys: Any
) -> None:
    connection("http://127.0.0.1:9")
    exit_status, found = statuses(capsys, "--ledger", ledger)
    assert exit_status == 2
    assert [found[f"API by {name}"] for name in ("requests (workers)", "aiohttp (triggerers)")] == ["failed", "failed"]


def test_a_doctor_names_an_unsafe_or_missing_ledger(
    api: Any, ledger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "ledger").write_text("a file in the way")
    assert statuses(capsys, "--ledger", ledger)[1]["ledger"] == "failed"
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    assert statuses(capsys)[1]["ledger"] == "failed"


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (120, "warning"), (-120, "warning"), (4000, "failed")])
def test_a_doctor_compares_the_clock_with_the_api_s(
    api: Any, ledger: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, seconds: float, status: str
) -> None:
    from airflow_provider_wan.cli import doctor

    real = time.time
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: real() + seconds))
    assert statuses(capsys, "--ledger", ledger)[1]["clock"] == status


def test_a_reconciliation_as_json_holds_the_entry_and_the_finding(
    store_in_doubt: Any, ledger: Any, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["reconcile", FINGERPRINT, "--ledger", ledger, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["entry"]["fingerprint"] == FINGERPRINT
    assert found["messages"]


@pytest.mark.parametrize("command", ["doctor", "ledger", "unarchived", "harvest", "spend", "reconcile"])
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert len(text.split("\n\n")[1]) > 40


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ledger", "--day", "25.11.2026"], "--day"),
        (["ledger", "--day", "2026-1-5"], "--day"),
        (["ledger", "--day", ""], "--day"),
        (["spend", "--since", "999999999d"], "--since"),
    ],
    ids=str,
)
def test_a_day_or_a_span_that_does_not_exist_is_refused(
    clips: Any, ledger: Any, arguments: list[str], text: str, capsys: Any
) -> None:
    assert main([*arguments, "--ledger", ledger]) == 2
    assert text in one_line(capsys)


def test_a_folder_and_a_copy_among_the_entries_count_for_nothing(clips: Any, ledger: Any, capsys: Any) -> None:
    folder = Path(ledger.removeprefix("file://"))
    assert main(["spend", "--ledger", ledger, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    first = next(path for path in sorted(folder.glob("*.json")))
    (folder / f"{first.stem}-backup.json").write_bytes(first.read_bytes())
    (folder / "old.json").mkdir()
    assert main(["spend", "--ledger", ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before


def test_a_file_that_cannot_be_checked_does_not_keep_the_others_from_the_list(
    ledger: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def head_object(self, *, Bucket: str, Key: str) -> Any:
            status = {"forbidden": 403, "clips": 404}[Bucket]
            answer: Any = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "HeadObject")

    store = open_store(ledger)
    for number, bucket in enumerate(("forbidden", "clips")):
        entry = replace(a_claim(), fingerprint=f"{number}" * 64, state=EntryState.ARCHIVED, request_id=f"r{number}")
        store.create(replace(entry, archive_uri=f"s3://{bucket}/a.mp4"))
    store.create(replace(a_claim(), fingerprint="2" * 64, state=EntryState.SUBMITTED, request_id="r2"))
    monkeypatch.setattr("airflow_provider_wan.hooks.s3_client.create_s3_client", lambda *_: Client())

    assert main(["unarchived", "--check-files", "--ledger", ledger, "--json"]) == 0

    captured = capsys.readouterr()
    assert sorted(each["request_id"] for each in json.loads(captured.out)) == ["r1", "r2"]
    assert "s3://forbidden/a.mp4" in captured.err


@pytest.mark.parametrize(
    "image",
    [
        "s3://b/a#1.png",
        "s3://b/what?.png",
        "gs://conn@b/x?y.png",
        "/data/x#2.png",
        "https://h.example/x%20y.png?id=7",
        "https://h.example/a.b/c.png#top",
    ],
)
def test_a_clip_is_harvested_under_the_name_that_a_batch_gives_it(image: str) -> None:
    item = parse_row(RawRow(1, {"image": image}), {"resolution": "720P"})
    assert isinstance(item, Item)
    entry = replace(a_claim(), source_uri=item.image.public_uri)
    assert _build_name(entry) == f"{item.stem}-{entry.fingerprint[:10]}"


def test_a_doctor_names_a_ca_bundle_that_is_not_there(api: Any, ledger: Any, connection: Any, capsys: Any) -> None:
    connection(api.base_url, extra={"ca_bundle": "/nowhere/ca.pem"})
    assert main(["doctor", "--ledger", ledger, "--json"]) == 2
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert any(each["status"] == "failed" and "ca_bundle" in each["detail"] for each in checks.values())


def test_a_doctor_reaches_the_api_by_the_client_that_pays_and_by_the_one_that_polls(
    api: Any, ledger: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    connect = SingleUseConnection.open

    def observe(session: Any, request: Any, *more: Any) -> Any:
        opened.append(request.url)
        return connect(session, request, *more)

    monkeypatch.setattr(SingleUseConnection, "open", observe)
    assert main(["doctor", "--ledger", ledger]) == 0
    assert opened == [f"{api.base_url}/models"]
