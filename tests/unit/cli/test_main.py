# SPDX-License-Identifier: Apache-2.0
"""The command with a real ledger folder and real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.cli.main import main
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import EntryState, open_store
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.sandbox.core import SandboxCore
from dev.testkit.ledger import FINGERPRINT, NOW, REQUEST, a_claim


def _add_console_request(age: float, core: SandboxCore) -> None:
    core.admin.console(age=age)


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
    assert main(["ledger"]) == 1
    assert "ledger_uri" in capsys.readouterr().err


def test_an_unknown_fingerprint_is_named(ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger").mkdir()
    assert main(["reconcile", "f" * 64, "--ledger", ledger]) == 1
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
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", "no-such-request"]) == 1
    assert "404" in capsys.readouterr().err
    assert store_in_doubt.read(FINGERPRINT).entry.state is EntryState.IN_DOUBT

    other = WanHook().submit(REQUEST.with_seed(8)).request_id
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", other]) == 1
    assert "seed or payload" in capsys.readouterr().err

    request_id = WanHook().submit(REQUEST.with_seed(7)).request_id
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 1
    assert "shows it" in capsys.readouterr().err
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", request_id]) == 0
    entry = store_in_doubt.read(FINGERPRINT).entry
    assert (entry.state, entry.request_id) == (EntryState.SUBMITTED, request_id)
