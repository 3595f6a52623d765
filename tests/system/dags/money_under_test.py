# SPDX-License-Identifier: Apache-2.0
"""Dags of the system tests about money: many clips at once, while processes die."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task, task_group

from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

# Retries are immediate, and suffice for every kill.
TENACIOUS: dict[str, Any] = {"retries": 60, "retry_delay": timedelta(seconds=1)}
PARAMS = {
    "image": Param(type="string"),
    "count": Param(12, type="integer"),
    "prefix": Param("s3://wan-media/many", type="string"),
}


@task(**TENACIOUS)
def plan() -> list[dict[str, Any]]:
    params = get_current_context()["params"]
    return [{"prompt": f"clip {n}", "target": f"{params['prefix']}/{n}.mp4"} for n in range(params["count"])]


@dag(schedule=None, params=PARAMS, max_active_tasks=64)
def many_clips() -> None:
    """Make and archive clips while processes die."""

    @task_group
    def clip(prompt: str, target: str) -> None:
        made = WanI2VOperator(
            task_id="generate",
            wan_conn_id="wan_money",
            img_url="{{ params.image }}",
            prompt=prompt,
            resolution="720P",
            ledger_uri="s3://wan-media/ledger-of-many",
            deferrable=True,
            poll_interval=2,
            timeout=timedelta(minutes=20),
            **TENACIOUS,
        )
        WanToS3Operator(task_id="archive", wan_conn_id="wan_money", request_id=made.output, s3_key=target, **TENACIOUS)

    clip.expand_kwargs(plan())


@dag(schedule=None, params=PARAMS, max_active_tasks=64)
def quick_clips() -> None:
    """Clips that are done about as soon as their tasks are deferred. No task is tried twice."""

    @task
    def prompts() -> list[str]:
        return [f"clip {n}" for n in range(get_current_context()["params"]["count"])]

    WanI2VOperator.partial(
        task_id="generate",
        wan_conn_id="wan_money",
        img_url="{{ params.image }}",
        resolution="720P",
        ledger_uri="s3://wan-media/ledger-of-quick",
        deferrable=True,
        poll_interval=1,
        timeout=timedelta(minutes=5),
    ).expand(prompt=prompts())


@dag(schedule=None, params={"manifest": Param(type="string"), "output": Param(type="string")})
def batch_of_clips() -> None:
    """Run a batch while processes die."""
    WanI2VBatchOperator(
        task_id="clips",
        wan_conn_id="wan_money",
        manifest="{{ params.manifest }}",
        output_prefix="{{ params.output }}",
        resolution="720P",
        max_in_flight=8,
        submits_per_second=20,
        poll_interval=2,
        deferrable=True,
        timeout=timedelta(minutes=20),
        **TENACIOUS,
    )


@dag(schedule=None, params={"image": Param(type="string"), "output": Param(type="string")}, max_active_tasks=64)
def limited_clips() -> None:
    """Batches and single clips that share one limit of requests in flight."""

    @task
    def batches() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        return [
            {
                "output_prefix": f"{params['output']}{batch}/",
                "manifest": [
                    {"image": params["image"], "name": f"{row}", "prompt": f"batch {batch} row {row}"}
                    for row in range(4)
                ],
            }
            for batch in range(2)
        ]

    WanI2VBatchOperator.partial(
        task_id="batch",
        wan_conn_id="wan_money",
        resolution="720P",
        max_in_flight=2,
        poll_interval=1,
        deferrable=True,
        pool="wan_account",
        pool_slots=2,
        timeout=timedelta(minutes=5),
    ).expand_kwargs(batches())
    WanImageToVideoOperator.partial(
        task_id="single",
        wan_conn_id="wan_money",
        source="{{ params.image }}",
        resolution="720P",
        ledger_uri="s3://wan-media/ledger-of-limited",
        deferrable=True,
        poll_interval=1,
        pool="wan_account",
        timeout=timedelta(minutes=5),
    ).expand_kwargs(
        [{"prompt": f"single {number}", "target": f"s3://wan-media/limited/single/{number}.mp4"} for number in range(2)]
    )


many_clips()
quick_clips()
batch_of_clips()
limited_clips()
