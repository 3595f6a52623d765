# SPDX-License-Identifier: Apache-2.0
"""Dags of the load test: thousands of clips that are in flight at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=5)}
PARAMS = {"image": Param(type="string"), "count": Param(100, type="integer"), "prefix": Param(type="string")}


@dag(schedule=None, params=PARAMS, max_active_tasks=2000)
def load_mapped() -> None:
    """A task for each clip."""

    @task(**RETRIES)
    def clips() -> list[dict[str, str]]:
        params = get_current_context()["params"]
        return [
            {"prompt": f"mapped {number}", "target": f"{params['prefix']}/{number}.mp4"}
            for number in range(params["count"])
        ]

    WanImageToVideoOperator.partial(
        task_id="clip",
        source="{{ params.image }}",
        resolution="720P",
        deferrable=True,
        timeout=timedelta(hours=2),
        **RETRIES,
    ).expand_kwargs(clips())


@dag(schedule=None, params=PARAMS | {"batches": Param(4, type="integer")}, max_active_tasks=2000)
def load_batches() -> None:
    """A task for each of several hundred clips."""

    @task(**RETRIES)
    def batches() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        return [
            {
                "output_prefix": f"{params['prefix']}/{batch}/",
                "manifest": [
                    {"image": params["image"], "name": f"{row}", "prompt": f"batch {batch} {row}"}
                    for row in range(params["count"])
                ],
            }
            for batch in range(params["batches"])
        ]

    WanI2VBatchOperator.partial(
        task_id="clips",
        resolution="720P",
        max_in_flight=1000,
        submits_per_second=50,
        deferrable=True,
        timeout=timedelta(hours=2),
        **RETRIES,
    ).expand_kwargs(batches())


load_mapped()
load_batches()
