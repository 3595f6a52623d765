# SPDX-License-Identifier: Apache-2.0
"""Puts a batch together: connections made into clients, arguments into settings."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.operators import memory
from airflow_provider_wan.operators.arguments import dollars_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.batch.journal import Journal
    from airflow_provider_wan.batch.quote import Quote
    from airflow_provider_wan.batch.state import Setup
    from airflow_provider_wan.ledger import LedgerStore
    from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

CONNECTIONS = 24


def split_output(output: Any) -> tuple[str, str]:
    """
    Take ``s3://bucket/prefix/`` apart.

    :return: bucket, and prefix, which is empty or ends in ``/``.
    :raises WanValidationError: where it is none.
    """
    scheme, _, rest = output.partition("://") if isinstance(output, str) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    if scheme not in ("s3", "s3a", "s3n") or not bucket or ".." in prefix.split("/"):
        raise WanValidationError("output_prefix", output, "must be s3://bucket/prefix/")
    return bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""


def journal_of(task: WanI2VBatchOperator, context: Context) -> Journal:
    """Return the files of a task instance's batch: they are the same in all its tries."""
    from airflow_provider_wan.batch.journal import Journal

    ti = context["ti"]
    bucket, prefix = split_output(task.output_prefix)
    index = "" if ti.map_index is None or ti.map_index < 0 else f"/{ti.map_index}"
    name = re.sub(r"[^\w./-]+", "_", f"{ti.dag_id}.{ti.task_id}/{ti.run_id.replace('/', '_')}{index}")
    return Journal(task.s3, bucket, f"{prefix}_batch/{name}/")


def ledger_of(task: WanI2VBatchOperator, context: Context) -> LedgerStore:
    """Return the ledger: where none is named, it lies with the output."""
    uri = memory.ledger_uri_of(task.ledger_uri)
    if uri is None and task.reuse == "content":
        raise WanValidationError(
            "reuse",
            task.reuse,
            "needs a ledger that all runs share",
            "Set ledger_uri on the task, or for all as [wan] ledger_uri",
        )
    if uri is None:
        bucket, prefix = split_output(task.output_prefix)
        uri = f"s3://{bucket}/{prefix}_ledger"
    return memory.open_ledger(context, uri, task.aws_conn_id)


def scope_of(task: WanI2VBatchOperator, context: Context) -> str:
    """Return within what clips are shared."""
    from airflow_provider_wan.ledger import scope_of

    return scope_of(task.reuse, run=memory.run_name(context), task=memory.task_name(context))


def defaults_of(task: WanI2VBatchOperator) -> dict[str, Any]:
    """Return the fields of the payload for rows that have none."""
    from airflow_provider_wan.batch.item import PARAMETERS, typed_text

    given = {name: getattr(task, name) for name in (*PARAMETERS, "audio_url")}
    # A template renders to text, an unset one to "None" or nothing.
    told = {
        name: typed_text(name, value) if isinstance(value, str) and name != "audio_url" else value
        for name, value in given.items()
        if value is not None and not (name in ("seed", "audio_url") and value in ("", "None"))
    }
    return told | {"model": task.model or task.hook.config.model}


def setup_of(task: WanI2VBatchOperator, context: Context) -> Setup:
    """
    Put a batch together.

    :raises WanValidationError: naming the argument.
    """
    from airflow_provider_wan.batch.keep import Keeper
    from airflow_provider_wan.batch.manifest import open_manifest
    from airflow_provider_wan.batch.prepare import Preparer
    from airflow_provider_wan.batch.state import Setup, slice_of
    from airflow_provider_wan.ledger import Advance, Submission
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.fetch import ResultHosts
    from airflow_provider_wan.media.ingest import Delivery, Fit, Ingest

    config, client = task.hook.config, task.hook.client
    bucket, prefix = split_output(task.output_prefix)
    store, journal, scope = ledger_of(task, context), journal_of(task, context), scope_of(task, context)
    ingest = Ingest(
        lambda: task.s3,
        task.upload,
        fit=Fit(task.fit),
        delivery=Delivery(task.delivery),
        dest_prefix=f"s3://{bucket}/{prefix}_ingest",
        lifetime=task.lifetime,
    )
    archive = ClipArchive(task.s3, ResultHosts(config.result_hosts, config.base_url))
    return Setup(
        manifest=open_manifest(task.manifest, lambda: task.s3),
        rows=slice_of(task.rows),
        defaults=defaults_of(task),
        api=client,
        submission=Submission(client, store),
        preparer=Preparer(
            ingest, scope=scope, force_token=memory.force_token_of(context, task.force_new), journal=journal
        ),
        keeper=Keeper(archive, Advance(store), bucket, prefix),
        journal=journal,
        owner=memory.owner_of(context),
        scope=scope,
        model=task.model or config.model,
        prices=config.prices,
        max_cost=dollars_of(task.max_cost),
        max_in_flight=task.max_in_flight,
        submits_per_second=task.submits_per_second,
        poll_interval=task.poll_interval,
        looks_per_second=config.status_requests_per_second,
        item_timeout=task.item_timeout,
        fail_fast=task.on_item_failure == "fail_fast",
        sleep=time.sleep,
    )


def quote_of(task: WanI2VBatchOperator, context: Context) -> Quote:
    """Estimate what a task would cost; nothing is sent to the API."""
    from airflow_provider_wan.batch.manifest import open_manifest
    from airflow_provider_wan.batch.quote import quote
    from airflow_provider_wan.batch.state import slice_of

    manifest, rows = open_manifest(task.manifest, lambda: task.s3), slice_of(task.rows)
    found = (raw for raw in manifest.rows() if rows is None or rows[0] <= raw.number <= rows[1])
    return quote(
        found,
        defaults_of(task),
        store=ledger_of(task, context),
        scope=scope_of(task, context),
        force_token=memory.force_token_of(context, task.force_new),
        prices=task.hook.config.prices,
        max_in_flight=task.max_in_flight,
    )
