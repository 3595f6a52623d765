# SPDX-License-Identifier: Apache-2.0
"""Dags of the chaos tests: many clips, made and archived while services die."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task, task_group

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

# Retries come soon, and suffice for every kill.
TENACIOUS: dict[str, Any] = {"retries": 30, "retry_delay": timedelta(seconds=5)}
PARAMS = {"image": Param(type="string"), "count": Param(100, type="integer"), "prefix": Param(type="string")}


@dag(schedule=None, params=PARAMS, max_active_tasks=128)
def chaos_mapped() -> None:
    """A task for each clip."""

    @task(**TENACIOUS)
    def plan() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        return [
            {"prompt": f"mapped {number}", "target": f"{params['prefix']}/{number}.mp4"}
            for number in range(params["count"])
        ]

    ingest = S3ToWanOperator(task_id="ingest", source="{{ params.image }}", **TENACIOUS)

    @task_group
    def clip(prompt: str, target: str) -> None:
        made = WanI2VOperator(
            task_id="generate",
            img_url=ingest.output,
            prompt=prompt,
            resolution="720P",
            deferrable=True,
            poll_interval=5,
            timeout=timedelta(minutes=30),
            **TENACIOUS,
        )
        WanToS3Operator(task_id="archive", request_id=made.output, s3_key=target, **TENACIOUS)

    clip.expand_kwargs(plan())


@dag(schedule=None, params=PARAMS)
def chaos_batch() -> None:
    """One task for all clips."""

    @task(**TENACIOUS)
    def rows() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        return [
            {"image": params["image"], "name": f"{number}", "prompt": f"batch {number}"}
            for number in range(params["count"])
        ]

    WanI2VBatchOperator(
        task_id="clips",
        manifest=rows(),
        output_prefix="{{ params.prefix }}/",
        resolution="720P",
        max_in_flight=40,
        deferrable=True,
        poll_interval=5,
        timeout=timedelta(minutes=30),
        **TENACIOUS,
    )


chaos_mapped()
chaos_batch()
