# SPDX-License-Identifier: Apache-2.0
"""Ingests images and audio: reads, validates and fits them, and delivers them to where the API can fetch them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanLookupError, WanValidationError
from airflow_provider_wan.api.network import FROM_ENVIRONMENT, NetworkSettings
from airflow_provider_wan.media import image
from airflow_provider_wan.media.image_fit import Fit, FitOptions, fit_image
from airflow_provider_wan.media.object_storage import ObjectStorage
from airflow_provider_wan.media.source import MediaSource, Origin
from airflow_provider_wan.s3.presign import presign, probe_url, validate_lifetime
from airflow_provider_wan.s3.uri import build_s3_uri, parse_s3_uri, split_s3_uri

log = logging.getLogger(__name__)


class MediaKind(StrEnum):
    """Kind of file."""

    IMAGE = "image"
    AUDIO = "audio"


class Delivery(StrEnum):
    """How the API gets the file."""

    PRESIGN = "presign"
    UPLOAD = "upload"


@dataclass(frozen=True)
class IngestedMedia:
    """A file that the API can fetch.

    :param kind: ``image`` or ``audio``.
    :param url: its URL; a secret if it is signed.
    :param sha256: hash of the bytes delivered.
    :param source_sha256: hash of the source's bytes; of an image, also of the frame, padding or crop.
    :param content_type: media type of the bytes delivered.
    :param size: number of bytes delivered.
    :param source: location of the source, without a query string.
    :param uri: ``s3://`` URI of the object that the URL leads to; None if it is not on S3.
    :param expires_at: Unix seconds at which the URL expires; None if it does not.
    :param width: width in pixels; None for audio.
    :param height: height in pixels; None for audio.
    :param seconds: duration of the audio; None for an image.
    """

    kind: MediaKind
    url: str = field(repr=False)
    sha256: str
    source_sha256: str
    content_type: str
    size: int
    source: str
    uri: str | None = None
    expires_at: int | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None

    def as_result(self) -> dict[str, Any]:
        """Return plain values, without those of the other kind."""
        other = ("seconds",) if self.kind is MediaKind.IMAGE else ("width", "height")
        return {name: value for name, value in asdict(self).items() if name not in other} | {"kind": self.kind.value}


@dataclass(frozen=True)
class _Content:
    """Content that the API accepts."""

    data: bytes
    content_type: str
    extension: str
    properties: dict[str, Any]


class MediaIngester:
    """Ingests images and audio; safe to use from several threads.

    :param s3: returns a boto3 S3 client that signs with version 4.
    :param upload: uploads bytes of a type through the API's upload call, and returns their URL.
    :param fit: how images are adapted; audio is never changed.
    :param delivery: how the API gets the file.
    :param dest_prefix: ``s3://bucket/prefix`` for copies to be presigned, named by their hash.
    :param lifetime: lifetime of a presigned URL in seconds; None: six hours, or as long as the credentials are valid.
    :param network: TLS, proxy and bypass for sources on the web, and for the probe of presigned URLs.
    :param storage: reads other object storage than S3.
    :param on_url: called with each presigned URL before it is used, to mask it.
    """

    def __init__(
        self,
        s3: Callable[[], Any],
        upload: Callable[[bytes, str], str],
        *,
        fit: FitOptions,
        delivery: Delivery,
        dest_prefix: str | None = None,
        lifetime: int | None = None,
        network: NetworkSettings = FROM_ENVIRONMENT,
        storage: ObjectStorage | None = None,
        on_url: Callable[[str], None] = lambda url: None,
    ) -> None:
        self._s3 = s3
        self._upload = upload
        self._fit = fit
        self._delivery = delivery
        self._dest_prefix = dest_prefix
        self._lifetime = lifetime
        self._network = network
        self._storage = storage
        self._on_url = on_url

    def ingest(
        self, source: MediaSource, kind: MediaKind, on_content: Callable[[bytes], None] | None = None
    ) -> IngestedMedia:
        """Read, validate, fit and deliver a file.

        :param source: location of the file.
        :param kind: kind of the file.
        :param on_content: called with the bytes that are delivered.
        :raises WanValidationError: if the file violates a rule.
        :raises SourceMissingError: if there is nothing at the source.
        :raises PresignError: if the presigned URL does not lead to the file.
        :raises WanLookupError: if S3 refuses the copy.
        """
        self.validate(source, kind)
        content = self._prepare_image(source) if kind is MediaKind.IMAGE else self._prepare_audio(source)
        if on_content is not None:
            on_content(content.data)
        address: dict[str, Any]
        if self._delivery is Delivery.UPLOAD:
            extension = "jpeg" if content.extension == "jpg" else content.extension
            address = {"url": self._upload(content.data, extension)}
        else:
            address = self._presign(source, kind, content)
        return IngestedMedia(
            kind=kind,
            source=source.public_uri,
            content_type=content.content_type,
            size=len(content.data),
            **content.properties,
            **address,
        )

    def validate(self, source: MediaSource, kind: MediaKind) -> None:
        """Check that the file can be delivered, before anything is read.

        :param source: location of the file.
        :param kind: kind of the file.
        :raises WanValidationError: if an argument is missing or invalid.
        """
        if self._delivery is Delivery.UPLOAD:
            return
        validate_lifetime(self._lifetime)
        if self._dest_prefix:
            parse_s3_uri(f"{str(self._dest_prefix).rstrip('/')}/x", "dest_prefix")
        elif source.origin is not Origin.S3 or (kind is MediaKind.IMAGE and self._fit.fit is not Fit.ERROR):
            raise WanValidationError(
                "dest_prefix",
                self._dest_prefix,
                "is needed to presign a source that is not on S3, or whose image may be changed",
                'Set dest_prefix="s3://bucket/prefix/", or delivery="upload"',
            )

    def _prepare_image(self, source: MediaSource) -> _Content:
        # Types that both the upload call and the API accept.
        formats = ("JPEG", "PNG") if self._delivery is Delivery.UPLOAD else tuple(image.CONTENT_TYPES)
        if self._fit.fit is Fit.ERROR:
            data = self._read(source, image.MAX_IMAGE_BYTES, 'Set fit="resize" to have it adapted')
            info = image.check_image(data, field="source", formats=formats)
            source_sha256 = info.sha256
        else:
            original = self._read(source, image.MAX_SOURCE_BYTES, "Scale it down first")
            fitted = fit_image(original, self._fit, field="source", formats=formats)
            data, info, source_sha256 = fitted.data, fitted.info, fitted.source_sha256
        properties = {"sha256": info.sha256, "source_sha256": source_sha256, "width": info.width, "height": info.height}
        return _Content(data, info.content_type, info.extension, properties)

    def _prepare_audio(self, source: MediaSource) -> _Content:
        from airflow_provider_wan.media import audio

        data = self._read(source, audio.MAX_AUDIO_BYTES, "Save it as MP3")
        info = audio.check_audio(data, field="source")
        properties = {"sha256": info.sha256, "source_sha256": info.sha256, "seconds": info.seconds}
        return _Content(data, info.content_type, info.extension, properties)

    def _read(self, source: MediaSource, max_bytes: int, remedy: str) -> bytes:
        return source.read(self._s3, max_bytes, "source", remedy, self._network, self._storage)

    def _presign(self, source: MediaSource, kind: MediaKind, content: _Content) -> dict[str, Any]:
        if source.origin is Origin.S3 and (kind is MediaKind.AUDIO or self._fit.fit is Fit.ERROR):
            bucket, key = split_s3_uri(source.text)
        else:
            prefix = str(self._dest_prefix).rstrip("/")
            bucket, key = parse_s3_uri(f"{prefix}/{content.properties['sha256']}.{content.extension}", "dest_prefix")
            self._put_once(bucket, key, content)
        signed = presign(self._s3(), bucket, key, content_type=content.content_type, lifetime=self._lifetime)
        self._on_url(signed.url)
        if signed.shortened:
            log.warning(
                "The AWS credentials expire early: the URL of s3://%s/%s is valid until %d (Unix time)",
                bucket,
                key,
                signed.expires_at,
            )
        probe_url(signed.url, len(content.data), self._network)
        return {"url": signed.url, "uri": build_s3_uri(bucket, key), "expires_at": signed.expires_at}

    def _put_once(self, bucket: str, key: str, content: _Content) -> None:
        """Write an object whose key is the hash of its content, if it does not exist."""
        from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error
        from airflow_provider_wan.s3.objects import find_object, put_object

        try:
            head = find_object(self._s3(), bucket, key, forbidden_is_absent=True)
            if head is None or head["ContentLength"] != len(content.data):
                put_object(self._s3(), bucket, key, content.data, content.content_type)
            return
        except S3_ERRORS as error:
            message = describe_s3_error(error, build_s3_uri(bucket, key))
        raise WanLookupError(f"{message}; then retry or clear this task. Nothing was paid.")
