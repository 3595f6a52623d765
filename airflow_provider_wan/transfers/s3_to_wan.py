# SPDX-License-Identifier: Apache-2.0
"""MediaIngester: an image or audio is checked, fitted where wished, and put where the API can fetch it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, mask_secret

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.api.redaction import url_query

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.media.ingest import IngestedMedia


class S3ToWanOperator(BaseOperator):
    """
    Gives the API a URL of an image (or audio) that is known to satisfy its rules.

    Nothing that this operator does is charged. An image that breaks a rule is refused here, with the remedy, and
    not some minutes later by a failed clip.

    The URL comes about in one of two ways. ``delivery="presign"`` signs a GET of an S3 object: the source itself
    where it lies in S3 and ``fit="error"``; else a copy at ``dest_prefix``, named by its hash, so that the same
    image is stored once. ``delivery="upload"`` sends the bytes through the API's own upload call, after which they
    are public.

    :param source: ``s3://bucket/key``, a local path, ``file:///path``, or an http(s) URL (templated).
    :param kind: ``"image"`` or ``"audio"``.
    :param fit: ``"error"`` refuses an image that breaks a rule; its bytes are delivered as they are, an EXIF
        orientation included. ``"resize"`` turns it upright, flattens alpha onto white, scales it into 360-2000
        pixels and re-encodes it below 10 MB without metadata, where it needs any of that. Audio is never changed.
    :param delivery: ``"presign"`` or ``"upload"``.
    :param dest_prefix: ``s3://bucket/prefix/`` for copies (templated). Needed to presign unless the source lies in
        S3 and is delivered as it is.
    :param expires_in: lifetime of the presigned URL, seconds or a timedelta, up to 7 days; it must cover the wait
        until the clip begins. Default: 6 hours, or as long as the AWS credentials live. A lifetime that is asked
        for and that the credentials don't reach is an error.
    :param clip_duration: seconds of the clip (templated): a warning tells when audio is longer, as the API trims
        it.
    :param aws_conn_id: the AWS connection (templated).
    :param wan_conn_id: the connection of type ``wan``, used by ``delivery="upload"`` alone (templated).
    :return: ``url``, ``sha256`` (of the bytes delivered), ``source_sha256`` (of those of the source), ``kind``,
        ``content_type``, ``size`` (bytes), ``width`` and ``height`` or ``seconds``, ``source`` (without a query
        string), ``uri`` (``s3://`` URI of what the URL leads to, or None), ``expires_at`` (Unix seconds, or None).
    :raises AirflowFailException: when the source breaks a rule: a retry would not help.
    :raises SourceMissingError: when there is nothing at the source.
    """

    template_fields: Sequence[str] = ("source", "dest_prefix", "clip_duration", "aws_conn_id", "wan_conn_id")
    ui_color = "#e3eef6"

    def __init__(
        self,
        *,
        source: str,
        kind: Literal["image", "audio"] = "image",
        fit: Literal["error", "resize"] = "error",
        delivery: Literal["presign", "upload"] = "presign",
        dest_prefix: str | None = None,
        expires_in: timedelta | int | None = None,
        clip_duration: int | str | None = None,
        aws_conn_id: str | None = "aws_default",
        wan_conn_id: str = "wan_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _one_of("kind", kind, ("image", "audio"))
        _one_of("fit", fit, ("error", "resize"))
        _one_of("delivery", delivery, ("presign", "upload"))
        self.source = source
        self.kind = kind
        self.fit = fit
        self.delivery = delivery
        self.dest_prefix = dest_prefix
        self.expires_in = expires_in
        self.clip_duration = clip_duration
        self.aws_conn_id = aws_conn_id
        self.wan_conn_id = wan_conn_id

    @cached_property
    def s3(self) -> Any:
        """A boto3 S3 client that signs with version 4, as KMS and the newer regions demand."""
        from airflow_provider_wan.operators.s3 import signing_client

        return signing_client(self.aws_conn_id)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render, and mask what is secret in the URL before Airflow shows the rendered fields."""
        super().render_template_fields(context, jinja_env)
        _mask_query(self.source)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, fit, deliver."""
        try:
            return self._ingest()
        except WanError as error:
            from airflow_provider_wan.operators.task_result import fail_task

            fail_task(error)

    def _ingest(self) -> dict[str, Any]:
        from airflow_provider_wan.media.ingest import Delivery, Fit, MediaIngester, MediaKind
        from airflow_provider_wan.media.source import MediaSource

        engine = MediaIngester(
            lambda: self.s3,
            self._upload,
            fit=Fit(self.fit),
            delivery=Delivery(self.delivery),
            dest_prefix=self.dest_prefix,
            lifetime=self._lifetime,
            on_url=_mask_query,
        )
        taken = engine.ingest(MediaSource.parse(self.source), MediaKind(self.kind))
        self._warn_of_trimming(taken)
        measure = f"{taken.seconds} s" if taken.kind is MediaKind.AUDIO else f"{taken.width}×{taken.height}"
        change = "" if taken.sha256 == taken.source_sha256 else ", adapted"
        self.log.info(
            "%s: %s, %s, %d bytes%s; delivered by %s",
            *(taken.source, taken.content_type, measure, taken.size, change, self.delivery),
        )
        return taken.as_result()

    def _warn_of_trimming(self, taken: IngestedMedia) -> None:
        clip_seconds = float(self.clip_duration) if self.clip_duration else None
        if clip_seconds and taken.seconds and taken.seconds > clip_seconds:
            self.log.warning(
                "%s lasts %.1f s: the API trims it to the clip's %g s", taken.source, taken.seconds, clip_seconds
            )

    def _upload(self, data: bytes, file_type: str) -> str:
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id).upload(data, file_type)

    @property
    def _lifetime(self) -> int | None:
        if isinstance(self.expires_in, timedelta):
            return int(self.expires_in.total_seconds())
        return self.expires_in


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WanValidationError(field, value, f"must be one of {', '.join(allowed)}")


def _mask_query(url: object) -> None:
    if isinstance(url, str) and url.startswith(("http://", "https://")) and (query := url_query(url)):
        mask_secret(query)
