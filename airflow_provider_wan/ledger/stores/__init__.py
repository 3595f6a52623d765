# SPDX-License-Identifier: Apache-2.0
"""The stores of the ledger: S3, and a shared folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.ledger.stores.base import DocumentStore


def open_store(uri: str, *, s3_client: Callable[[], Any] | None = None) -> DocumentStore:
    """
    Return the store at a URI. Nothing is read or written yet.

    :param uri: ``s3://bucket/prefix`` or ``file:///folder``.
    :param s3_client: returns the boto3 client, such as ``S3Hook(aws_conn_id).get_conn``; needed for ``s3://``.
    :raises WanValidationError: for any other URI.
    """
    scheme, separator, rest = uri.partition("://")
    if scheme == "file" and separator and rest.startswith("/"):
        from airflow_provider_wan.ledger.stores.file import FileStore

        return FileStore(rest)
    if scheme == "s3" and rest.split("/", 1)[0] and s3_client is not None:
        from airflow_provider_wan.ledger.stores.s3 import S3Store
        from airflow_provider_wan.s3.uri import split_s3_uri

        return S3Store(s3_client, *split_s3_uri(uri))
    raise WanValidationError("ledger", uri, "must be s3://bucket/prefix or file:///absolute/folder")
