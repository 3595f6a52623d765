# SPDX-License-Identifier: Apache-2.0
"""S3 clients of an AWS connection, and the options of everything that they write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping


def create_s3_client(aws_conn_id: str | None, s3_options: Mapping[str, Any] | None = None) -> Any:
    """Return a boto3 S3 client, as the connection configures it.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    :param s3_options: options of a task for everything that the client writes.
    :raises WanValidationError: if an option is not known.
    """
    return _create(aws_conn_id, s3_options, None)


def create_signing_client(
    aws_conn_id: str | None,
    s3_options: Mapping[str, Any] | None = None,
    *,
    max_connections: int = 10,
    timeout: float | None = None,
) -> Any:
    """Return a boto3 S3 client whose presigned URLs every region and KMS accept.

    :param aws_conn_id: id of the AWS connection; None: boto3's own credentials.
    :param s3_options: options of a task for everything that the client writes.
    :param max_connections: maximum number of connections that the client keeps open.
    :param timeout: seconds for a connection and for each read, which are tried twice; None for the connection's.
    :raises WanValidationError: if an option is not known.
    """
    return _create(aws_conn_id, s3_options, max_connections, timeout)


def _create(
    aws_conn_id: str | None,
    s3_options: Mapping[str, Any] | None,
    max_connections: int | None,
    timeout: float | None = None,
) -> Any:
    """Return a client that sends the options of task, deployment and connection with everything that it writes."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_wan.s3.client import (
        build_checksum_config,
        build_signing_config,
        is_aws_endpoint,
        merge_write_options,
        parse_write_options,
        refuse_redirects,
        set_write_options,
    )

    hook = S3Hook(aws_conn_id)
    connection = hook.conn_config
    options = merge_write_options(
        parse_write_options((connection.extra_config or {}).get("s3_options"), "s3_options in the AWS connection"),
        parse_write_options(_read_deployment_options(), "[wan] s3_options"),
        parse_write_options(s3_options, "s3_options"),
    )
    session = hook.get_session(region_name=hook.region_name)

    configured_url = connection.get_service_endpoint_url("s3")

    def create(endpoint_url: str | None) -> Any:
        config = build_checksum_config(connection.botocore_config, endpoint_url)
        if max_connections is not None:
            config = build_signing_config(config, max_connections=max_connections, timeout=timeout)
        # Not S3Hook.get_conn(): for the user agent it reads the source file of each frame of the stack.
        return session.client("s3", endpoint_url=configured_url, config=config, verify=hook.verify)

    client = create(configured_url)
    if configured_url is None and not is_aws_endpoint(client.meta.endpoint_url):
        # It is from boto3's own settings, such as AWS_ENDPOINT_URL.
        client = create(client.meta.endpoint_url)
    refuse_redirects(client)
    set_write_options(client, options)
    return client


def _read_deployment_options() -> object:
    text = (conf.get("wan", "s3_options", fallback=None) or "").strip()
    try:
        return json.loads(text) if text else None
    except ValueError:
        raise WanValidationError(
            "[wan] s3_options", text, 'must be JSON such as {"ServerSideEncryption": "aws:kms"}'
        ) from None
