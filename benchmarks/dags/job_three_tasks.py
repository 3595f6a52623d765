# SPDX-License-Identifier: Apache-2.0
"""The job as three mapped tasks for a clip."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task, task_group

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
from benchmarks.job_common import CLIP, OPTIONS, POLL_SECONDS, RETRIES, list_clips


@dag(schedule=None, **OPTIONS)
def job_three_tasks() -> None:
    """Three mapped tasks for a clip."""

    @task_group
    def clip(source: str, target: str) -> None:
        ingested = S3ToWanOperator(task_id="ingest", source=source, **RETRIES)
        ingested_image: Any = ingested.output
        generated = WanI2VOperator(
            task_id="generate",
            img_url=ingested_image,
            deferrable=True,
            poll_interval=POLL_SECONDS,
            **CLIP,
            **RETRIES,
        )
        generated_clip: Any = generated.output
        WanToS3Operator(task_id="archive", s3_key=target, request_id=generated_clip, **RETRIES)

    clip.expand_kwargs(task(list_clips)())


job_three_tasks()
