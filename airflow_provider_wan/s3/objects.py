# SPDX-License-Identifier: Apache-2.0
"""Objects on S3: find, list and read them. A client is always one of boto3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from airflow_provider_wan.s3.errors import is_not_found, may_be_absent


def find_object(client: Any, bucket: str, key: str, *, forbidden_is_absent: bool = False) -> dict[str, Any] | None:
    """Return the headers of an object; None if there is none.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param forbidden_is_absent: whether a 403 counts as "there is none": S3's response for an absent key to credentials
        that may not list the bucket.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    try:
        head: dict[str, Any] = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_not_found(error) or (forbidden_is_absent and may_be_absent(error)):
            return None
        raise
    return head


def read_object(
    client: Any, bucket: str, key: str, max_bytes: int | None = None, *, forbidden_is_absent: bool = False
) -> bytes | None:
    """Return the content of an object; None if there is none.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param max_bytes: where reading ends; None reads all.
    :param forbidden_is_absent: as for :func:`find_object`.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    try:
        response = client.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_not_found(error) or (forbidden_is_absent and may_be_absent(error)):
            return None
        raise
    with response["Body"] as body:
        return bytes(body.read(max_bytes))


def list_objects(
    client: Any, bucket: str, prefix: str, *, after: str = "", until: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the objects below a prefix, in the order of their keys, as boto3 describes them.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param prefix: prefix of the keys.
    :param after: key after which the list begins.
    :param until: last key of the list; None for no limit.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    start = {"StartAfter": after} if after else {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start):
        for item in page.get("Contents", ()):
            if until is not None and item["Key"] > until:
                return
            yield item


def get_etag(response: dict[str, Any]) -> str:
    """Return the ETag in a response, without quotes.

    :param response: response to a GET, HEAD or PUT.
    """
    return str(response["ETag"]).strip('"')
