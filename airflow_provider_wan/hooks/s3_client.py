# SPDX-License-Identifier: Apache-2.0
"""S3 clients of an AWS connection."""

from __future__ import annotations

from typing import Any


def create_s3_client(aws_conn_id: str | None) -> Any:
    """Return a boto3 S3 client, as the connection configures it.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    """
    return _create(aws_conn_id, None)


def create_signing_client(aws_conn_id: str | None, *, max_connections: int = 10) -> Any:
    """Return a boto3 S3 client whose presigned URLs every region and KMS accept.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    :param max_connections: maximum number of connections that the client keeps open.
    """
    return _create(aws_conn_id, max_connections)


def _create(aws_conn_id: str | None, max_connections: int | None) -> Any:
    """Return a client with the options of the connection's extra ``s3_options`` on everything that it writes."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_wan.s3.client import (
        build_checksum_config,
        build_signing_config,
        parse_write_options,
        set_write_options,
    )

    connection = S3Hook(aws_conn_id).conn_config
    options = parse_write_options((connection.extra_config or {}).get("s3_options"))
    config = build_checksum_config(connection.botocore_config, connection.get_service_endpoint_url("s3"))
    if max_connections is not None:
        config = build_signing_config(config, max_connections=max_connections)
    client = S3Hook(aws_conn_id, config=config).get_conn()
    set_write_options(client, options)
    return client
