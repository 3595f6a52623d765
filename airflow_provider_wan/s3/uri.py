# SPDX-License-Identifier: Apache-2.0
"""``s3://`` URIs."""

from __future__ import annotations

import re

from airflow_provider_wan.api.errors import WanValidationError

#: Schemes that name objects on S3. Hadoop writes the last two.
SCHEMES = ("s3", "s3a", "s3n")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:.+")


def is_s3_uri(value: object) -> bool:
    """Return whether a value is text that begins with a scheme of S3.

    :param value: any value.
    """
    return isinstance(value, str) and "://" in value and value.partition("://")[0].lower() in SCHEMES


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split a URI into the bucket and the key or prefix, which may both be empty.

    :param uri: ``s3://`` URI.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def parse_s3_uri(uri: object, field: str) -> tuple[str, str]:
    """Parse the URI of an object.

    :param uri: ``s3://bucket/key``.
    :param field: name of the argument, for the error.
    :returns: the bucket and the key.
    :raises WanValidationError: if the scheme is not S3's, the bucket or the key is empty, or the name of the bucket has
        characters that none has.
    """
    bucket, key = split_s3_uri(uri) if isinstance(uri, str) else ("", "")
    if not is_s3_uri(uri) or not bucket or not key:
        raise WanValidationError(field, uri, "must be s3://bucket/key")
    _check_bucket(bucket, uri, field)
    return bucket, key


def parse_s3_prefix(uri: object, field: str) -> tuple[str, str]:
    """Parse the URI of a prefix.

    :param uri: ``s3://bucket/prefix/``.
    :param field: name of the argument, for the error.
    :returns: the bucket, and the prefix, which is empty or ends in ``/``.
    :raises WanValidationError: if the value is not such a URI, or has a ``..`` in it, or the name of the bucket has
        characters that none has.
    """
    bucket, prefix = split_s3_uri(uri) if isinstance(uri, str) else ("", "")
    if not is_s3_uri(uri) or not bucket or ".." in prefix.split("/"):
        raise WanValidationError(field, uri, "must be s3://bucket/prefix/")
    _check_bucket(bucket, uri, field)
    return bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""


def _check_bucket(bucket: str, uri: object, field: str) -> None:
    if not _BUCKET.fullmatch(bucket):
        rule = f"has {bucket[:80]!r} as the name of a bucket, which consists of letters, digits, '.', '-' and '_'"
        raise WanValidationError(field, uri, rule, "Correct the name of the bucket")


def build_s3_uri(bucket: str, key: str) -> str:
    """Return the URI of an object or a prefix.

    :param bucket: the bucket.
    :param key: the key or the prefix.
    """
    return f"s3://{bucket}/{key}"
