# SPDX-License-Identifier: Apache-2.0
"""The command over a real ledger folder and real sockets."""

from __future__ import annotations

import pytest

from airflow_provider_wan.cli.main import main
from airflow_provider_wan.ledger import EntryState, open_store
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.ledger import FINGERPRINT, NOW, a_claim


@pytest.fixture
def ledger(tmp_path):
    return f"file://{tmp_path}/ledger"


@pytest.fixture
def doubt(ledger):
    store = open_store(ledger)
    store.create(entries.in_doubt(entries.posting(a_claim(), NOW), "the answer was lost", NOW))
    return store


@pytest.fixture
def api(connection):
    with SandboxServer(render="none", api_key="key-0123456789abcdef") as sandbox:
        connection(sandbox.base_url)
        yield sandbox


def test_the_ledger_is_listed_a_line_an_entry(doubt, ledger, capsys):
    assert main(["ledger", "--ledger", ledger]) == 0
    shown = capsys.readouterr()
    assert FINGERPRINT in shown.out
    assert "in_doubt" in shown.out
    assert "1 entry" in shown.err


def test_the_list_can_be_kept_to_one_state(doubt, ledger, capsys):
    assert main(["ledger", "--ledger", ledger, "--state", "archived"]) == 0
    assert capsys.readouterr().out == ""


def test_an_empty_ledger_is_no_error(ledger, tmp_path, capsys):
    (tmp_path / "ledger").mkdir()
    assert main(["ledger", "--ledger", ledger]) == 0
    assert "0 entries" in capsys.readouterr().err


def test_without_a_ledger_it_says_what_to_set(capsys):
    assert main(["ledger"]) == 1
    assert "ledger_uri" in capsys.readouterr().err


def test_an_unknown_fingerprint_is_named(ledger, tmp_path, capsys):
    (tmp_path / "ledger").mkdir()
    assert main(["reconcile", "f" * 64, "--ledger", ledger]) == 1
    assert "is not in the ledger" in capsys.readouterr().err


def test_what_is_not_in_doubt_is_left_alone(ledger, capsys):
    open_store(ledger).create(a_claim())
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 0
    assert "no doubt" in capsys.readouterr().out
    assert open_store(ledger).read(FINGERPRINT).entry.state is EntryState.CLAIMED


def test_a_look_changes_nothing_and_says_what_it_found(doubt, ledger, api, capsys):
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger]) == 0
    assert "does not have it" in capsys.readouterr().out
    assert doubt.read(FINGERPRINT).entry.state is EntryState.IN_DOUBT
    assert all(call["method"] == "GET" for call in api.journal())


def test_the_word_that_it_is_absent_lets_the_next_attempt_submit(doubt, ledger, api):
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--absent"]) == 0
    entry = doubt.read(FINGERPRINT).entry
    assert entry.state is EntryState.FAILED
    assert not entry.outcome.permanent


def test_a_request_that_a_person_found_is_noted_once_the_api_knows_it(doubt, ledger, api, capsys):
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", "no-such-request"]) == 1
    assert "404" in capsys.readouterr().err
    assert doubt.read(FINGERPRINT).entry.state is EntryState.IN_DOUBT

    from airflow_provider_wan.api.request import I2VRequest
    from airflow_provider_wan.hooks.wan import WanHook

    request_id = WanHook().submit(I2VRequest("https://images.example.com/cat.jpg")).request_id
    assert main(["reconcile", FINGERPRINT, "--ledger", ledger, "--request-id", request_id]) == 0
    entry = doubt.read(FINGERPRINT).entry
    assert (entry.state, entry.request_id) == (EntryState.SUBMITTED, request_id)
