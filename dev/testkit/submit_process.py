# SPDX-License-Identifier: Apache-2.0
"""One worker process: submits a clip, waits until it is made, prints the result as one line of JSON.

``python -m dev.testkit.submit_process LEDGER_URI BASE_URL API_KEY TASK TRY_NUMBER``
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from dataclasses import replace
from typing import Any

from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.ledger import Owner, Submitter, compute_fingerprint, open_store
from dev.testkit.ledger import QUICK_POLICY

REQUEST = I2VRequest(img_url="https://images.example.com/cat.png", prompt="a cat", resolution="720P")


def s3_client() -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        aws_access_key_id=os.environ["S3_KEY"],
        aws_secret_access_key=os.environ["S3_SECRET"],
        region_name="us-east-1",
    )


def main(ledger: str, base_url: str, key: str, task: str, try_number: str) -> None:
    client = WanClient(WanConfig(api_key=key, base_url=base_url))
    policy = replace(QUICK_POLICY, lease=6.0, claim_poll_interval=0.1)
    submitter = Submitter(client, open_store(ledger, s3_client=s3_client), policy=policy)
    print("ready", flush=True)
    sys.stdin.readline()
    fingerprint = compute_fingerprint(REQUEST)
    result = submitter.submit_once(
        REQUEST,
        fingerprint=fingerprint,
        owner=Owner(task, int(try_number), uuid.uuid4().hex),
        deadline=time.time() + 60,
    )
    record = result.record
    while record is not None and not record.status.is_terminal:
        time.sleep(0.1)
        record = client.get_request(record.request_id)
    if record is not None:
        submitter.ledger.record_result(fingerprint, record)
    print(json.dumps({"request_id": result.entry.request_id, "paid_now": result.paid_now}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
