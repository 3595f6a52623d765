# SPDX-License-Identifier: Apache-2.0
"""MediaIngester: an image or audio is checked, fitted where wished, and put where the API can fetch it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.operators.arguments import FITS, build_fit_options, parse_choice, parse_seconds
from airflow_provider_wan.operators.assets import emit_asset_events
from airflow_provider_wan.operators.base import WanBaseOperator, mask_query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.media.ingest import IngestedMedia


class S3ToWanOperator(WanBaseOperator):
    """Ingest an image or audio file: validate it against the API's rules, and give the API a URL of it.

    Nothing that this operator does is charged. An image that violates a rule is refused here, with the remedy, and
    not some minutes later by a failed clip.

    There are two ways of delivery. ``delivery="presign"`` signs a GET of an S3 object: the source itself if it is on
    S3 and ``fit="error"``; else a copy at ``dest_prefix``, named by its hash, so that the same image is stored once.
    ``delivery="upload"`` sends the bytes through the API's own upload call, after which they are public.

    :param source: ``s3://bucket/key``, likewise ``gs://`` or ``abfs://``, a local path, ``file:///path``, or an http(s)
        URL (templated).
    :param kind: ``"image"`` or ``"audio"``.
    :param fit: ``"error"`` refuses an image that violates a rule; the bytes are delivered unchanged, including an EXIF
        orientation. ``"resize"`` turns it upright, flattens alpha onto white, scales it to 360-2000 pixels and
        re-encodes it below 10 MB without metadata, if it needs any of that, from any format that Pillow reads; HEIC
        needs the extra ``heif``. ``"pad"`` and ``"crop"`` do the same, and pad or crop an image whose aspect ratio is
        too extreme. Audio is never changed.
    :param pad_fill: what padding shows: ``"blur"``, the blurred image; or a colour, such as ``"black"`` (templated).
    :param crop_anchor: what is kept when cropping: ``"center"``, ``"left"``, ``"right"``, ``"top"`` or ``"bottom"``
        (templated).
    :param frame: index of the image to take of a file with several, from 0; default: such a file is refused
        (templated).
    :param delivery: ``"presign"`` or ``"upload"``.
    :param dest_prefix: ``s3://bucket/prefix/`` for copies (templated). Needed to presign unless the source is on S3
        and is delivered unchanged.
    :param expires_in: lifetime of the presigned URL, in seconds or as a timedelta, up to 7 days; it must cover the
        wait until the clip starts. Default: 6 hours, or as long as the AWS credentials are valid. A lifetime that is
        set and that exceeds theirs is an error.
    :param clip_duration: seconds of the clip (templated): a warning is logged if audio is longer, because the API
        trims it.
    :param wan_conn_id: id of a connection of type ``wan``, used only by ``delivery="upload"`` (templated).
    :param aws_conn_id: id of the AWS connection (templated).
    :param s3_options: options of everything that is written to S3, such as ``{"ServerSideEncryption": "aws:kms"}``;
        one that is not set here is that of ``[wan] s3_options``, or else of ``s3_options`` in the AWS connection's
        extra (templated).
    :returns: ``url``, ``sha256`` (of the bytes delivered), ``source_sha256`` (of those of the source), ``kind``,
        ``content_type``, ``size`` (bytes), ``width`` and ``height`` or ``seconds``, ``source`` (without a query
        string), ``uri`` (``s3://`` URI of what the URL leads to, or None), ``expires_at`` (Unix seconds, or None).
    :raises AirflowFailException: if the source violates a rule: a retry cannot help.
    :raises SourceMissingError: if there is nothing at the source.
    """

    template_fields: Sequence[str] = (
        "source",
        "pad_fill",
        "crop_anchor",
        "frame",
        "dest_prefix",
        "clip_duration",
        *WanBaseOperator.template_fields,
    )
    ui_color = "#e3eef6"

    def __init__(
        self,
        *,
        source: str,
        kind: Literal["image", "audio"] = "image",
        fit: Literal["error", "resize", "pad", "crop"] = "error",
        pad_fill: str = "blur",
        crop_anchor: Literal["center", "left", "right", "top", "bottom"] = "center",
        frame: int | None = None,
        delivery: Literal["presign", "upload"] = "presign",
        dest_prefix: str | None = None,
        expires_in: timedelta | int | None = None,
        clip_duration: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.kind = parse_choice("kind", kind, ("image", "audio"))
        self.fit = parse_choice("fit", fit, FITS)
        self.pad_fill = pad_fill
        self.crop_anchor = crop_anchor
        self.frame = frame
        self.delivery = parse_choice("delivery", delivery, ("presign", "upload"))
        self.dest_prefix = dest_prefix
        self.lifetime = None if expires_in is None else int(parse_seconds("expires_in", expires_in))
        self.clip_duration = clip_duration
        self._result: dict[str, Any] | None = None

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields, of mapped tasks too, and mask the secret in the URL before Airflow stores them."""
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        mask_query(self.source)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, validate, fit and deliver the file.

        :param context: Airflow's context.
        """
        from airflow_provider_wan.operators.task_result import build_clip_extra, fail_task

        try:
            self._result = result = self._ingest()
        except WanError as error:
            fail_task(error)
        if self.outlets:
            address = str(result["uri"] or result["source"])
            emit_asset_events(
                context, self, f"{address.rpartition('/')[0]}/", {**build_clip_extra(result), "cost": 0.0}
            )
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the inputs and outputs for OpenLineage: from the source to the copy, if there is one.

        :param task_instance: Airflow's task instance.
        """
        from airflow_provider_wan.operators.lineage import build_lineage

        result = self._result or {}
        copy = result.get("uri")
        return build_lineage([self.source], [copy if copy != self.source else None], result)

    def _ingest(self) -> dict[str, Any]:
        from airflow_provider_wan.media.ingest import Delivery, MediaIngester, MediaKind
        from airflow_provider_wan.media.source import MediaSource
        from airflow_provider_wan.operators.object_storage import AirflowObjectStorage

        clip_seconds = self._parse_clip_duration()
        ingester = MediaIngester(
            lambda: self.s3,
            self._upload,
            fit=build_fit_options(self.fit, self.pad_fill, self.crop_anchor, self.frame),
            delivery=Delivery(self.delivery),
            dest_prefix=self.dest_prefix,
            lifetime=self.lifetime,
            storage=AirflowObjectStorage(),
            on_url=mask_query,
        )
        media = ingester.ingest(MediaSource.parse(self.source), MediaKind(self.kind))
        self._warn_if_trimmed(media, clip_seconds)
        extent = f"{media.seconds} s" if media.kind is MediaKind.AUDIO else f"{media.width}×{media.height}"
        change = "" if media.sha256 == media.source_sha256 else ", adapted"
        self.log.info(
            "%s: %s, %s, %d bytes%s; delivered by %s",
            *(media.source, media.content_type, extent, media.size, change, self.delivery),
        )
        return media.as_result()

    def _warn_if_trimmed(self, media: IngestedMedia, clip_seconds: float | None) -> None:
        if clip_seconds and media.seconds and media.seconds > clip_seconds:
            self.log.warning(
                "%s lasts %.1f s: the API trims it to the clip's %g s", media.source, media.seconds, clip_seconds
            )

    def _parse_clip_duration(self) -> float | None:
        value = self.clip_duration
        if value is None or str(value).strip() in ("", "None"):
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise WanValidationError("clip_duration", value, "must be the clip's seconds of video") from None

    def _upload(self, data: bytes, file_type: str) -> str:
        return self.hook.upload(data, file_type)
