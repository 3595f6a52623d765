# SPDX-License-Identifier: Apache-2.0
"""Ingest: an image or audio is checked, fitted where wished, and put where the API can fetch it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, mask_secret

from airflow_provider_wan.api.errors import WanError, WanValidationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.media.audio import AudioInfo
    from airflow_provider_wan.media.image import ImageInfo
    from airflow_provider_wan.media.source import Source


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
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.config import Config

        version_4 = Config(signature_version="s3v4")
        given = S3Hook(self.aws_conn_id).conn_config.botocore_config
        return S3Hook(self.aws_conn_id, config=given.merge(version_4) if given else version_4).get_conn()

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render, and mask what is secret in the URL before Airflow shows the rendered fields."""
        super().render_template_fields(context, jinja_env)
        _mask_query(self.source)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, fit, deliver."""
        try:
            return self._ingest()
        except WanError as error:
            from airflow_provider_wan.operators.outcome import fail

            fail(error)

    def _ingest(self) -> dict[str, Any]:
        from airflow_provider_wan.media.source import Source

        source = Source.parse(self.source)
        self._check_plan(source)
        data, content_type, extension, facts = self._image(source) if self.kind == "image" else self._audio(source)
        result: dict[str, Any] = {
            "kind": self.kind,
            "source": source.shown,
            "content_type": content_type,
            "size": len(data),
            "uri": None,
            "expires_at": None,
            **facts,
        }
        if self.delivery == "upload":
            result["url"] = self._upload(data, extension)
        else:
            result |= self._presign(source, data, result["sha256"], content_type, extension)
        measure = f"{result['width']}×{result['height']}" if self.kind == "image" else f"{result['seconds']} s"
        change = "" if result["sha256"] == result["source_sha256"] else ", adapted"
        self.log.info(
            "%s: %s, %s, %d bytes%s; delivered by %s",
            source.shown,
            content_type,
            measure,
            len(data),
            change,
            self.delivery,
        )
        return result

    def _check_plan(self, source: Source) -> None:
        """Refuse what can't come to an end, before anything is read."""
        from airflow_provider_wan.media.presign import check_lifetime
        from airflow_provider_wan.media.source import Origin, split_s3_uri

        if self.delivery == "upload":
            return
        check_lifetime(self._lifetime)
        if self.dest_prefix:
            split_s3_uri(self.dest_prefix.rstrip("/") + "/x", "dest_prefix")
        elif source.origin is not Origin.S3 or (self.kind == "image" and self.fit == "resize"):
            raise WanValidationError(
                "dest_prefix",
                self.dest_prefix,
                'is needed to presign a source that does not lie in S3, or that fit="resize" may change',
                'Set dest_prefix="s3://bucket/prefix/", or delivery="upload"',
            )

    def _image(self, source: Source) -> tuple[bytes, str, str, dict[str, Any]]:
        from airflow_provider_wan.media import image

        # What the upload call takes, of the types that the API takes.
        formats = ("JPEG", "PNG") if self.delivery == "upload" else tuple(image.CONTENT_TYPES)
        info: ImageInfo
        if self.fit == "error":
            data = self._read(source, image.MAX_IMAGE_BYTES, 'Set fit="resize" to have it adapted')
            info = image.check_image(data, field="source", formats=formats)
            source_sha256 = info.sha256
        else:
            original = self._read(source, image.MAX_SOURCE_BYTES, "Scale it down first")
            fitted = image.fit_image(original, field="source", formats=formats)
            data, info, source_sha256 = fitted.data, fitted.info, fitted.source_sha256
        facts = {"sha256": info.sha256, "source_sha256": source_sha256, "width": info.width, "height": info.height}
        return data, info.content_type, info.extension, facts

    def _audio(self, source: Source) -> tuple[bytes, str, str, dict[str, Any]]:
        from airflow_provider_wan.media import audio

        data = self._read(source, audio.MAX_AUDIO_BYTES, "Save it as MP3")
        info: AudioInfo = audio.check_audio(data, field="source")
        clip_seconds = float(self.clip_duration) if self.clip_duration else None
        if clip_seconds and info.seconds > clip_seconds:
            self.log.warning(
                "%s lasts %.1f s: the API trims it to the clip's %g s", source.shown, info.seconds, clip_seconds
            )
        facts = {"sha256": info.sha256, "source_sha256": info.sha256, "seconds": info.seconds}
        return data, info.content_type, info.extension, facts

    def _read(self, source: Source, max_bytes: int, remedy: str) -> bytes:
        return source.read(lambda: self.s3, max_bytes, "source", remedy)

    def _upload(self, data: bytes, extension: str) -> str:
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id).upload(data, "jpeg" if extension == "jpg" else extension)

    def _presign(self, source: Source, data: bytes, sha256: str, content_type: str, extension: str) -> dict[str, Any]:
        from airflow_provider_wan.media.presign import presign, probe
        from airflow_provider_wan.media.source import Origin, split_s3_uri

        if source.origin is Origin.S3 and (self.kind == "audio" or self.fit == "error"):
            bucket, key = split_s3_uri(source.text, "source")
        else:
            prefix = str(self.dest_prefix).rstrip("/")
            bucket, key = split_s3_uri(f"{prefix}/{sha256}.{extension}", "dest_prefix")
            self._put_once(bucket, key, data, content_type)
        signed = presign(self.s3, bucket, key, content_type=content_type, lifetime=self._lifetime)
        _mask_query(signed.url)
        if signed.shortened:
            self.log.warning(
                "The AWS credentials die early: the URL of s3://%s/%s lives until %d (Unix time)",
                bucket,
                key,
                signed.expires_at,
            )
        probe(signed.url, len(data))
        return {"url": signed.url, "uri": f"s3://{bucket}/{key}", "expires_at": signed.expires_at}

    def _put_once(self, bucket: str, key: str, data: bytes, content_type: str) -> None:
        """The key is the content's hash: what is there has the same bytes."""
        from botocore.exceptions import ClientError

        try:
            if self.s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(data):
                return
        except ClientError as error:
            # 403 is what S3 answers for a missing key to whoever may not list the bucket.
            if str(error.response.get("Error", {}).get("Code")) not in ("404", "403", "NoSuchKey", "NotFound"):
                raise
        self.s3.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type)

    @property
    def _lifetime(self) -> int | None:
        if isinstance(self.expires_in, timedelta):
            return int(self.expires_in.total_seconds())
        return self.expires_in


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WanValidationError(field, value, f"must be one of {', '.join(allowed)}")


def _mask_query(url: object) -> None:
    if isinstance(url, str) and url.startswith(("http://", "https://")) and "?" in url:
        mask_secret(url.split("?", 1)[1])
