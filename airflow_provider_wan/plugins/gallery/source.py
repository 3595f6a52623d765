# SPDX-License-Identifier: Apache-2.0
"""
Where the gallery reads: the deployment's ledger, those that tasks have named, and the buckets.

It reads all of them with one AWS connection. A ledger that a Dag's tasks name shows clips of that Dag only.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.plugins.gallery.clips import Clip
from airflow_provider_wan.plugins.gallery.index import ClipIndex, KnownLedger

if TYPE_CHECKING:
    from airflow_provider_wan.ledger import LedgerEntry

# Of the ledgers that tasks have named, so many are read: those that were used last.
MAX_LEDGERS = 200
# A request that waits for S3 occupies one of the API server's few threads.
S3_TIMEOUT_SECONDS = 5.0


def aws_conn_id() -> str | None:
    """Return the AWS connection of the gallery: ``[wan] gallery_aws_conn_id``."""
    return conf.get("wan", "gallery_aws_conn_id", fallback="aws_default") or None


@cache
def _thread_clients() -> threading.local:
    return threading.local()


def s3_client() -> Any:
    """Return a boto3 client of this thread."""
    local = _thread_clients()
    if not hasattr(local, "client"):
        from airflow_provider_wan.hooks.s3_client import create_signing_client

        local.client = create_signing_client(aws_conn_id(), timeout=S3_TIMEOUT_SECONDS)
    return local.client


def open_index() -> ClipIndex:
    """Return the clips of the deployment's ledger and of those that tasks have named. Nothing is read yet."""
    return ClipIndex(LedgerReader())


def build_clip(entry: LedgerEntry) -> Clip:
    """Return what the gallery shows of an entry."""
    outcome = entry.outcome
    duplicates = [past.cost for past in entry.duplicates if past.cost is not None]
    costs = [*duplicates, *([] if entry.cost is None else [entry.cost])]
    return Clip(
        fingerprint=entry.fingerprint,
        state=str(entry.state),
        dag_id=entry.dag_id,
        run_id=entry.run_id,
        task_id=entry.task_id,
        map_index=entry.map_index,
        started_at=entry.claimed_at,
        submitted_at=entry.submitted_at,
        finished_at=entry.finished_at,
        request_id=entry.request_id,
        model=entry.model,
        resolution=entry.resolution,
        seconds=entry.duration,
        estimate=entry.cost_estimate,
        cost=round(sum(costs), 6) if costs else None,
        reason=outcome.error if outcome else None,
        permanent=bool(outcome and outcome.permanent),
        archive_uri=entry.archive_uri,
        source_uri=entry.source_uri,
        attempts=len(entry.request_ids),
        reused=entry.reuse_count,
        is_sent=bool(entry.request_id) or entry.may_have_been_sent,
        duplicates=tuple(past.request_id for past in entry.duplicates if past.request_id),
    )


class LedgerReader:
    """
    The clips of the deployment's ledger and of those that tasks have named.

    Settings and XComs are read at each reading, so that a change is followed.
    """

    def ledgers(self) -> list[KnownLedger]:
        """Return the ledgers: first the deployment's, then those that were used last."""
        from airflow_provider_wan.operators.ledger_context import find_ledger_uri

        uri = find_ledger_uri(None)
        own = [] if uri is None else [KnownLedger(uri)]
        return own + [ledger for ledger in list_named_ledgers() if ledger.uri.rstrip("/") != (uri or "").rstrip("/")]

    def clips(self, ledger: KnownLedger, modified_since: float | None) -> Iterator[Clip]:
        """
        Yield the clips of a ledger.

        :param ledger: the ledger.
        :param modified_since: Unix seconds; those not written since are left out.
        """
        from airflow_provider_wan.ledger import open_store

        for stored in open_store(ledger.uri, s3_client=s3_client).entries(modified_since=modified_since):
            yield replace(build_clip(stored.entry), ledger=ledger.tag)


def list_named_ledgers() -> list[KnownLedger]:
    """Return the ledgers that tasks have named by their XComs, those that were used last first."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    from airflow_provider_wan.operators.ledger_context import LEDGER_XCOM_KEY

    used_at = func.max(XComModel.timestamp).label("used_at")
    query = (
        select(XComModel.value, XComModel.dag_id, used_at)
        .where(XComModel.key == LEDGER_XCOM_KEY)
        .group_by(XComModel.value, XComModel.dag_id)
        .order_by(used_at.desc())
        .limit(MAX_LEDGERS)
    )
    with create_session() as session:
        rows = [(XComModel.deserialize_value(row), row.dag_id, row.used_at) for row in session.execute(query)]
    dag_ids: dict[str, set[str]] = defaultdict(set)
    last_used: dict[str, float] = {}
    for uri, dag_id, time in rows:
        if isinstance(uri, str) and uri.startswith(("s3://", "file://")):
            # As the store itself does: two spellings of one ledger would show and count its clips twice.
            uri = uri.rstrip("/")
            dag_ids[uri].add(dag_id)
            last_used.setdefault(uri, time.timestamp())
    return [KnownLedger(uri, frozenset(dags), last_used[uri]) for uri, dags in dag_ids.items()]
