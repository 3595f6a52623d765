# SPDX-License-Identifier: Apache-2.0
"""The operator that makes one clip from a file to a file, in one task."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_wan.api.errors import WanError, WanLookupError, WanValidationError
from airflow_provider_wan.api.request import MEDIA_ARGUMENTS
from airflow_provider_wan.operators import ledger_context
from airflow_provider_wan.operators.arguments import FITS, build_fit_options, parse_choice, parse_seconds
from airflow_provider_wan.operators.assets import add_default_outlet, build_file_asset
from airflow_provider_wan.operators.base import mask_query
from airflow_provider_wan.operators.task_result import fail_task
from airflow_provider_wan.operators.wan import WanI2VOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.ledger import LedgerEntry
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.clip_record import ArchivedClip

#: After the deadline, a clip that was made just before it gets this long to be archived.
LAST_ARCHIVE_SECONDS = 2.0


class WanImageToVideoOperator(WanI2VOperator):
    """Turn an image file into an archived video clip, in one task, and pay for it once.

    It does what :class:`~airflow_provider_wan.transfers.s3_to_wan.S3ToWanOperator`,
    :class:`~airflow_provider_wan.operators.wan.WanI2VOperator` and
    :class:`~airflow_provider_wan.transfers.wan_to_s3.WanToS3Operator` do one after the other, with the same ledger and
    the same files. Deferred, it starts two workers for a clip, and not four. A target that holds another clip is
    refused before anything is paid.

    All other arguments are those of :class:`~airflow_provider_wan.operators.wan.WanI2VOperator`, but ``img_url``.

    :param source: the image: ``s3://bucket/key``, likewise ``gs://`` or ``abfs://``, a local path, ``file:///path``, or
        an http(s) URL (templated).
    :param target: ``s3://bucket/key.mp4`` of the clip; its record is stored beside it (templated).
    :param fit: ``resize`` adapts an image that violates a rule of the API; ``pad`` and ``crop`` do the same, and pad or
        crop one whose aspect ratio is too extreme; ``error`` refuses it.
    :param pad_fill: what padding shows: ``blur``, the blurred image; or a colour, such as ``black`` (templated).
    :param crop_anchor: what is kept when cropping: ``center``, ``left``, ``right``, ``top`` or ``bottom`` (templated).
    :param frame: index of the image to take of a file with several, from 0; default: such a file is refused
        (templated).
    :param delivery: how the API gets the image: ``presign`` or ``upload``.
    :param dest_prefix: ``s3://bucket/prefix/`` for the copy that is presigned (templated); default: a folder
        ``_ingest`` beside the target.
    :param expires_in: lifetime of the presigned URL, in seconds or as a timedelta; default: 6 hours.
    :param replace: overwrite any object at the target.
    :param result_hosts: hosts from which clips may be downloaded: a list, or text with commas; ``*.example.com`` for
        all below a domain (templated). A host also has to be in ``[wan] result_hosts`` and in the connection's list,
        where those are set.
    :returns: the values that ``WanI2VOperator`` returns, and ``uri``, ``record_uri``, ``sha256``, ``size``, ``width``,
        ``height``, ``content_type`` and ``existing`` of the archived clip.
    :raises AirflowFailException: if a retry cannot help.
    :raises WanError: if a retry can help.
    """

    template_fields: Sequence[str] = (
        "source",
        "target",
        "pad_fill",
        "crop_anchor",
        "frame",
        "dest_prefix",
        "result_hosts",
        *(name for name in WanI2VOperator.template_fields if name != "img_url"),
    )
    ui_color = "#e0dcf3"

    def __init__(
        self,
        *,
        source: str,
        target: str,
        fit: Literal["resize", "pad", "crop", "error"] = "resize",
        pad_fill: str = "blur",
        crop_anchor: Literal["center", "left", "right", "top", "bottom"] = "center",
        frame: int | None = None,
        delivery: Literal["presign", "upload"] = "presign",
        dest_prefix: str | None = None,
        expires_in: timedelta | int | None = None,
        replace: bool = False,
        result_hosts: Sequence[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        add_default_outlet(self, kwargs, build_file_asset(target))
        super().__init__(img_url="", **kwargs)
        self.source = source
        self.target = target
        self.fit = parse_choice("fit", fit, FITS)
        self.pad_fill = pad_fill
        self.crop_anchor = crop_anchor
        self.frame = frame
        self.delivery = parse_choice("delivery", delivery, ("presign", "upload"))
        self.dest_prefix = dest_prefix
        self.lifetime = None if expires_in is None else int(parse_seconds("expires_in", expires_in))
        self.replace = replace
        self.result_hosts = result_hosts

    @cached_property
    def archive(self) -> ClipArchive:
        """The clips on the S3 of the AWS connection."""
        return self._build_archive(replace_existing=self.replace)

    def execute(self, context: Context) -> Any:
        """Ingest the image, submit the request or resume it, wait for the clip, and archive it.

        :param context: Airflow's context.
        """
        try:
            self._parse_target()
            self.img_url = self._ingest()
        except Exception as error:
            if context["ti"].try_number > 1:
                # Without the image it is not known which clip it is.
                self.log.warning(
                    "If an earlier try of this task has paid for its clip: `wan-provider unarchived` lists it, and "
                    "`wan-provider harvest` archives it"
                )
            if isinstance(error, WanError):
                fail_task(error, getattr(self, "retry_policy", None))
            raise
        return super().execute(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the inputs and outputs for OpenLineage: from the image to the clip.

        :param task_instance: Airflow's task instance.
        """
        from airflow_provider_wan.operators.lineage import build_lineage

        others = self._list_sources(name for name in MEDIA_ARGUMENTS if name != "img_url")
        return build_lineage([self.source, *others], [(self._result or {}).get("uri")], self._result)

    def _finish(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        return super()._finish(context, self._archive(result))

    def _mask_secrets(self) -> None:
        super()._mask_secrets()
        mask_query(self.source)

    def _ingest(self) -> dict[str, Any]:
        from airflow_provider_wan.media.ingest import Delivery, MediaIngester, MediaKind
        from airflow_provider_wan.media.source import MediaSource
        from airflow_provider_wan.operators.object_storage import AirflowObjectStorage

        ingester = MediaIngester(
            lambda: self.s3,
            self.hook.upload,
            fit=build_fit_options(self.fit, self.pad_fill, self.crop_anchor, self.frame),
            delivery=Delivery(self.delivery),
            dest_prefix=self.dest_prefix or f"{self.target.rpartition('/')[0]}/_ingest",
            lifetime=self.lifetime,
            network=self.hook.config.network,
            storage=AirflowObjectStorage(),
            on_url=mask_query,
        )
        media = ingester.ingest(MediaSource.parse(self.source), MediaKind.IMAGE)
        self.log.info("%s: %s, %s×%s", media.source, media.content_type, media.width, media.height)
        return media.as_result()

    def _check_claim(self, claim: LedgerEntry) -> None:
        """Refuse to pay for a clip whose target is occupied by another object.

        :param claim: the claim that is about to be made.
        :raises WanValidationError: if it is.
        """
        super()._check_claim(claim)
        maker = None if self.replace else self._find_request_at_target()
        if maker is not None and maker not in claim.request_ids:
            holder = f"the clip of request {maker}" if maker else "another object, there or at the key of the record"
            rule = f"holds {holder}. Nothing was paid"
            raise WanValidationError("target", self.target, rule, "Choose another target, or set replace=True")

    def _find_request_at_target(self) -> str | None:
        from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error

        try:
            return self.archive.find_request_id(*self._parse_target())
        except S3_ERRORS as error:
            message = describe_s3_error(error, self.target)
        raise WanLookupError(f"{message}; then retry or clear this task. Nothing was paid.")

    def _find_archived(self, entry: LedgerEntry) -> str | None:
        """Return where an archived clip is: at the target, or where the ledger says.

        :param entry: the clip's entry.
        """
        from airflow_provider_wan.media.archive_key import KeyOccupiedError

        bucket, key = self._parse_target()
        try:
            if clip := self.archive.find(bucket, key, str(entry.request_id), forbidden_is_absent=True):
                return clip.uri
        except KeyOccupiedError as error:
            self.log.info("%s", error)
        return super()._find_archived(entry)

    def _check_result(self, record: RequestRecord, entry: LedgerEntry) -> None:
        """Leave the check to the archive, which keeps a clip that is not the one that was asked for.

        :param record: the request.
        :param entry: the clip's entry.
        """

    def _archive(self, result: dict[str, Any]) -> dict[str, Any]:
        """Archive a finished clip, or find it where it is archived."""
        from airflow_provider_wan.ledger.recovery import build_asked_clip
        from airflow_provider_wan.media.delivery import AskedClip
        from airflow_provider_wan.operators.archiving import archive_and_record, describe_archived_clip

        request_id, fingerprint = str(result["request_id"]), str(result["fingerprint"])

        def fetch() -> RequestRecord:
            record = self.hook.get_request(request_id)
            mask_query(record.video_url)
            return record

        def store() -> ArchivedClip:
            stored = ledger.store.read(fingerprint)
            return self.archive.archive(
                *self._parse_target(),
                request_id,
                fetch,
                sources=(result.get("archive_uri"), stored.entry.archive_uri if stored else None),
                asked=build_asked_clip(stored.entry) if stored else AskedClip(seconds=result.get("seconds")),
                cost=lambda record: result.get("cost_at_payment"),
            )

        # Also if the clip was made in the last moment, but not for as long as a slow host may take.
        self.archive.deadline = max(self.hook.client.deadline or 0.0, time.time() + LAST_ARCHIVE_SECONDS)
        try:
            ledger = self._open_submitter().ledger
            clip = archive_and_record(
                self.archive, store, request_id=request_id, ledger=ledger, fingerprint=fingerprint
            )
        except WanError as error:
            fail_task(error, getattr(self, "retry_policy", None))
        ledger_uri = ledger_context.resolve_ledger_uri(self.ledger_uri)
        return result | {"archive_uri": clip.uri, "ledger_uri": ledger_uri} | describe_archived_clip(clip)

    def _parse_target(self) -> tuple[str, str]:
        from airflow_provider_wan.operators.archiving import validate_clip_key
        from airflow_provider_wan.s3.uri import is_s3_uri, parse_s3_uri, split_s3_uri

        bucket, key = parse_s3_uri(self.target, "target")
        validate_clip_key("target", self.target, key)
        source = str(self.source).strip()
        if is_s3_uri(source) and split_s3_uri(source) == (bucket, key):
            rule = "is the source: without its image, no retry could find the clip again"
            raise WanValidationError("target", self.target, rule, "Choose another key")
        return bucket, key
