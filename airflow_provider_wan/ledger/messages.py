# SPDX-License-Identifier: Apache-2.0
"""Messages for the person on call."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.stores.base import LedgerStore


def in_doubt_message(entry: LedgerEntry, reason: str, store: LedgerStore) -> str:
    """
    Return what is in doubt, why, how to check it, and what to do.

    :param entry: the entry in doubt.
    :param reason: why it could not be reconciled.
    :param store: the store of the entry.
    """
    query = f"GET /requests?model_id={entry.model}, for a request made since then with seed {entry.seed}"
    command = f"wan-provider reconcile {entry.fingerprint} --ledger {store.uri}"
    advice = (
        f"To check: `{command}`, or {query}. If the request exists, add `--request-id ID` to the command; if it "
        "certainly does not, add `--absent`."
    )
    when = datetime.fromtimestamp(entry.last_sent_at, UTC).isoformat(timespec="seconds")
    cause = f" Cause: {entry.outcome.error}" if entry.outcome and entry.outcome.error else ""
    return (
        f"Clip {entry.fingerprint}: it is not known whether its submission at {when} was accepted ({reason}). "
        f"Nothing was submitted again.{cause} "
        f"{advice} A retry or a clear of the task checks again, and is safe."
    )


def permanent_failure_message(entry: LedgerEntry) -> str:
    """Return why a clip failed permanently, and what to do."""
    reason = entry.outcome.error if entry.outcome else "no reason given"
    return (
        f"Clip {entry.fingerprint} failed permanently as request {entry.request_id}: {reason}. Nothing was submitted "
        "again. Change the image or the parameters; or set a new idempotency_key to make the same clip again."
    )


def lost_clip_message(entry: LedgerEntry, reason: str) -> str:
    """
    Return what was paid for and is lost, and what to do.

    :param entry: the entry, which says that the clip is archived.
    :param reason: why it can't be archived anew.
    """
    paid = entry.cost_estimate if entry.charged is None else entry.charged
    cost = "an unknown amount" if paid is None else f"${paid:.2f}"
    # The remedy comes first: the results of a batch shorten their messages.
    return (
        f"Clip {entry.fingerprint} is lost: request {entry.request_id} was paid for ({cost}), its file is no longer at "
        f"{entry.archive_uri}, and it can't be archived anew. Nothing was paid now. Restore the object and clear this "
        f"task; or set a new idempotency_key, which makes and pays for the clip again. Cause: {reason}"
    )
