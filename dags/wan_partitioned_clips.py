# SPDX-License-Identifier: Apache-2.0
"""Make the clips of each day as a partition, and start a run for each partition that is complete.

Airflow 3.2 and newer have partitions: a run has a partition key, here the day, and so has the asset event that it
emits. ``wan_partitioned_report`` runs once for each day whose clips are there. An older Airflow finds no Dag here.

Images are at ``s3://<bucket>/images/<day>/``. The bucket is the Airflow Variable ``wan_bucket`` (``wan-media`` when it
is not set), the connections are ``aws_default`` and ``wan_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, dag, get_current_context, task

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

try:
    from airflow.sdk import CronPartitionTimetable, PartitionedAssetTimetable
except ImportError:
    HAS_PARTITIONS = False
else:
    HAS_PARTITIONS = True

BUCKET = "{{ var.value.get('wan_bucket', 'wan-media') }}"
CLIPS = Asset("wan_partitioned_clips")

if HAS_PARTITIONS:
    # [START partitions]
    @dag(
        # The run after midnight makes the day before.
        schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags=["wan", "example"],
        doc_md=__doc__,
    )
    def wan_partitioned_clips() -> None:
        WanI2VBatchOperator(
            task_id="clips",
            manifest=f"s3://{BUCKET}/images/{{{{ dag_run.partition_key }}}}/",
            output_prefix=f"s3://{BUCKET}/clips/{{{{ dag_run.partition_key }}}}/",
            prompt="The scene comes to life with slow, natural motion.",
            resolution="720P",
            max_cost=100.0,
            deferrable=True,
            retries=3,
            retry_delay=timedelta(minutes=1),
            # The event has the run's partition key, and the summary of the batch in its extra.
            outlets=[CLIPS],
        )

    @dag(schedule=PartitionedAssetTimetable(assets=CLIPS), catchup=False, tags=["wan", "example"])
    def wan_partitioned_report() -> None:
        @task
        def report() -> str:
            context = get_current_context()
            run: Any = context["dag_run"]
            events = [event for events in context["triggering_asset_events"].values() for event in events]
            cost = sum(event.extra["wan"]["cost"] for event in events)
            return f"{run.partition_key}: ${cost:.2f}"

        report()

    # [END partitions]

    wan_partitioned_clips()
    wan_partitioned_report()
