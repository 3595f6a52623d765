# SPDX-License-Identifier: Apache-2.0
"""Prepares an installation, and does no harm to one that is prepared: tables, login, connections, pool, bucket.

The service ``init`` of docker-compose.yml runs it before all others, with everything in its environment. It is one
process: each call of Airflow's command line takes seconds to start.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ENV = os.environ
POOL = "wan_clips"


def airflow(*arguments: str) -> None:
    """Call Airflow's command line within this process."""
    from airflow.cli.cli_parser import get_parser

    options = get_parser().parse_args(arguments)
    options.func(options)


def make_login() -> None:
    """Give the password of ``admin`` to Airflow's simple auth manager."""
    path = Path(ENV["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps({"admin": ENV["ADMIN_PASSWORD"]}), encoding="utf-8")
    fresh.replace(path)


def connections() -> dict[str, dict[str, Any]]:
    """The two connections, as ``airflow connections import`` takes them."""
    aws = {"region_name": ENV["S3_REGION"]}
    if ENV.get("S3_ENDPOINT"):
        aws["endpoint_url"] = ENV["S3_ENDPOINT"]
    wan = {"conn_type": "wan", "password": ENV["WAN_API_KEY"]}
    if ENV.get("WAN_BASE_URL"):
        wan["host"] = ENV["WAN_BASE_URL"]
    return {
        "wan_default": wan,
        "aws_default": {
            "conn_type": "aws",
            "login": ENV["S3_ACCESS_KEY"],
            "password": ENV["S3_SECRET_KEY"],
            "extra": json.dumps(aws),
        },
    }


def put_connections() -> None:
    """Make the connections, or replace them: the environment is where they are changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "connections.json")
        path.touch(mode=0o600)
        path.write_text(json.dumps(connections()), encoding="utf-8")
        airflow("connections", "import", str(path), "--overwrite")


class InitError(Exception):
    """What stops the preparation, in a sentence for the person who started it."""


def make_bucket() -> None:
    """Make the bucket if it does not exist.

    :raises InitError: when S3 cannot be reached, refuses the keys, or does not let the bucket be used.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    where = ENV.get("S3_ENDPOINT") or f"AWS, region {ENV['S3_REGION']}"
    try:
        find_or_create_bucket()
    except ClientError as error:
        code, message = (error.response["Error"].get(each, "") for each in ("Code", "Message"))
        raise InitError(
            f"S3 ({where}) does not let the bucket {ENV['WAN_BUCKET']} be used: {error.operation_name} was answered "
            f"with {code} {message}. Check S3_ACCESS_KEY, S3_SECRET_KEY, S3_REGION and WAN_BUCKET in .env."
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise InitError(
            f"S3 ({where}) cannot be reached: {error} Check S3_ENDPOINT and S3_REGION in .env. Inside a container, "
            "localhost is the container itself."
        ) from error


def find_or_create_bucket() -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    s3 = boto3.client(
        "s3",
        endpoint_url=ENV.get("S3_ENDPOINT") or None,
        region_name=ENV["S3_REGION"],
        aws_access_key_id=ENV["S3_ACCESS_KEY"],
        aws_secret_access_key=ENV["S3_SECRET_KEY"],
        config=Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 3}),
    )
    try:
        s3.head_bucket(Bucket=ENV["WAN_BUCKET"])
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        where = {} if ENV["S3_REGION"] == "us-east-1" else {"LocationConstraint": ENV["S3_REGION"]}
        s3.create_bucket(Bucket=ENV["WAN_BUCKET"], **({"CreateBucketConfiguration": where} if where else {}))


def main() -> None:
    make_login()
    airflow("db", "migrate")
    put_connections()
    airflow("pools", "set", POOL, ENV["WAN_POOL_SLOTS"], "Batches of clips at once", "--include-deferred")
    make_bucket()
    print("The installation is prepared.")


if __name__ == "__main__":
    try:
        main()
    except InitError as error:
        sys.exit(f"The installation is not prepared. {error}")
