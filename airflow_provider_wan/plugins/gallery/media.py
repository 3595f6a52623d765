# SPDX-License-Identifier: Apache-2.0
"""Signed URLs of archived clips and source images, and the records beside clips."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.clip_record import MAX_RECORD_BYTES, record_key
from airflow_provider_wan.plugins.gallery.source import s3_client
from airflow_provider_wan.s3.objects import find_object, read_object
from airflow_provider_wan.s3.presign import presign
from airflow_provider_wan.s3.uri import parse_s3_uri

# A browser asks for a signed URL's parts for as long as a person watches; it gets a new one at each start.
LIFETIME_SECONDS = 300


class MediaUnavailableError(RuntimeError):
    """A clip, an image or a record can't be had now; the message says why."""


def media_url(uri: str) -> str:
    """
    Return an address that a browser can fetch a clip or an image from.

    :param uri: ``s3://`` URI, or a public http(s) URL, which is returned as it is.
    :raises MediaUnavailableError: if no address can be made.
    """
    if uri.startswith(("http://", "https://")):
        return uri
    bucket, key = _split(uri)
    content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    try:
        return presign(s3_client(), bucket, key, content_type=content_type, lifetime=LIFETIME_SECONDS).url
    except Exception as error:
        raise MediaUnavailableError(f"{uri} can't be signed: {type(error).__name__}.") from error


def is_absent(uri: str) -> bool:
    """
    Return whether there is certainly no object.

    :param uri: ``s3://`` URI.
    """
    try:
        return find_object(s3_client(), *_split(uri)) is None
    except Exception:  # whatever it is, the browser sees it when it follows the address
        return False


def read_clip_record(archive_uri: str) -> dict[str, Any]:
    """
    Read the record beside an archived clip.

    :param archive_uri: ``s3://`` URI of the video.
    :raises MediaUnavailableError: if it can't be read.
    """
    bucket, key = _split(archive_uri)
    try:
        body = read_object(s3_client(), bucket, record_key(key), MAX_RECORD_BYTES)
        document = None if body is None else json.loads(body)
    except Exception as error:  # whatever it is, the clip is shown without its record
        raise MediaUnavailableError(f"The record beside {archive_uri} can't be read: {type(error).__name__}.") from None
    if document is None:
        raise MediaUnavailableError(
            f"There is no record beside {archive_uri}: the clip was moved or deleted. A task that asks for it again "
            "archives it anew, for as long as the API has it; that costs nothing."
        )
    return document if isinstance(document, dict) else {}


def _split(uri: str) -> tuple[str, str]:
    try:
        return parse_s3_uri(uri, "uri")
    except WanValidationError:
        raise MediaUnavailableError("Only files on S3 or on a web server can be shown.") from None
