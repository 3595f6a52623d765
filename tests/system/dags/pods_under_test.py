# SPDX-License-Identifier: Apache-2.0
"""A clip that is waited for in the task's own process, which may be evicted."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator

PARAMS = {"image": Param(type="string"), "target": Param("", type="string"), "prompt": Param("", type="string")}


@dag(schedule=None, params=PARAMS)
def evicted_clip() -> None:
    ingest = S3ToWanOperator(task_id="ingest", source="{{ params.image }}")
    WanI2VOperator(
        task_id="generate",
        img_url=ingest.output,
        prompt="{{ params.prompt }}",
        resolution="720P",
        ledger_uri="s3://wan-media/ledger-of-pods",
        deferrable=False,
        poll_interval=1,
        timeout=timedelta(minutes=5),
        retries=3,
        retry_delay=timedelta(seconds=1),
    )


evicted_clip()
