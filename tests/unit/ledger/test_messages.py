# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.messages import in_doubt_message, permanent_failure_message
from dev.testkit.ledger import NOW, a_post


def test_the_advice_names_the_command_with_its_ledger_and_the_seed_to_search_for(store: Any) -> None:
    entry = a_post()
    message = in_doubt_message(entry, "why", store)
    assert f"`wan-provider reconcile {entry.fingerprint} --ledger {store.uri}`" in message
    assert f"seed {entry.seed}" in message


def test_the_first_cause_of_a_doubt_is_named(store: Any) -> None:
    entry = entries.in_doubt(a_post(), "connection reset", NOW)
    assert "Cause: connection reset" in in_doubt_message(entry, "why", store)


def test_a_permanent_failure_names_request_reason_and_remedy() -> None:
    entry = entries.failed(entries.submitted(a_post(), "r1", NOW), "content refused", True, NOW)
    message = permanent_failure_message(entry)
    assert all(word in message for word in ("r1", "content refused", "idempotency_key"))
