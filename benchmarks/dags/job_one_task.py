# SPDX-License-Identifier: Apache-2.0
"""The job as one mapped task for a clip."""

from __future__ import annotations

from airflow.sdk import dag, task

from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from benchmarks.job_common import CLIP, OPTIONS, POLL_SECONDS, RETRIES, list_clips


@dag(schedule=None, **OPTIONS)
def job_one_task() -> None:
    """One mapped task for a clip."""
    WanImageToVideoOperator.partial(
        task_id="clip", fit="error", deferrable=True, poll_interval=POLL_SECONDS, **CLIP, **RETRIES
    ).expand_kwargs(task(list_clips)())


job_one_task()
