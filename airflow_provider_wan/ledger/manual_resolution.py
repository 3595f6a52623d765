# SPDX-License-Identifier: Apache-2.0
"""
A person's decision on a submission in doubt: it was accepted as a certain request, or never.

The decision is compared with what the API and the ledger show, and recorded by a conditional write on the entry that
was checked. Nothing here spends money.
"""

from __future__ import annotations

from airflow_provider_wan.api.errors import Retry, WanRefusedError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.request import MODELS
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry
from airflow_provider_wan.ledger.errors import ConflictError
from airflow_provider_wan.ledger.ledger import Ledger
from airflow_provider_wan.ledger.reconcile import (
    Finding,
    Match,
    OtherEntries,
    ReconcileResult,
    RequestReader,
    find_acceptance_time,
    get_first_sent_at,
    is_in_time,
    match_record,
    reconcile_entry,
)
from airflow_provider_wan.ledger.rules import Policy
from airflow_provider_wan.ledger.stores.base import StoredEntry
from airflow_provider_wan.ledger.submitter import check_account


class ResolutionRefusedError(WanRefusedError):
    """What the API or the ledger shows contradicts the decision, or it comes too early. Nothing was recorded."""

    retry = Retry.NEVER


def confirm_absence(api: RequestReader, ledger: Ledger, stored: StoredEntry, policy: Policy, now: float) -> LedgerEntry:
    """
    Record that a submission in doubt was never accepted, and may be sent again.

    :param api: the client.
    :param ledger: the ledger.
    :param stored: the entry as it was read.
    :param policy: times and limits.
    :param now: Unix seconds.
    :raises ResolutionRefusedError: if its owner may be about to send it, if its POST may be on its way, or if the API's
        list shows the request or can't be read.
    """
    entry = stored.entry
    _check_in_doubt(api, entry)
    silent = max(now - entry.renewed_at, 0.0)
    if entry.state is EntryState.CLAIMED and silent < policy.lease:
        raise ResolutionRefusedError(
            f"The owner of the clip, {entry.owner}, renewed its claim {silent:.0f} s ago and may be sending it. "
            f"Try again in {policy.lease - silent:.0f} s, or end that task."
        )
    age = now - entry.last_sent_at
    if age < policy.settling_time:
        raise ResolutionRefusedError(
            f"The submission began {max(age, 0.0):.0f} s ago, and may still be accepted, or appear in the list late. "
            f"Try again in {policy.settling_time - age:.0f} s."
        )
    result = reconcile_entry(api, ledger.store, entry, None, policy, now)
    _refuse_listed(result)
    reason = "a person confirmed that it was never accepted"
    return _record(ledger, stored, entries.rejected(entry, reason, now))


def _refuse_listed(result: ReconcileResult) -> None:
    if result.record is not None:
        raise ResolutionRefusedError(
            f"The API's list shows it, as request {result.record.request_id} ({result.record.status_text}). "
            f"Record that by --request-id {result.record.request_id}, or let the next attempt of the task find it."
        )
    if result.finding is Finding.UNDECIDED or "can't be read" in result.reason:
        raise ResolutionRefusedError(f"It can't be decided now: {result.reason}. Try again later.")


def adopt_request(
    api: RequestReader, ledger: Ledger, stored: StoredEntry, record: RequestRecord, policy: Policy
) -> LedgerEntry:
    """
    Record that a submission in doubt was accepted as a request.

    :param api: the client.
    :param ledger: the ledger.
    :param stored: the entry as it was read.
    :param record: the request as the API returns it.
    :param policy: times and limits.
    :raises ResolutionRefusedError: if the request has another seed or payload, is older than the submission, or
        belongs to another entry.
    """
    entry = stored.entry
    _check_in_doubt(api, entry)
    match = match_record(entry, None, record)
    if match is Match.NO or match is Match.SEED_ONLY:
        raise ResolutionRefusedError(
            f"Request {record.request_id} is not this clip's: its seed or payload is not what was sent (seed "
            f"{entry.seed}, {entry.resolution}, {entry.duration} s). Check the id."
        )
    if match is Match.PAYLOAD_HIDDEN and entry.model not in MODELS and record.model not in (None, entry.model):
        raise ResolutionRefusedError(
            f"Request {record.request_id} is not this clip's: its model is {record.model}, and not {entry.model}. "
            "Check the id."
        )
    # A drawn seed is ours whatever the clocks show. Anything else may be another request of the same time.
    by_seed = match is Match.YES and entry.seed_drawn
    if record.created_at is None:
        if not by_seed:
            raise ResolutionRefusedError(
                f"Request {record.request_id} may be this clip's: it has neither our drawn seed nor a time. Check the "
                "id, or wait until the list of the API shows more."
            )
    elif record.created_at < get_first_sent_at(entry) - policy.clock_margin:
        raise ResolutionRefusedError(
            f"Request {record.request_id} is not this clip's: it is older than the submission. Check the id."
        )
    elif not by_seed and not is_in_time(entry, record, policy):
        raise ResolutionRefusedError(
            f"Request {record.request_id} is not this clip's: it was accepted long after the submission. Check the id."
        )
    if entry.is_own_request(record.request_id):
        raise ResolutionRefusedError(
            f"Request {record.request_id} is an earlier one of this clip, and has ended. Let the next attempt decide."
        )
    others = OtherEntries.read(ledger.store, entry, None)
    if others.own(record) or (match is Match.REWRITTEN and others.explain(record)):
        raise ResolutionRefusedError(
            f"Request {record.request_id} belongs to another clip of the ledger. Check the id."
        )
    accepted_at = find_acceptance_time(entry, record, policy)
    return _record(ledger, stored, entries.submitted(entry, record.request_id, accepted_at, found=True))


def _check_in_doubt(api: RequestReader, entry: LedgerEntry) -> None:
    check_account(entry, api.account)
    if not entry.may_have_been_sent:
        raise ResolutionRefusedError(
            f"Clip {entry.fingerprint} is {entry.state.value}, not in doubt. There is nothing to resolve."
        )


def _record(ledger: Ledger, stored: StoredEntry, entry: LedgerEntry) -> LedgerEntry:
    try:
        return ledger.replace(stored, entry).entry
    except ConflictError:
        raise ResolutionRefusedError(
            f"Clip {entry.fingerprint} has changed since it was read: a task works on it. Nothing was recorded."
        ) from None
