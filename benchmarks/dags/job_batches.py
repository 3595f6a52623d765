# SPDX-License-Identifier: Apache-2.0
"""The job as one batch: one that defers, and one that stays in its worker."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from benchmarks.job_common import CLIP, OPTIONS, POLL_SECONDS, RETRIES


def _add_batch(deferrable: bool) -> None:
    WanI2VBatchOperator(
        task_id="clips",
        manifest="{{ params.manifest }}",
        output_prefix="{{ params.target }}",
        max_in_flight=1000,
        submits_per_second=10,
        deferrable=deferrable,
        poll_interval=POLL_SECONDS,
        **CLIP,
        **RETRIES,
    )


@dag(schedule=None, **OPTIONS)
def job_batch_deferred() -> None:
    """One task for all, which defers."""
    _add_batch(deferrable=True)


@dag(schedule=None, **OPTIONS)
def job_batch_loop() -> None:
    """One task for all, which stays in its worker."""
    _add_batch(deferrable=False)


job_batch_deferred()
job_batch_loop()
