# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from airflow_provider_wan.ledger import TaskStateStore
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.messages import in_doubt_message, permanent_failure_message
from dev.testkit.ledger import NOW, a_post
from tests.unit.ledger.stores.test_stores import FakeTaskState


def test_the_advice_fits_the_store(store: Any) -> None:
    entry = a_post()
    assert f"wan-provider reconcile {entry.fingerprint}" in in_doubt_message(entry, "why", store)
    assert "wan-provider" not in in_doubt_message(entry, "why", TaskStateStore(FakeTaskState()))
    assert f"seed {entry.seed}" in in_doubt_message(entry, "why", TaskStateStore(FakeTaskState()))


def test_the_first_cause_of_a_doubt_is_named(store: Any) -> None:
    entry = entries.in_doubt(a_post(), "connection reset", NOW)
    assert "Cause: connection reset" in in_doubt_message(entry, "why", store)


def test_a_permanent_failure_names_request_reason_and_remedy() -> None:
    entry = entries.failed(entries.submitted(a_post(), "r1", NOW), "content refused", True, NOW)
    message = permanent_failure_message(entry)
    assert all(word in message for word in ("r1", "content refused", "force_new"))
