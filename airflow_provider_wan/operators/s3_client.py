# SPDX-License-Identifier: Apache-2.0
"""S3 clients of an AWS connection."""

from __future__ import annotations

from typing import Any


def create_s3_client(aws_conn_id: str | None) -> Any:
    """Return a boto3 S3 client, as the connection configures it.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id).get_conn()


def create_signing_client(aws_conn_id: str | None, *, max_connections: int = 10) -> Any:
    """Return a boto3 S3 client whose presigned URLs every region and KMS accept.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    :param max_connections: maximum number of connections that the client keeps open.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_wan.s3.client import build_signing_config

    given = S3Hook(aws_conn_id).conn_config.botocore_config
    return S3Hook(aws_conn_id, config=build_signing_config(given, max_connections=max_connections)).get_conn()
