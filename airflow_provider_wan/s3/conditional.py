# SPDX-License-Identifier: Apache-2.0
"""Conditional writes: ``If-None-Match: *`` creates an object, ``If-Match`` replaces one version of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_wan.s3.errors import (
    is_no_such_key,
    is_not_implemented,
    is_precondition_failure,
    may_be_absent,
    read_field,
)

# ETag of an empty object, which the object of the probe never is.
_OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
_PROBE_BODY = "Shows that this server honours conditional writes."
_PROXY_HINT = ": a proxy may weaken or rewrite ETags, for example by compressing"


def read_version(client: Any, bucket: str, key: str, *, forbidden_is_absent: bool = False) -> tuple[bytes, str] | None:
    """Return the content of an object and its version; None only if S3 itself says that there is none.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param forbidden_is_absent: whether a 403 counts as "there is none": S3's response for an absent key to credentials
        that may not list the bucket.
    :raises botocore.exceptions.ClientError: if S3 refuses the request; likewise botocore's other errors and
        :class:`OSError`.
    """
    try:
        response = client.get_object(Bucket=bucket, Key=key)
        with response["Body"] as body:
            return body.read(), read_field(response, "ETag")
    except ClientError as error:
        if is_no_such_key(error) or (forbidden_is_absent and may_be_absent(error)):
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
        try:
            stored = read_version(client, bucket, key)
        except (ClientError, BotoCoreError, OSError) as unreadable:
            # What can't be read does not explain a failed condition, and hides any other cause.
            raise (unreadable if is_precondition_failure(error) else error) from None
        if stored is not None and stored[0] == content:
            return stored[1]
        if is_precondition_failure(error):
            return None
        raise


def find_condition_fault(client: Any, bucket: str, key: str) -> str | None:
    """Return why conditional writes to a server can't be relied on; None if they can. It leaves one small object.

    An object is created, which a second creation must not replace; its version is replaced, by the very ETag that the
    server gave, and then must not be replaced again by that ETag.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: key of that object.
    :raises botocore.exceptions.ClientError: if S3 refuses the request; likewise botocore's other errors and
        :class:`OSError`.
    """
    try:
        return _find_condition_fault(client, bucket, key)
    except ClientError as error:
        if is_not_implemented(error):
            return "the S3 server does not implement conditional writes"
        raise


def overwrites_existing(client: Any, bucket: str, key: str, content: bytes, content_type: str) -> bool:
    """Return whether a server replaces an object although ``If-None-Match: *`` forbids it.

    The object is written again with the content that it has, so nothing is lost if it does.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: key of an object that exists.
    :param content: its content.
    :param content_type: its media type.
    :raises botocore.exceptions.ClientError: if S3 refuses the request for another reason; likewise botocore's other
        errors.
    """
    try:
        client.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type, IfNoneMatch="*")
    except ClientError as error:
        if is_precondition_failure(error):
            return False
        raise
    return True


def _find_condition_fault(client: Any, bucket: str, key: str) -> str | None:
    def put(**condition: str) -> str | None:
        return _put_probe(client, bucket, key, content, **condition)

    content = f"{_PROBE_BODY} {uuid4().hex}".encode()
    if put(IfNoneMatch="*") is not None and put(IfNoneMatch="*") is not None:
        return "the S3 server ignores If-None-Match"
    before = read_version(client, bucket, key)
    if before is None:
        return "the S3 server does not show an object that it said exists"
    if put(IfMatch=_OTHER_ETAG) is not None:
        return "the S3 server ignores If-Match"
    content = f"{_PROBE_BODY} {uuid4().hex}".encode()
    version, after = put(IfMatch=before[1]), read_version(client, bucket, key)
    if version is None:
        # Another process that probes at the same time has just replaced it, so conditions can hold.
        overtaken = after is not None and after[0] != before[0]
        return None if overtaken else f"the S3 server refuses its own ETag in If-Match ({before[1]}){_PROXY_HINT}"
    if after is not None and after[0] == content and after[1] != version:
        return f"the ETag in the response to a PUT ({version}) is not the object's ({after[1]}){_PROXY_HINT}"
    return "the S3 server ignores If-Match" if put(IfMatch=before[1]) is not None else None


def _put_probe(client: Any, bucket: str, key: str, content: bytes, **condition: str) -> str | None:
    """Return the version that was written; None if it was refused."""
    try:
        return _put(client, bucket, key, content, **condition)
    except ClientError as error:
        if is_precondition_failure(error):
            return None
        raise


def _put(client: Any, bucket: str, key: str, content: bytes, **condition: str) -> str:
    response = client.put_object(Bucket=bucket, Key=key, Body=content, ContentType="application/json", **condition)
    return read_field(response, "ETag")
