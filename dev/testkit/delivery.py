# SPDX-License-Identifier: Apache-2.0
"""Compare a clip in the bucket with its request, by what the sandbox received and rendered."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import requests

from airflow_provider_wan.s3.uri import split_s3_uri
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.s3_folder import Folder


def check_delivered(sandbox: SandboxServer, folder: Folder, archive_uri: str, **asked: Any) -> None:
    """Fail unless the clip at a URI is the one that was requested.

    The request that the clip's record names must have been received with these values, its result as the sandbox serves
    it must be the very bytes in the bucket, and the record must say the same.

    :param sandbox: the service.
    :param folder: a folder of the bucket.
    :param archive_uri: the reported URI of the clip.
    :param asked: requested fields of the payload, with their values.
    """
    bucket, key = split_s3_uri(archive_uri)
    stored = folder.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    record = json.loads(folder.client.get_object(Bucket=bucket, Key=key.removesuffix(".mp4") + ".json")["Body"].read())
    request_id = record["request_id"]
    received = {each["request_id"]: each["payload"] for each in sandbox.accepted()}
    assert request_id in received, f"{archive_uri} is of request {request_id}, which the service never accepted"
    payload = received[request_id]
    for name, value in asked.items():
        assert payload.get(name) == value, f"{archive_uri} was made with {name}={payload.get(name)!r}, not {value!r}"
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    answer = requests.get(f"{sandbox.base_url}/requests/{request_id}", headers=headers, timeout=10).json()
    made = requests.get(answer["outcome"]["media_urls"][0]["url"], timeout=10).content
    assert hashlib.sha256(made).digest() == hashlib.sha256(stored).digest(), f"{archive_uri} has other bytes"
    assert record["sha256"] == hashlib.sha256(stored).hexdigest()
    assert record["parameters"].get("duration") == payload.get("duration")
