# SPDX-License-Identifier: Apache-2.0
"""The operator that archives a finished clip on S3."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import (
    WanError,
    WanLookupError,
    WanResultGoneError,
    WanValidationError,
)
from airflow_provider_wan.api.request import DEFAULT_MODEL
from airflow_provider_wan.operators.arguments import parse_positive_int, parse_seconds
from airflow_provider_wan.operators.assets import add_default_outlet, build_file_asset, emit_asset_events
from airflow_provider_wan.operators.base import WanBaseOperator, mask_query
from airflow_provider_wan.triggers.deferral import compute_end_time

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.ledger import Ledger, LedgerEntry
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.clip_record import ArchivedClip


# How long a refusal of the API or of the result's host is asked about again, and how often.
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 16.0


class _LookupFailedError(WanLookupError):
    """The API did not say where the clip is."""


class WanToS3Operator(WanBaseOperator):
    """Archive a finished clip: stream it from the API's storage to S3, in constant memory.

    The bytes are counted, hashed and parsed as an MP4 while they are copied; the object appears only if all checks
    pass. A record beside it, at the same key ending in ``.json``, describes how the clip was made. The API's storage
    never receives the API key, and the clip's URL, which is fetched at each run, is never logged.

    If it runs again, it finds the clip by its record and downloads nothing. A clip that another run has archived is
    copied within S3. A clip that is no longer where the ledger says is archived anew, and the ledger's address is
    mended. A key that holds another request's clip (as after a rerun with another ``idempotency_key``) is not
    overwritten, because that one was paid for too: this one is kept beside it, at a key that ends in its request id,
    and the task fails and names it. Put ``{{ run_id }}`` or the request id into the key, or set ``replace=True``.
    Likewise, a clip that is not the one that was asked for is kept beside the key, and the task fails.

    A process that is killed may leave parts of an upload, which are invisible and charged by S3: a lifecycle rule with
    ``AbortIncompleteMultipartUpload`` removes them.

    :param request_id: the request, or the result of ``WanI2VOperator`` (templated).
    :param s3_key: ``s3://bucket/key.mp4``, or a key in ``s3_bucket`` (templated).
    :param s3_bucket: the bucket, if ``s3_key`` does not name it (templated).
    :param replace: overwrite any object at the key.
    :param max_bytes: maximum size of a result; default: 2 GiB.
    :param ledger_uri: ledger of the task that made the clip, in which the location is recorded (templated); default:
        the one in its result, or ``[wan] ledger_uri``.
    :param result_hosts: hosts from which clips may be downloaded: a list, or text with commas; ``*.example.com`` for
        all below a domain (templated). A host also has to be in ``[wan] result_hosts`` and in the connection's list,
        where those are set.
    :param timeout: how long an attempt may take, in seconds or as a timedelta.
    :param wan_conn_id: id of a connection of type ``wan`` (templated).
    :param aws_conn_id: id of the AWS connection (templated).
    :param s3_options: options of everything that is written to S3, such as ``{"ServerSideEncryption": "aws:kms"}``;
        one that is not set here is that of ``[wan] s3_options``, or else of ``s3_options`` in the AWS connection's
        extra (templated).
    :returns: ``request_id``, ``uri``, ``record_uri``, ``sha256``, ``size`` (bytes), ``width``, ``height``,
        ``seconds``, ``content_type``, ``existing`` (whether it was archived before).
    :raises AirflowFailException: if a retry cannot help: the clip failed for good, is on a host that is not allowed,
        is not the one that was asked for, or its key holds another object.
    :raises WanResultError: if the file can't be downloaded, is cut off or is not a video, and a retry may help.
    :raises WanLookupError: if the request is not finished.
    """

    template_fields: Sequence[str] = (
        "request_id",
        "s3_key",
        "s3_bucket",
        "ledger_uri",
        "result_hosts",
        *WanBaseOperator.template_fields,
    )
    ui_color = "#e3f6e7"

    def __init__(
        self,
        *,
        request_id: str | Mapping[str, Any],
        s3_key: str,
        s3_bucket: str | None = None,
        replace: bool = False,
        max_bytes: int = 2 * 1024**3,
        ledger_uri: str | None = None,
        timeout: timedelta | float = 3600,
        result_hosts: Sequence[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        add_default_outlet(self, kwargs, build_file_asset(s3_key, s3_bucket))
        super().__init__(**kwargs)
        self._result: dict[str, Any] | None = None
        self.timeout = parse_seconds("timeout", timeout)
        self.request_id = request_id
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.replace = replace
        self.max_bytes = parse_positive_int("max_bytes", max_bytes)
        self.ledger_uri = ledger_uri
        self.result_hosts = result_hosts

    @cached_property
    def archive(self) -> ClipArchive:
        """The clips on the S3 of the AWS connection."""
        from airflow_provider_wan.media.archive import ClipArchive
        from airflow_provider_wan.media.fetch import ResultHosts

        return ClipArchive(
            self.s3,
            ResultHosts.from_config(self.hook.config),
            max_bytes=self.max_bytes,
            replace=self.replace,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the archived clip, or archive it.

        :param context: Airflow's context.
        """
        from airflow_provider_wan.operators.task_result import build_clip_extra, fail_task

        try:
            result = self._archive()
        except WanError as error:
            fail_task(error)
        upstream: Mapping[str, Any] = self.request_id if isinstance(self.request_id, Mapping) else {}
        self._result = {**upstream, **result}
        if self.outlets:
            prefix = f"{result['uri'].rpartition('/')[0]}/"
            emit_asset_events(context, self, prefix, build_clip_extra(self._result))
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the inputs and outputs for OpenLineage: from the request to the clip.

        :param task_instance: Airflow's task instance.
        """
        from airflow_provider_wan.operators.lineage import build_lineage, name_request

        request = name_request(self.hook.config.base_url, self._parse_request_id())
        return build_lineage([request], [(self._result or {}).get("uri")], self._result)

    def _archive(self) -> dict[str, Any]:
        from airflow_provider_wan.operators.archiving import archive_and_record, describe_archived_clip

        request_id, bucket, key = self._parse_request_id(), *self._parse_target()
        upstream: Mapping[str, Any] = self.request_id if isinstance(self.request_id, Mapping) else {}
        ledger, fingerprint = self._open_ledger(upstream)
        entry = self._read_entry(ledger, fingerprint, request_id)
        clip = archive_and_record(
            self.archive,
            lambda: self._find_or_store(request_id, bucket, key, upstream, entry),
            request_id=request_id,
            ledger=ledger,
            fingerprint=fingerprint,
        )
        return {"request_id": request_id, "seconds": clip.video.seconds, **describe_archived_clip(clip)}

    def _find_or_store(
        self, request_id: str, bucket: str, key: str, upstream: Mapping[str, Any], entry: LedgerEntry | None
    ) -> ArchivedClip:
        """Find, copy or download the clip.

        A refusal is asked about again for a minute: one answer does not prove that the clip is gone.
        """
        from airflow_provider_wan.ledger.recovery import build_asked_clip, report_lost_clip
        from airflow_provider_wan.media.delivery import AskedClip

        end_time = compute_end_time(self.timeout, self.execution_timeout)
        self.hook.client.deadline = self.archive.deadline = end_time
        patient_until = min(end_time, time.time() + PATIENCE_SECONDS)
        if entry is not None:
            asked = build_asked_clip(entry)
        else:
            asked = AskedClip(seconds=upstream.get("seconds"), resolution=upstream.get("resolution"))
        paid = upstream.get("cost_at_payment", upstream.get("cost"))
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return self.archive.archive(
                    bucket,
                    key,
                    request_id,
                    lambda: self._get_finished(request_id),
                    sources=(upstream.get("archive_uri"), entry.archive_uri if entry else None),
                    asked=asked,
                    cost=lambda record: self._compute_cost(record) if paid is None else paid,
                )
            except (WanResultGoneError, _LookupFailedError) as error:
                if time.time() + pause >= patient_until:
                    if entry is not None and self.archive.is_missing(
                        entry.archive_uri, request_id, entry.archive_sha256
                    ):
                        raise report_lost_clip(entry, error) from error
                    raise (error if isinstance(error, WanResultGoneError) else WanLookupError(str(error))) from None
                self.log.warning("Trying again in %.0f s: %s", pause, error)
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _open_ledger(self, upstream: Mapping[str, Any]) -> tuple[Ledger | None, str]:
        """Return the ledger of the clip, if it is known, and the clip's fingerprint."""
        from airflow_provider_wan.ledger import Submitter, open_store
        from airflow_provider_wan.operators.ledger_context import find_ledger_uri

        uri = find_ledger_uri(self.ledger_uri or upstream.get("ledger_uri"))
        fingerprint = upstream.get("fingerprint")
        if uri is None or not isinstance(fingerprint, str):
            return None, ""
        return Submitter(self.hook.client, open_store(uri, s3_client=lambda: self.s3)).ledger, fingerprint

    def _read_entry(self, ledger: Ledger | None, fingerprint: str, request_id: str) -> LedgerEntry | None:
        """Return the clip's entry, as far as it can be read: the clip is archived all the same."""
        from airflow_provider_wan.ledger import LedgerError

        try:
            stored = None if ledger is None else ledger.store.read(fingerprint)
        except LedgerError as error:
            self.log.warning("What the ledger says about request %s can't be read: %s", request_id, error)
            return None
        return stored.entry if stored is not None and stored.entry.request_id == request_id else None

    def _get_finished(self, request_id: str) -> RequestRecord:
        from airflow_provider_wan.api.record import RequestStatus
        from airflow_provider_wan.operators.task_result import build_upstream_error

        try:
            record = self.hook.get_request(request_id)
        except WanValidationError:
            raise
        except WanError as error:
            raise _LookupFailedError(
                f"{error} The clip may be paid for: remove the cause, then retry or clear this task; that pays nothing."
            ) from None
        if record.status is RequestStatus.SUCCESS:
            if record.video_url is None:
                raise _LookupFailedError(
                    f"Request {request_id} is done, but the API does not name its file yet. It is paid for: a retry "
                    "asks again, and pays nothing."
                )
            mask_query(record.video_url)
            return record
        if record.status.is_terminal:
            raise build_upstream_error(record)
        raise WanLookupError(
            f"Request {request_id} is not finished ({record.status_text}): put a WanRequestSensor or WanI2VOperator "
            "before this task. A retry looks again, and costs nothing."
        )

    def _compute_cost(self, record: RequestRecord) -> float | None:
        resolution, seconds = record.payload.get("resolution"), record.payload.get("duration")
        if not isinstance(resolution, str) or not isinstance(seconds, int):
            return None
        return self.hook.config.cost(resolution, seconds, record.model or DEFAULT_MODEL)

    def _parse_request_id(self) -> str:
        value = self.request_id.get("request_id") if isinstance(self.request_id, Mapping) else self.request_id
        # A template without a value renders to "None".
        if not isinstance(value, str) or value.strip() in ("", "None"):
            value = sorted(map(str, self.request_id)) if isinstance(self.request_id, Mapping) else self.request_id
            raise WanValidationError("request_id", value, "must be a request id, or the result of WanI2VOperator")
        return value

    def _parse_target(self) -> tuple[str, str]:
        from airflow_provider_wan.operators.archiving import validate_clip_key
        from airflow_provider_wan.s3.uri import build_s3_uri, parse_s3_uri

        if not isinstance(self.s3_key, str):  # what a template rendered
            raise WanValidationError("s3_key", self.s3_key, "must be s3://bucket/key.mp4, or a key in s3_bucket")
        if "://" in self.s3_key:
            bucket, key = parse_s3_uri(self.s3_key, "s3_key")
            if self.s3_bucket not in (None, "", bucket):
                raise WanValidationError("s3_bucket", self.s3_bucket, f"contradicts s3_key={self.s3_key!r}")
        elif self.s3_bucket:
            bucket, key = parse_s3_uri(build_s3_uri(self.s3_bucket, self.s3_key.lstrip("/")), "s3_key")
        else:
            raise WanValidationError("s3_key", self.s3_key, "must be s3://bucket/key.mp4, or s3_bucket must be set")
        validate_clip_key("s3_key", self.s3_key, key)
        return bucket, key
