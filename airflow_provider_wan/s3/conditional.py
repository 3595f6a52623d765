# SPDX-License-Identifier: Apache-2.0
"""Conditional writes: ``If-None-Match: *`` creates an object, ``If-Match`` replaces one version of it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_wan.s3.errors import get_http_status, is_no_such_key, is_precondition_failure

#: ETag of an empty object, which the object of :func:`honours_conditions` never is.
_OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
_PROBE_BODY = b"Shows that this server honours conditional writes."


def read_version(client: Any, bucket: str, key: str) -> tuple[bytes, str] | None:
    """Return the content of an object and its version; None only if S3 itself says that there is none.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :raises botocore.exceptions.ClientError: if S3 refuses the request; likewise botocore's other errors and
        :class:`OSError`.
    """
    try:
        response = client.get_object(Bucket=bucket, Key=key)
        with response["Body"] as body:
            return body.read(), response["ETag"]
    except ClientError as error:
        if is_no_such_key(error):
            return None
        raise


def write_if(client: Any, bucket: str, key: str, content: bytes, *, version: str | None) -> str | None:
    """Write an object if its version is the given one.

    If the response is lost, or botocore repeats the write and so it collides with itself, the object is read again:
    content that is equal counts as written. So the content has to be unique to its writer.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param content: JSON in UTF-8.
    :param version: version to be replaced; None: there must be no object.
    :returns: the new version; None if the condition does not hold.
    :raises botocore.exceptions.ClientError: if S3 refuses the request; likewise botocore's other errors and
        :class:`OSError`. Then the object may be written or not.
    """
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    try:
        return _put(client, bucket, key, content, **condition)
    except (ClientError, BotoCoreError, OSError) as error:
        stored = read_version(client, bucket, key)
        if stored is not None and stored[0] == content:
            return stored[1]
        if is_precondition_failure(error):
            return None
        raise


def honours_conditions(client: Any, bucket: str, key: str) -> bool:
    """Return whether the server honours conditional writes. It leaves one small object.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: key of that object.
    :raises botocore.exceptions.ClientError: if S3 refuses the request; likewise botocore's other errors and
        :class:`OSError`.
    """
    exists = {"IfNoneMatch": "*"}
    is_created_once = _is_refused(client, bucket, key, **exists) or _is_refused(client, bucket, key, **exists)
    return is_created_once and _is_refused(client, bucket, key, IfMatch=_OTHER_ETAG)


def _is_refused(client: Any, bucket: str, key: str, **condition: str) -> bool:
    try:
        _put(client, bucket, key, _PROBE_BODY, **condition)
    except ClientError as error:
        if get_http_status(error) == 412:
            return True
        raise
    return False


def _put(client: Any, bucket: str, key: str, content: bytes, **condition: str) -> str:
    response = client.put_object(Bucket=bucket, Key=key, Body=content, ContentType="application/json", **condition)
    return str(response["ETag"])
