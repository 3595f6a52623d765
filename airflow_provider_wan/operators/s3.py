# SPDX-License-Identifier: Apache-2.0
"""S3 clients of an Airflow connection."""

from __future__ import annotations

from typing import Any


def signing_client(aws_conn_id: str | None, *, connections: int = 10) -> Any:
    """
    Return a boto3 S3 client that signs with version 4, as KMS and the newer regions demand.

    :param connections: the most that it keeps open at once.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    version_4 = Config(signature_version="s3v4", max_pool_connections=connections)
    given = S3Hook(aws_conn_id).conn_config.botocore_config
    return S3Hook(aws_conn_id, config=given.merge(version_4) if given else version_4).get_conn()
