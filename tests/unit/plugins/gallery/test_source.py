# SPDX-License-Identifier: Apache-2.0
"""Which ledgers the gallery reads, and what it takes from them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.cli.spend import sum_up
from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.entry import (
    NO_REFERENCE,
    failed,
    in_doubt,
    record_duplicate,
    record_intent,
    rejected,
    reused,
    submitted,
    succeeded,
)
from airflow_provider_wan.plugins.gallery import source
from airflow_provider_wan.plugins.gallery.clips import ClipQuery, spend
from airflow_provider_wan.plugins.gallery.source import LedgerReader, build_clip
from dev.testkit.ledger import NOW, a_claim
from tests.unit.plugins.gallery.conftest import OWN


def test_the_deployments_ledger_comes_first_and_those_of_tasks_follow_newest_first(xcoms: Any) -> None:
    for n in range(3):
        xcoms("cats", "s3://b/old/_ledger", at=1_800_000_000 + n)
    xcoms("dogs", "s3://b/old/_ledger", at=1_700_000_000)
    xcoms("cats", "s3://b/new/_ledger", at=1_800_000_100)
    found = LedgerReader().ledgers()
    assert [(each.uri, each.dag_ids) for each in found] == [
        (OWN, None),
        ("s3://b/new/_ledger", {"cats"}),
        ("s3://b/old/_ledger", {"cats", "dogs"}),
    ]
    assert found[2].used_at == 1_800_000_002


def test_what_is_no_ledger_and_the_deployments_own_are_left_out(xcoms: Any) -> None:
    xcoms("cats", {"uri": "s3://b/l"})
    xcoms("cats", "https://example.com/ledger")
    xcoms("cats", f"{OWN}/")
    xcoms("cats", "s3://b/l", key="return_value")
    assert [each.uri for each in LedgerReader().ledgers()] == [OWN]


def test_clips_of_a_named_ledger_have_its_tag(xcoms: Any, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/clips/_ledger"
    open_store(uri).create(replace(a_claim(fingerprint="a" * 64), dag_id="cats"))
    xcoms("cats", uri)
    _, ledger = LedgerReader().ledgers()
    for since in (None, 0.0):
        (clip,) = LedgerReader().clips(ledger, since)
        assert clip.id == f"{'a' * 64}-{ledger.tag}"


def test_two_spellings_of_a_ledger_are_one_and_count_its_clips_once(xcoms: Any) -> None:
    xcoms("cats", "s3://b/l")
    xcoms("cats", "s3://b/l/")
    xcoms("dogs", "s3://b/l/")
    _, ledger = LedgerReader().ledgers()
    assert (ledger.uri, ledger.dag_ids) == ("s3://b/l", frozenset({"cats", "dogs"}))


def test_the_spend_page_adds_up_what_the_command_line_does() -> None:
    sent = record_intent(a_claim(), NOW)
    made = succeeded(submitted(sent, "req-1", NOW + 86400), NOW + 86400)
    entries = [
        made,
        record_duplicate(made, "req-2", 9, NOW),
        record_duplicate(submitted(sent, "req-3", NOW), "req-4", 9, NOW),
        failed(submitted(sent, "req-5", NOW), "refused", True, NOW),
        rejected(sent, "no credit", NOW),
        in_doubt(sent, "lost", NOW),
        reused(made, "cats/run/other/-1", NO_REFERENCE, NOW + 86400),
    ]
    expected = sum_up(entries, "day", None, None)
    days = {day["name"]: day for day in spend(map(build_clip, entries), ClipQuery(dag_ids=None))["by_day"]}
    assert days.keys() == expected.keys()
    for name, day in days.items():
        for field in ("estimate", "charged", "duplicates", "reused", "saved"):
            assert (name, field, day[field]) == (name, field, pytest.approx(getattr(expected[name], field)))


def test_s3_is_reached_as_the_connection_says_and_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    extra: dict[str, Any] = {
        "endpoint_url": "http://s3.example.com",
        "region_name": "eu-west-1",
        "config_kwargs": {"s3": {"addressing_style": "path"}, "proxies": {"https": "http://proxy.example.com:3128"}},
    }
    value = {"conn_type": "aws", "login": "a-key-id", "password": "a-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(value))
    local = threading.local()
    monkeypatch.setattr(source, "_thread_clients", lambda: local)
    config = source.s3_client().meta.config
    assert config.s3["addressing_style"] == "path"
    assert config.proxies == extra["config_kwargs"]["proxies"]
    assert (config.connect_timeout, config.read_timeout) == (source.S3_TIMEOUT_SECONDS,) * 2
    assert config.retries["total_max_attempts"] == 2
