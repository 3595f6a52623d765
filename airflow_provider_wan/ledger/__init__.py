# SPDX-License-Identifier: Apache-2.0
"""
The ledger prevents a clip from being paid for twice, and from being lost. It does not depend on Airflow.

How the layers above use it::

    store = open_store("s3://bucket/ledger", s3_client=S3Hook(aws_conn_id).get_conn)   # or file:///folder

    scope = build_scope(reuse, run=f"{dag_id}/{run_id}")
    fingerprint = compute_fingerprint(request, scope=scope, media_sha256=…, idempotency_key=…)
    owner = Owner(task=f"{dag_id}/{run_id}/{task_id}/{map_index}", try_number=try_number, nonce=uuid4().hex)

    submitter = Submitter(client, store)
    result = submitter.submit_once(
        request, fingerprint=fingerprint, owner=owner, scope=scope, prices=config.prices, max_cost=…,
        on_doubt="reconcile", before_pay=build_and_serialize_the_trigger, deadline=end_time,
    )
    result.entry.request_id, result.entry.state, result.record, result.paid_now

    result = submitter.try_submit(SubmitRequest(request, fingerprint, owner, …))   # returns RetryLater, never waits

    submitter.ledger.record_result(fingerprint, record)                        # any terminal record; safe to repeat
    submitter.ledger.record_archive(fingerprint, request_id, uri, sha256)      # safe to repeat

:class:`~airflow_provider_wan.ledger.ledger.Ledger` has the updates that spend nothing (``record_result``,
``record_archive``) and needs no client; a person's decision is recorded by
:mod:`~airflow_provider_wan.ledger.manual_resolution`.
What :meth:`~airflow_provider_wan.ledger.submitter.Submitter.submit_once` does with each entry and each response is in
:mod:`~airflow_provider_wan.ledger.rules`. ``store.entries()`` yields all entries.
"""

from __future__ import annotations

from airflow_provider_wan.ledger.budget import Budget
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner, TaskReference
from airflow_provider_wan.ledger.errors import (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
)
from airflow_provider_wan.ledger.fingerprint import Reuse, build_scope, compute_fingerprint
from airflow_provider_wan.ledger.ledger import Ledger
from airflow_provider_wan.ledger.rules import Decision, Policy
from airflow_provider_wan.ledger.stores import open_store
from airflow_provider_wan.ledger.stores.base import LedgerStore, StoredEntry
from airflow_provider_wan.ledger.submitter import RetryLater, SubmitRequest, SubmitResult, Submitter, WaitReason

__all__ = [
    "Budget",
    "Decision",
    "EntryState",
    "Ledger",
    "LedgerBusyError",
    "LedgerCorruptError",
    "LedgerEntry",
    "LedgerError",
    "LedgerStore",
    "LedgerUnavailableError",
    "LedgerUnsafeError",
    "LedgerVersionError",
    "Owner",
    "Policy",
    "RetryLater",
    "Reuse",
    "StoredEntry",
    "SubmitRequest",
    "SubmitResult",
    "Submitter",
    "TaskReference",
    "WaitReason",
    "build_scope",
    "compute_fingerprint",
    "open_store",
]
