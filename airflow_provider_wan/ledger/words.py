# SPDX-License-Identifier: Apache-2.0
"""Words for whoever is on call."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.store import LedgerStore


def doubt_text(entry: LedgerEntry, reason: str, store: LedgerStore) -> str:
    """
    Say what is in doubt, why, how to look, and what to do.

    :param reason: why it could not be settled.
    :param store: where the entry lies: what Airflow keeps for a task can't be changed from outside.
    """
    listed = f"GET /requests?model_id={entry.model} and in it a request made since then with seed {entry.seed}"
    if store.lists:
        advice = (
            f"To look: `wan-provider reconcile {entry.fingerprint}`, or {listed}. "
            "If it is there: `wan-provider reconcile FINGERPRINT --request-id ID`. If it is certainly not: "
            "`wan-provider reconcile FINGERPRINT --absent`."
        )
    else:
        advice = (
            f"To look: {listed}. If it is there, wait for it, and let the task look again. If it is certainly not: "
            "clear the task with force_new set on it."
        )
    since = entry.posting_at if entry.posting_at is not None else entry.claimed_at
    when = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    first = f" First: {entry.outcome.error}" if entry.outcome and entry.outcome.error else ""
    return (
        f"Clip {entry.fingerprint}: whether its submission at {when} was accepted is not known ({reason}). "
        f"Nothing was submitted again.{first} "
        f"{advice} A retry or a clear of the task looks again by itself, and is safe."
    )


def failed_text(entry: LedgerEntry) -> str:
    """Say that a clip failed for good, and what to do."""
    reason = entry.outcome.error if entry.outcome else "no reason given"
    return (
        f"Clip {entry.fingerprint} failed for good as request {entry.request_id}: {reason}. Nothing was submitted "
        "anew. Change the image or the parameters; or force_new makes it again as it is."
    )
