# SPDX-License-Identifier: Apache-2.0
"""Objects on S3: find, list, read, write and delete them. A client is always one of boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from botocore.exceptions import ClientError

from airflow_provider_wan.s3.errors import (
    ENDPOINT_REMEDY,
    S3ProtocolError,
    get_error_code,
    is_not_found,
    may_be_absent,
    read_field,
)


def find_object(client: Any, bucket: str, key: str, *, forbidden_is_absent: bool = False) -> dict[str, Any] | None:
    """Return the headers of an object; None if there is none. The names of its metadata are in small letters.

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
    read_field(head, "ETag")
    # A proxy that capitalizes the names of headers capitalizes these, too.
    return {**head, "Metadata": {name.lower(): value for name, value in head.get("Metadata", {}).items()}}


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


def is_gone(client: Any, bucket: str, key: str) -> bool:
    """Return whether S3 itself says that there is no such object.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    try:
        with client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"]:
            return False
    except ClientError as error:
        if get_error_code(error) in ("NoSuchKey", "NoSuchBucket"):
            return True
        raise


@contextmanager
def open_object(client: Any, bucket: str, key: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open an object, and yield the stream of its content, and its headers, as boto3 describes them.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :raises botocore.exceptions.ClientError: if there is none, or S3 refuses the request.
    """
    response = client.get_object(Bucket=bucket, Key=key)  # this does not read the body
    with closing(response["Body"]) as body:
        yield body, response


def put_object(client: Any, bucket: str, key: str, content: bytes, content_type: str) -> None:
    """Write an object, over another one if there is one.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param content: its content.
    :param content_type: its media type.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    client.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)


def delete_object(client: Any, bucket: str, key: str) -> None:
    """Delete an object, if there is one.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    client.delete_object(Bucket=bucket, Key=key)


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
    :raises S3ProtocolError: if the response is no list, or there are more objects and it does not say how to read on.
    """
    _read_lists_fast(client)
    start = {"StartAfter": after} if after else {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start):
        for item in page.get("Contents", ()):
            if until is not None and item["Key"] > until:
                return
            if item["Key"] > after:  # some stores list from the beginning nevertheless
                yield item
        if page.get("IsTruncated") and not page.get("NextContinuationToken"):
            raise S3ProtocolError(
                reason="the server cuts its list of objects off, and does not say how to read on: it has to implement "
                "ListObjectsV2"
            )


def _read_lists_fast(client: Any) -> None:
    """Read the objects of lists without botocore's parser, which needs five times the CPU."""
    events = getattr(getattr(client, "meta", None), "events", None)
    if events is not None:
        # Before botocore's look for errors in the body, which parses it too.
        events.register_first("before-parse.s3.ListObjectsV2", _parse_contents, unique_id="wan-list-objects")


def _parse_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Move the objects of a page from its XML into its result. What is odd is left to botocore's parser.

    :raises S3ProtocolError: if there is no XML, which botocore takes for a list without objects.
    """
    if response_dict.get("status_code", 200) < 300 and not response_dict["body"].strip():
        raise S3ProtocolError(reason=f"an empty response is no list of objects: {ENDPOINT_REMEDY}")
    try:
        root = ElementTree.fromstring(response_dict["body"])
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            return
        contents = [_parse_object(node) for node in root if node.tag.rpartition("}")[2] == "Contents"]
    except (ElementTree.ParseError, ValueError, KeyError, TypeError):
        return
    if not contents:
        return
    root[:] = [node for node in root if node.tag.rpartition("}")[2] != "Contents"]
    response_dict["body"] = ElementTree.tostring(root)
    customized_response_dict["Contents"] = contents


def _parse_object(node: ElementTree.Element) -> dict[str, Any]:
    values: dict[str, Any] = {each.tag.rpartition("}")[2]: each.text or "" for each in node if len(each) == 0}
    found: dict[str, Any] = {name: values[name] for name in ("Key", "ETag", "StorageClass") if name in values}
    modified = datetime.fromisoformat(values["LastModified"])
    if not found["Key"] or modified.tzinfo is None:
        raise ValueError("an object without a key, or without the time zone of its time")
    return {**found, "LastModified": modified, "Size": int(values["Size"])}


def list_first_page(client: Any, bucket: str, prefix: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the first objects below a prefix, at most 1,000, and whether there are more.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param prefix: prefix of the keys.
    :raises botocore.exceptions.ClientError: if S3 refuses the request.
    """
    _read_lists_fast(client)
    page = client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    return page.get("Contents", []), bool(page.get("IsTruncated"))


def get_etag(response: dict[str, Any]) -> str:
    """Return the ETag in a response, without quotes.

    :param response: response to a GET, HEAD or PUT.
    """
    return read_field(response, "ETag").strip('"')
