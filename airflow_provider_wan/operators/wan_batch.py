# SPDX-License-Identifier: Apache-2.0
"""The operator that makes clips from a dataset of images."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.links.wan import WanClipsLink, WanSheetLink
from airflow_provider_wan.operators.arguments import (
    FITS,
    build_fit_options,
    parse_bool,
    parse_choice,
    parse_positive_int,
    parse_seconds,
)
from airflow_provider_wan.operators.assets import add_default_outlet, build_asset, emit_asset_events
from airflow_provider_wan.operators.base import WanClipBaseOperator, mask_rendered_queries
from airflow_provider_wan.traces import record_span
from airflow_provider_wan.triggers.cancellation import ON_KILL_SECONDS, CancelPolicy
from airflow_provider_wan.triggers.deferral import MIN_DEFERRAL_SECONDS, compute_end_time, deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.batch.engine import EndOfCycle
    from airflow_provider_wan.batch.report import BatchSummary
    from airflow_provider_wan.batch.run import BatchRun
    from airflow_provider_wan.media.image_fit import FitOptions
    from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

# After this time, a single request that has ended is worth a worker.
MAX_ENDED_AGE = 300.0
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/")


class WanI2VBatchOperator(WanClipBaseOperator):
    """Make clips from a dataset of images: one task, many requests in flight, each clip paid for once.

    The ledger records every clip. A retry, a clear, a killed worker or another run continues from there. Rows that
    cannot be submitted are reported with their reasons, and the other rows continue.

    All other arguments are those of :class:`~airflow_provider_wan.operators.base.WanClipBaseOperator` and
    :class:`~airflow_provider_wan.operators.base.WanBaseOperator`.

    :param manifest: the rows: a list of mappings or of image addresses; the address of a ``.jsonl``, ``.json``,
        ``.csv``, ``.tsv``, ``.parquet`` or ``.tar`` file, which may be compressed, on S3, ``gs://``, ``abfs://`` or a
        shared disk; or a folder, whose address ends in ``/``, for every image below it, or else for the rows of all
        such files below it (templated). A row has a column ``image``, and may have ``name``, those of other
        files, and one for each field of the payload.
    :param output_prefix: ``s3://bucket/prefix/`` for the clips, the results and the contact sheet (templated).
    :param rows: first and last row number of this task, counted from 1; default: all rows (templated).
    :param columns: names of the columns in the manifest by fields, such as ``{"image": "URL", "prompt": "TEXT"}``;
        None for a field whose column is to be ignored. Default: a field's column has its name (templated).
    :param dry_run: only estimate rows, seconds of video, cost, existing clips and time; nothing is sent (templated).
    :param row_templates: Jinja templates over the columns of each row, by fields, such as
        ``{"prompt": "{{ TEXT }}, slowly"}``. They are rendered for each row, not by Airflow.
    :param fit: ``resize`` adapts images that violate a rule of the API; ``pad`` and ``crop`` do the same, and pad or
        crop an image whose aspect ratio is too extreme; ``error`` rejects their rows.
    :param pad_fill: what padding shows: ``blur``, the blurred image; or a colour, such as ``black``.
    :param crop_anchor: what is kept when cropping: ``center``, ``left``, ``right``, ``top`` or ``bottom``.
    :param frame: index of the image to take of a file with several, from 0; default: such a file is rejected.
    :param delivery: how the API gets images that are on S3 or on a disk: ``presign`` or ``upload``.
    :param expires_in: lifetime of presigned URLs, in seconds or as a timedelta, at least 6 minutes; default: 6 hours.
    :param max_in_flight: maximum number of requests in flight. Twice what the account may run at once keeps the
        service busy; a 429 or 503 halves it for a while.
    :param submits_per_second: maximum number of submissions per second.
    :param timeout: maximum duration of an attempt, in seconds or as a timedelta. Requests in flight continue, and the
        next attempt waits for them again.
    :param item_timeout: how long an attempt waits for one request, in seconds or as a timedelta.
    :param on_item_failure: ``continue``: continue with the other rows; ``fail_fast``: submit nothing more, archive
        what is in flight, and fail.
    :param max_failed_fraction: fraction of the rows that may be without a clip, from 0 to 1, for the task to succeed.
    :param result_hosts: hosts from which clips may be downloaded: a list, or text with commas; ``*.example.com`` for
        all below a domain (templated). A host also has to be in ``[wan] result_hosts`` and in the connection's list,
        where those are set.
    :returns: ``items``, ``archived``, ``reused``, ``duplicate``, ``rejected``, ``failed``, ``in_doubt``, ``timeout``,
        ``lost``, ``skipped``, ``unclaimed``, ``video_seconds``, ``cost`` (US dollars, all attempts), ``elapsed``
        (seconds), and the addresses ``folder``, ``results``, ``rejected_uri`` and ``sheet``; or the estimate.
    :raises AirflowFailException: if a retry cannot help.
    :raises WanError: if a retry can help.
    """

    template_fields: Sequence[str] = (
        "manifest",
        "output_prefix",
        "rows",
        "columns",
        *WanClipBaseOperator.template_fields,
        "dry_run",
        "result_hosts",
    )
    operator_extra_links = (WanClipsLink(), WanSheetLink())
    ui_color = "#d9d2f2"

    def __init__(
        self,
        *,
        manifest: str | Sequence[Any],
        output_prefix: str,
        rows: Sequence[int] | None = None,
        columns: Mapping[str, str | None] | str | None = None,
        dry_run: bool = False,
        row_templates: Mapping[str, str] | None = None,
        fit: Literal["resize", "pad", "crop", "error"] = "resize",
        pad_fill: str = "blur",
        crop_anchor: Literal["center", "left", "right", "top", "bottom"] = "center",
        frame: int | None = None,
        delivery: Literal["presign", "upload"] = "presign",
        expires_in: timedelta | int | None = None,
        max_in_flight: int = 20,
        submits_per_second: float = 2.0,
        timeout: timedelta | float = 86400,
        item_timeout: timedelta | float = 7200,
        on_item_failure: Literal["continue", "fail_fast"] = "continue",
        max_failed_fraction: float = 0.0,
        result_hosts: Sequence[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        add_default_outlet(self, kwargs, build_asset(output_prefix))
        super().__init__(**kwargs)
        self.manifest = manifest
        self.output_prefix = output_prefix
        self.rows = rows
        self.columns = columns
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.row_templates = row_templates
        self.fit = parse_choice("fit", fit, FITS)
        self.pad_fill = pad_fill
        self.crop_anchor = crop_anchor
        self.frame = frame
        self.delivery = parse_choice("delivery", delivery, ("presign", "upload"))
        self.lifetime = None if expires_in is None else int(parse_seconds("expires_in", expires_in))
        self.max_in_flight = parse_positive_int("max_in_flight", max_in_flight)
        self.submits_per_second = parse_seconds("submits_per_second", submits_per_second)
        self.timeout = parse_seconds("timeout", timeout)
        self.item_timeout = parse_seconds("item_timeout", item_timeout)
        self.on_item_failure = parse_choice("on_item_failure", on_item_failure, ("continue", "fail_fast"))
        if isinstance(max_failed_fraction, bool) or not 0 <= max_failed_fraction <= 1:
            raise WanValidationError("max_failed_fraction", max_failed_fraction, "must be a number from 0 to 1")
        self.max_failed_fraction = max_failed_fraction
        self.result_hosts = result_hosts
        self._batch_run: BatchRun | None = None
        self._summary: BatchSummary | None = None

    @property
    def fit_options(self) -> FitOptions:
        """How images are adapted."""
        return build_fit_options(self.fit, self.pad_fill, self.crop_anchor, self.frame)

    @cached_property
    def s3(self) -> Any:
        """A boto3 S3 client for all threads."""
        from airflow_provider_wan.hooks.s3_client import create_signing_client
        from airflow_provider_wan.operators.batch_setup import MAX_S3_CONNECTIONS

        return create_signing_client(self.aws_conn_id, self.s3_options, max_connections=MAX_S3_CONNECTIONS)

    def _mask_secrets(self) -> None:
        mask_rendered_queries(self.manifest)
        mask_rendered_queries(self.audio_url)

    def upload(self, data: bytes, file_type: str) -> str:
        """Upload an image to the API, on a connection of the calling thread.

        :param data: content of the image.
        :param file_type: its MIME type.
        :returns: its URL.
        """
        from airflow_provider_wan.api.client import WanClient

        client = WanClient(self.hook.config)
        try:
            return client.upload(data, file_type)
        finally:
            client.close()

    def execute(self, context: Context) -> Any:
        """Start an attempt.

        :param context: Airflow's context.
        """
        return self._call(lambda: self._start(context))

    def _start(self, context: Context) -> Any:
        from airflow_provider_wan.operators.batch_setup import build_batch, build_estimate

        if parse_bool("dry_run", self.dry_run):
            estimate = build_estimate(self, context)
            self.log.info("%s", estimate)
            return estimate.as_result()
        from airflow_provider_wan.batch.run import BatchRun

        now, end_time = time.time(), compute_end_time(self.timeout, self.execution_timeout)
        run = BatchRun(build_batch(self, context), now)
        run.start(end_time)
        return self._run_cycle(context, run)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Run the next deferral cycle from the checkpoint.

        :param context: Airflow's context.
        :param event: payload of the trigger's event.
        """
        return self._call(lambda: self._resume(context, event))

    def _resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        from airflow_provider_wan.batch.run import BatchRun
        from airflow_provider_wan.operators.batch_setup import build_batch

        self.log.info("Resumed (%s): %s requests have ended", event.get("status"), event.get("ended"))
        now = time.time()
        run = BatchRun(build_batch(self, context), now)
        if not run.resume():
            run.start(float(event.get("end_time") or now + self.timeout))
        return self._run_cycle(context, run)

    def on_kill(self) -> None:
        """Apply the cancel policy while the task runs in the worker. Clips of other tasks are never cancelled."""
        policy, run = CancelPolicy(self.cancel_policy), self._batch_run
        if policy is CancelPolicy.NEVER or run is None:
            return
        deadline, cancelled = time.monotonic() + ON_KILL_SECONDS, 0
        in_flight = list(run.scheduler.in_flight.values())
        for each in (each for each in in_flight if each.item.paid_here):
            if time.monotonic() > deadline:
                break
            try:
                if policy.applies_to(self.hook.get_request(each.request_id)):
                    cancelled += self.hook.cancel(each.request_id)
            except WanError as error:
                self.log.warning("Request %s is not cancelled: %s", each.request_id, error)
        self.log.info(
            "The API accepted the cancellation of %d of %d requests in flight; a retry waits for the others",
            cancelled,
            len(in_flight),
        )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the inputs and outputs for OpenLineage.

        :param task_instance: Airflow's task instance.
        """
        from airflow_provider_wan.operators.lineage import build_lineage

        folder = None if self._summary is None else self._summary.folder
        return build_lineage(*list_datasets(self.manifest, self.output_prefix, folder))

    def _run_cycle(self, context: Context, run: BatchRun) -> Any:
        from airflow_provider_wan.batch.engine import BatchEngine
        from airflow_provider_wan.batch.report import write_report
        from airflow_provider_wan.operators.batch_setup import resolve_batch_ledger_uri
        from airflow_provider_wan.operators.ledger_context import publish_ledger_uri

        # Fails before anything is paid for if the trigger cannot be serialized.
        request_ids = ["0" * 36] * self.max_in_flight
        json.dumps(self._build_trigger(request_ids, run.end_time, None, 1, request_ids).serialize())
        self._batch_run = run
        self.hook.client.deadline = run.end_time
        WanSheetLink.persist(context, f"{run.context.store.uri}sheet.html")
        publish_ledger_uri(context, resolve_batch_ledger_uri(self))
        with record_span("wan.batch") as set_attributes, BatchEngine(run) as engine:
            end_of_cycle = engine.run(deferrable=self.deferrable)
            set_attributes(in_flight=0 if end_of_cycle is None else len(end_of_cycle.request_ids))
        if end_of_cycle is not None:
            self._defer(run, end_of_cycle)
        self._batch_run = None
        self._summary, error = write_report(run, time.time(), max_failed_fraction=self.max_failed_fraction)
        result = self._summary.as_result()
        self.log.info("%s", json.dumps(result))
        if error is not None:
            raise error
        emit_asset_events(context, self, self.output_prefix, {"output_prefix": self.output_prefix, **result})
        return result

    def _defer(self, run: BatchRun, cycle: EndOfCycle) -> None:
        from airflow_provider_wan.batch.scheduler import compute_wake_count

        request_ids = cycle.request_ids
        wake_after = compute_wake_count(len(request_ids), is_last=cycle.is_last)
        followed = [each.request_id for each in run.scheduler.in_flight.values() if not each.item.paid_here]
        self.log.info("%d requests in flight: deferring until %d of them have ended", len(request_ids), wake_after)
        self.defer(
            trigger=self._build_trigger(request_ids, run.end_time, cycle.wake_at, wake_after, followed),
            method_name="execute_complete",
            timeout=deferral_timeout(run.end_time),
        )

    def _build_trigger(
        self,
        request_ids: Sequence[str],
        end_time: float,
        wake_at: float | None,
        wake_after: int,
        followed_ids: Sequence[str],
    ) -> WanI2VBatchTrigger:
        from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

        return WanI2VBatchTrigger(
            request_ids=request_ids,
            end_time=end_time,
            wake_after=wake_after,
            wake_at=wake_at,
            max_age=MAX_ENDED_AGE,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poll_interval,
            not_before=time.time() + MIN_DEFERRAL_SECONDS,
            cancel_policy=self.cancel_policy,
            followed_ids=followed_ids,
            model=self.model,
        )

    def _call(self, action: Callable[[], Any]) -> Any:
        """Do something, and let its errors fail the task in words."""
        from airflow_provider_wan.batch.errors import WanBatchError
        from airflow_provider_wan.operators.task_result import fail_task
        from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error

        failure: WanError
        try:
            return action()
        except WanError as error:
            failure = error
        except S3_ERRORS as error:
            failure = WanBatchError(
                f"{describe_s3_error(error, self.output_prefix)}; then retry or clear this task: it continues from "
                "there, and pays nothing for clips that are paid for",
                True,
            )
        fail_task(failure)


def list_datasets(manifest: str | Sequence[Any], output: str, folder: str | None) -> tuple[list[str], list[str]]:
    """Return the URIs of what a batch reads and writes.

    :param manifest: manifest of the operator; the images of a list are named by their prefixes.
    :param output: prefix of the clips.
    :param folder: prefix of the results, or None.
    """
    if isinstance(manifest, str):
        inputs = [manifest] if _ADDRESS.match(manifest) else []
    else:
        rows = (item if isinstance(item, Mapping) else {"image": item} for item in manifest)
        images = (row.get("image") or row.get("img_url") for row in rows)
        folders = {each.rpartition("/")[0] for each in images if isinstance(each, str) and _ADDRESS.match(each)}
        inputs = sorted(folders)[:100]
    return inputs, [output, *([] if folder is None else [f"{folder}results.jsonl"])]
