# SPDX-License-Identifier: Apache-2.0
"""
The memory that keeps a clip from being paid for twice, and from being lost. No Airflow here.

How the floors above use it::

    store = open_store("s3://bucket/ledger", s3_client=S3Hook(aws_conn_id).get_conn)   # or file:///folder
    store = StateStore(context["task_state_store"])                                    # where no ledger is set

    scope = scope_of(reuse, run=f"{dag_id}/{run_id}", task=f"{dag_id}/{run_id}/{task_id}/{map_index}")
    fingerprint = fingerprint_of(request, scope=scope, image_sha256=…, audio_sha256=…, force_token=…)
    owner = Owner(task=f"{dag_id}/{run_id}/{task_id}/{map_index}", attempt=try_number, nonce=uuid4().hex)

    submission = Submission(client, store)
    held = submission.ensure(
        request, fingerprint=fingerprint, owner=owner, scope=scope, prices=config.prices, max_cost=…,
        on_doubt="reconcile", before_pay=build_and_serialize_the_trigger, deadline=end_time,
    )
    held.entry.request_id, held.entry.state, held.record, held.paid_now

    held = submission.attempt(Job(request, fingerprint, owner, …))     # as ensure, but Later in place of a wait

    submission.finish(fingerprint, record)                        # any terminal record; safe to repeat
    submission.archive(fingerprint, request_id, uri, sha256)      # safe to repeat

:class:`~airflow_provider_wan.ledger.advance.Advance` has the calls that spend nothing (``finish``, ``archive``, and
``adopt`` and ``absent`` for a person's verdict) and needs no client. What :meth:`ensure` does with each state and each
answer is in :mod:`~airflow_provider_wan.ledger.decision`. ``store.entries()`` yields all entries, for harvest and
reconcile.
"""

from __future__ import annotations

from airflow_provider_wan.ledger.advance import Advance
from airflow_provider_wan.ledger.cost import cost_of
from airflow_provider_wan.ledger.decision import Decision, Policy
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry, Owner
from airflow_provider_wan.ledger.errors import (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
)
from airflow_provider_wan.ledger.fingerprint import Reuse, fingerprint_of, scope_of
from airflow_provider_wan.ledger.job import Job, Submitted
from airflow_provider_wan.ledger.steps import Later, Why
from airflow_provider_wan.ledger.store import LedgerStore, StateStore, Versioned, open_store
from airflow_provider_wan.ledger.submission import Submission

__all__ = [
    "Advance",
    "Decision",
    "EntryState",
    "Job",
    "Later",
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
    "Reuse",
    "StateStore",
    "Submission",
    "Submitted",
    "Versioned",
    "Why",
    "cost_of",
    "fingerprint_of",
    "open_store",
    "scope_of",
]
