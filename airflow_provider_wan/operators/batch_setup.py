# SPDX-License-Identifier: Apache-2.0
"""Builds a batch from the arguments of its operator and from the connections."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_wan.operators import ledger_context
from airflow_provider_wan.operators.arguments import parse_usd
from airflow_provider_wan.s3.uri import build_s3_uri, parse_s3_prefix

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.batch.checkpoint import CheckpointStore
    from airflow_provider_wan.batch.estimate import BatchEstimate
    from airflow_provider_wan.batch.run import BatchContext
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger import LedgerStore

#: Connections of the S3 client: one for each thread of a batch, and some for multipart uploads.
MAX_S3_CONNECTIONS = 24


class BatchArguments(Protocol):
    """What is used of :class:`~airflow_provider_wan.operators.wan_batch.WanI2VBatchOperator`."""

    manifest: str | Sequence[Any]
    output_prefix: str
    rows: Sequence[int] | None
    columns: Any
    row_templates: Any
    model: str | None
    aws_conn_id: str | None
    ledger_uri: str | None
    reuse: Any
    force_new: bool | str
    max_cost: float | None
    fit: Any
    delivery: Any
    lifetime: int | None
    max_in_flight: int
    submits_per_second: float
    poll_interval: float
    item_timeout: float
    on_item_failure: Any

    @property
    def hook(self) -> WanHook:
        """Hook of the connection."""

    @property
    def s3(self) -> Any:
        """Return a boto3 S3 client."""

    def upload(self, data: bytes, file_type: str) -> str:
        """Upload an image to the API."""


def build_checkpoint_store(arguments: BatchArguments, context: Context) -> CheckpointStore:
    """Return the store of a task instance's batch, which is the same in all its tries.

    :param arguments: the operator.
    :param context: Airflow's context.
    """
    from airflow_provider_wan.batch.checkpoint import CheckpointStore

    ti = context["ti"]
    bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
    index = "" if ti.map_index is None or ti.map_index < 0 else f"/{ti.map_index}"
    name = re.sub(r"[^\w./-]+", "_", f"{ti.dag_id}.{ti.task_id}/{ti.run_id.replace('/', '_')}{index}")
    return CheckpointStore(arguments.s3, bucket, f"{prefix}_batch/{name}/")


def open_batch_ledger(arguments: BatchArguments, context: Context) -> LedgerStore:
    """Return the ledger of a batch; if none is set, it is stored with the output.

    :param arguments: the operator.
    :param context: Airflow's context.
    :raises WanValidationError: if ``reuse`` needs a ledger, and none is set.
    """
    uri = ledger_context.resolve_ledger_uri(arguments.ledger_uri)
    ledger_context.check_reuse(arguments.reuse, uri)
    if uri is None:
        bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
        uri = build_s3_uri(bucket, f"{prefix}_ledger")
    return ledger_context.open_ledger(context, uri, arguments.aws_conn_id)


def build_defaults(arguments: BatchArguments) -> dict[str, Any]:
    """Return the payload fields for rows that do not have them.

    :param arguments: the operator.
    :raises WanValidationError: if the text of a template is not a value of its field's type.
    """
    from airflow_provider_wan.batch.rows import PARAMETERS
    from airflow_provider_wan.batch.values import parse_cell

    given = {name: getattr(arguments, name) for name in (*PARAMETERS, "audio_url")}
    # A template renders to text, and an unset one to "None" or an empty text.
    defaults = {
        name: parse_cell(name, value) if isinstance(value, str) and name != "audio_url" else value
        for name, value in given.items()
        if value is not None and not (name in ("seed", "audio_url") and value in ("", "None"))
    }
    return defaults | {"model": arguments.model or arguments.hook.config.model}


def build_batch(arguments: BatchArguments, context: Context) -> BatchContext:
    """Return the parts and settings of a batch.

    :param arguments: the operator.
    :param context: Airflow's context.
    :raises WanValidationError: if an argument is invalid.
    """
    from airflow_provider_wan.batch.archiver import Archiver
    from airflow_provider_wan.batch.columns import ColumnMapping
    from airflow_provider_wan.batch.manifest import open_manifest
    from airflow_provider_wan.batch.preparer import ItemPreparer
    from airflow_provider_wan.batch.rows import parse_row_range
    from airflow_provider_wan.batch.run import BatchContext
    from airflow_provider_wan.batch.submitter import ItemSubmitter
    from airflow_provider_wan.ledger import Ledger, Submitter, build_scope
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.fetch import ResultHosts
    from airflow_provider_wan.media.ingest import Delivery, Fit, MediaIngester

    columns = ColumnMapping.parse(arguments.columns, arguments.row_templates)
    config, client = arguments.hook.config, arguments.hook.client
    bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
    ledger_store, store = open_batch_ledger(arguments, context), build_checkpoint_store(arguments, context)
    owner = ledger_context.build_owner(context)
    scope = build_scope(arguments.reuse, run=ledger_context.run_name(context), task=ledger_context.task_name(context))
    model = arguments.model or config.model
    ingest = MediaIngester(
        lambda: arguments.s3,
        arguments.upload,
        fit=Fit(arguments.fit),
        delivery=Delivery(arguments.delivery),
        dest_prefix=build_s3_uri(bucket, f"{prefix}_ingest"),
        lifetime=arguments.lifetime,
    )
    ledger = Ledger(ledger_store)
    clip_archive = ClipArchive(arguments.s3, ResultHosts(config.result_hosts, config.base_url))
    archiver = Archiver(clip_archive, ledger, bucket, prefix)
    return BatchContext(
        manifest=open_manifest(arguments.manifest, lambda: arguments.s3, columns),
        rows=parse_row_range(arguments.rows),
        defaults=build_defaults(arguments),
        api=client,
        ledger=ledger,
        submitter=ItemSubmitter(
            Submitter(client, ledger_store),
            archiver,
            owner=owner,
            scope=scope,
            prices=config.prices,
            model=model,
            clock=time.time,
        ),
        preparer=ItemPreparer(
            ingest,
            scope=scope,
            force_token=ledger_context.resolve_force_token(context, arguments.force_new),
            store=store,
        ),
        archiver=archiver,
        store=store,
        owner=owner,
        model=model,
        max_cost=parse_usd(arguments.max_cost),
        max_in_flight=arguments.max_in_flight,
        submits_per_second=arguments.submits_per_second,
        poll_interval=arguments.poll_interval,
        max_polls_per_second=config.status_requests_per_second,
        item_timeout=arguments.item_timeout,
        fail_fast=arguments.on_item_failure == "fail_fast",
        sleep=time.sleep,
    )


def build_estimate(arguments: BatchArguments, context: Context) -> BatchEstimate:
    """Estimate what a batch costs. Nothing is sent to the API.

    :param arguments: the operator.
    :param context: Airflow's context.
    :raises WanValidationError: if an argument is invalid.
    """
    from airflow_provider_wan.batch.columns import ColumnMapping
    from airflow_provider_wan.batch.estimate import estimate_batch
    from airflow_provider_wan.batch.manifest import open_manifest
    from airflow_provider_wan.batch.rows import parse_row_range
    from airflow_provider_wan.ledger import build_scope

    columns = ColumnMapping.parse(arguments.columns, arguments.row_templates)
    manifest = open_manifest(arguments.manifest, lambda: arguments.s3, columns)
    rows = parse_row_range(arguments.rows)
    selected = (raw for raw in manifest.rows() if rows is None or rows[0] <= raw.number <= rows[1])
    return estimate_batch(
        selected,
        build_defaults(arguments),
        store=open_batch_ledger(arguments, context),
        scope=build_scope(
            arguments.reuse, run=ledger_context.run_name(context), task=ledger_context.task_name(context)
        ),
        force_token=ledger_context.resolve_force_token(context, arguments.force_new),
        prices=arguments.hook.config.prices,
        max_in_flight=arguments.max_in_flight,
    )
