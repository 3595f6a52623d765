# SPDX-License-Identifier: Apache-2.0
"""Builds a batch from the arguments of its operator and from the connections."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.operators import ledger_context
from airflow_provider_wan.operators.arguments import parse_clip_field, parse_usd
from airflow_provider_wan.operators.object_storage import AirflowObjectStorage
from airflow_provider_wan.s3.uri import build_s3_uri, parse_s3_prefix

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.batch.checkpoint import CheckpointStore
    from airflow_provider_wan.batch.estimate import BatchEstimate
    from airflow_provider_wan.batch.run import BatchContext
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger.stores.base import DocumentStore
    from airflow_provider_wan.media.image_fit import FitOptions

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
    s3_options: Mapping[str, Any] | None
    ledger_uri: str | None
    reuse: Any
    idempotency_key: str | None
    max_cost: float | None
    delivery: Any
    lifetime: int | None
    probe_urls: bool
    max_in_flight: int
    submits_per_second: float
    poll_interval: float
    item_timeout: float
    on_item_failure: Any

    @property
    def hook(self) -> WanHook:
        """Hook of the connection."""

    @property
    def fit_options(self) -> FitOptions:
        """How images are adapted."""

    @property
    def s3(self) -> Any:
        """Return a boto3 S3 client."""

    def upload(self, data: bytes, file_type: str) -> str:
        """Upload an image to the API."""


def build_checkpoint_store(arguments: BatchArguments, context: Context) -> CheckpointStore:
    """Return the store of a task instance's batch, which is the same in all its attempts.

    :param arguments: the operator.
    :param context: Airflow's context.
    """
    from airflow_provider_wan.batch.checkpoint import CheckpointStore

    ti = context["ti"]
    bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
    index = "" if ti.map_index is None or ti.map_index < 0 else f"/{ti.map_index}"
    # The readable part replaces characters, and joins names: only the hash is unique to a run.
    identity = [ti.dag_id, ti.task_id, ti.run_id, ledger_context.loop_name(context)]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{ti.dag_id}.{ti.task_id}"), re.sub(r"[^A-Za-z0-9_.-]+", "_", ti.run_id)
    return CheckpointStore(arguments.s3, bucket, f"{prefix}_batch/{name[0][:200]}/{name[1][:200]}-{digest}{index}/")


def hash_arguments(arguments: BatchArguments, context: Context) -> str:
    """Return a hash of what decides which clip a row gets. A checkpoint of other arguments is not continued.

    :param arguments: the operator.
    :param context: Airflow's context.
    :raises WanValidationError: if an argument is invalid.
    """
    from airflow_provider_wan.batch.values import dump_stably

    decisive = [
        build_defaults(arguments),
        arguments.reuse,
        arguments.rows,
        arguments.columns,
        arguments.row_templates,
        ledger_context.loop_name(context),
        asdict(arguments.fit_options),
    ]
    return hashlib.sha256(dump_stably(decisive).encode()).hexdigest()[:16]


def resolve_batch_ledger_uri(arguments: BatchArguments) -> str:
    """Return the ledger of a batch; if none is set, it is stored with the output.

    :param arguments: the operator.
    :raises WanValidationError: if ``reuse`` needs a ledger, and none is set.
    """
    if uri := arguments.ledger_uri or ledger_context.configured_ledger_uri():
        return uri
    if arguments.reuse == "content":
        raise WanValidationError(
            "reuse",
            arguments.reuse,
            "needs a ledger that all runs share",
            "Set ledger_uri on the task, or for all as [wan] ledger_uri",
        )
    bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
    return build_s3_uri(bucket, f"{prefix}_ledger")


def open_batch_ledger(arguments: BatchArguments) -> DocumentStore:
    """Open the ledger of a batch.

    :param arguments: the operator.
    :raises WanValidationError: if ``reuse`` needs a ledger, and none is set.
    """
    from airflow_provider_wan.ledger import open_store

    return open_store(resolve_batch_ledger_uri(arguments), s3_client=lambda: arguments.s3)


def build_budget_name(arguments: BatchArguments, context: Context) -> str:
    """Return the name of a task's budget, which is the same in all its attempts.

    Mapped tasks differ by their arguments: after an upstream task is cleared, a map index may belong to
    another manifest.

    :param arguments: the operator.
    :param context: Airflow's context.
    """
    from airflow_provider_wan.batch.values import dump_stably

    ti = context["ti"]
    name = f"{ledger_context.run_name(context)}/{ti.task_id}{ledger_context.loop_name(context)}"
    if ti.map_index is None or ti.map_index < 0:
        return name
    given = [arguments.manifest, arguments.rows, arguments.output_prefix]
    digest = hashlib.sha256(dump_stably(given).encode()).hexdigest()
    return f"{name}/{digest[:16]}"


def build_defaults(arguments: BatchArguments) -> dict[str, Any]:
    """Return the payload fields and the idempotency key for rows that do not have them.

    :param arguments: the operator.
    :raises WanValidationError: if the text of a template is not a value of its field's type.
    """
    from airflow_provider_wan.batch.rows import IDEMPOTENCY_COLUMN, PARAMETERS
    from airflow_provider_wan.ledger.fingerprint import parse_idempotency_key

    given = {name: parse_clip_field(name, getattr(arguments, name)) for name in (*PARAMETERS, "audio_url")}
    defaults = {name: value for name, value in given.items() if value is not None}
    defaults["model"] = arguments.model or arguments.hook.config.model
    return defaults | {IDEMPOTENCY_COLUMN: parse_idempotency_key(arguments.idempotency_key)}


def build_batch(arguments: BatchArguments, context: Context) -> BatchContext:
    """Return the parts and settings of a batch.

    :param arguments: the operator.
    :param context: Airflow's context.
    :raises WanValidationError: if an argument is invalid.
    """
    from airflow_provider_wan.batch.archiver import Archiver
    from airflow_provider_wan.batch.columns import ColumnMapping
    from airflow_provider_wan.batch.manifest import open_manifest
    from airflow_provider_wan.batch.preparer import ItemPreparer, validate_batch_lifetime
    from airflow_provider_wan.batch.rows import parse_row_range
    from airflow_provider_wan.batch.run import BatchContext
    from airflow_provider_wan.batch.submitter import ItemSubmitter
    from airflow_provider_wan.ledger import Budget, Submitter, build_scope
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.fetch import ResultHosts
    from airflow_provider_wan.media.ingest import Delivery, MediaIngester
    from airflow_provider_wan.media.url_probe import UrlProbe

    if arguments.delivery == Delivery.PRESIGN:
        validate_batch_lifetime(arguments.lifetime)
    columns = ColumnMapping.parse(arguments.columns, arguments.row_templates)
    config, client = arguments.hook.config, arguments.hook.client
    bucket, prefix = parse_s3_prefix(arguments.output_prefix, "output_prefix")
    ledger_store, store = open_batch_ledger(arguments), build_checkpoint_store(arguments, context)
    owner = ledger_context.build_owner(context)
    scope = build_scope(arguments.reuse, run=ledger_context.run_name(context))
    model = arguments.model or config.model
    max_cost = parse_usd(arguments.max_cost)
    storage = AirflowObjectStorage()
    ingest = MediaIngester(
        lambda: arguments.s3,
        arguments.upload,
        fit=arguments.fit_options,
        delivery=Delivery(arguments.delivery),
        dest_prefix=build_s3_uri(bucket, f"{prefix}_ingest"),
        lifetime=arguments.lifetime,
        network=config.network,
        storage=storage,
    )
    # A batch logs what happens to its rows by their numbers and images.
    submitter = Submitter(client, ledger_store, log_level=logging.DEBUG)
    ledger = submitter.ledger
    clip_archive = ClipArchive(arguments.s3, ResultHosts.from_config(config))
    archiver = Archiver(clip_archive, ledger, client, bucket, prefix)
    return BatchContext(
        manifest=open_manifest(arguments.manifest, lambda: arguments.s3, columns, storage),
        rows=parse_row_range(arguments.rows),
        defaults=build_defaults(arguments),
        arguments_id=hash_arguments(arguments, context),
        api=client,
        ledger=ledger,
        submitter=ItemSubmitter(
            submitter,
            archiver,
            owner=owner,
            scope=scope,
            prices=config.get_limit_prices(max_cost),
            model=model,
            reference=ledger_context.build_reference(context, None),
            clock=time.time,
        ),
        preparer=ItemPreparer(
            ingest,
            scope=scope,
            store=store,
            ledger_store=ledger_store,
            probe=UrlProbe(config.base_url, config.network) if arguments.probe_urls else None,
        ),
        archiver=archiver,
        store=store,
        owner=owner,
        model=model,
        budget=Budget(ledger_store, build_budget_name(arguments, context), max_cost),
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
    manifest = open_manifest(arguments.manifest, lambda: arguments.s3, columns, AirflowObjectStorage())
    rows = parse_row_range(arguments.rows)
    selected = (raw for raw in manifest.rows() if rows is None or rows[0] <= raw.number <= rows[1])
    return estimate_batch(
        selected,
        build_defaults(arguments),
        store=open_batch_ledger(arguments),
        scope=build_scope(arguments.reuse, run=ledger_context.run_name(context)),
        prices=arguments.hook.config.prices,
        max_in_flight=arguments.max_in_flight,
    )
