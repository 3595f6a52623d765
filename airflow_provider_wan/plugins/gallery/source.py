# SPDX-License-Identifier: Apache-2.0
"""Where the gallery reads: the deployment's ledger and buckets, with the deployment's connections."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.ledger.errors import LedgerError
from airflow_provider_wan.plugins.gallery.clips import Clip
from airflow_provider_wan.plugins.gallery.index import ClipIndex

if TYPE_CHECKING:
    from airflow_provider_wan.ledger import LedgerEntry, LedgerStore

READERS = 16
_CHUNK = 500


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
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from airflow_provider_wan.s3.client import build_signing_config

        local.client = S3Hook(aws_conn_id=aws_conn_id(), config=build_signing_config()).get_conn()
    return local.client


def open_index() -> ClipIndex:
    """Return the clips of the deployment's ledger. Nothing is read yet."""
    return ClipIndex(DeploymentLedger())


def build_clip(entry: LedgerEntry) -> Clip:
    """Return what the gallery shows of an entry."""
    outcome = entry.outcome
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
        cost=entry.cost,
        reason=outcome.error if outcome else None,
        permanent=bool(outcome and outcome.permanent),
        archive_uri=entry.archive_uri,
        source_uri=entry.source_uri,
        attempts=len(entry.request_ids),
        reused=entry.reuse_count,
        duplicates=tuple(past.request_id for past in entry.duplicates if past.request_id),
    )


class DeploymentLedger:
    """The clips of the deployment's ledger. It is opened at each reading, so that a changed setting is followed."""

    def clips(self, modified_since: float | None) -> Iterator[Clip]:
        """
        Yield the clips.

        :param modified_since: Unix seconds; those not written since are left out.
        """
        from airflow_provider_wan.ledger import open_store
        from airflow_provider_wan.operators.ledger_context import find_ledger_uri

        uri = find_ledger_uri(None)
        if uri is None:
            return
        store = open_store(uri, s3_client=s3_client)
        if modified_since is not None:
            for stored in store.entries(modified_since=modified_since):
                yield build_clip(stored.entry)
            return
        with ThreadPoolExecutor(READERS, thread_name_prefix="wan-gallery") as pool:
            yield from _read_all(pool, uri, store.fingerprints())


def _read_all(pool: ThreadPoolExecutor, uri: str, fingerprints: Iterable[str]) -> Iterator[Clip]:
    """Read entries side by side: one after the other, a large ledger on S3 takes minutes."""
    from airflow_provider_wan.ledger import open_store

    stores = threading.local()

    def read(fingerprint: str) -> Clip | None:
        if not hasattr(stores, "store"):
            stores.store = open_store(uri, s3_client=s3_client)
        store: LedgerStore = stores.store
        try:
            stored = store.read(fingerprint)
        except LedgerError:
            return None
        return build_clip(stored.entry) if stored is not None else None

    chunk: list[str] = []
    for fingerprint in fingerprints:
        chunk.append(fingerprint)
        if len(chunk) == _CHUNK:
            yield from filter(None, pool.map(read, chunk))
            chunk = []
    yield from filter(None, pool.map(read, chunk))
