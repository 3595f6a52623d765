# SPDX-License-Identifier: Apache-2.0
r"""Every day, turn the images of the day before into clips: one task a day, however many images it has.

Images are at ``s3://<bucket>/datasets/images/<day>/``, clips go to ``s3://<bucket>/datasets/clips/<day>/``, with the
results (``results.jsonl``), what was rejected and why (``rejected.jsonl``) and a contact sheet below ``_batch/``.

Past days are made on purpose, and the days may share images: with ``reuse="content"`` each distinct image is paid for
once, whichever day asks first, and doing a day again costs nothing::

    airflow pools set wan_clips 3 "Batches of clips at once" --include-deferred
    airflow backfill create --dag-id wan_dataset_backfill --max-active-runs 3 \
        --from-date 2026-01-01 --to-date 2026-01-14

The bucket is the Airflow Variable ``wan_bucket`` (``wan-media`` when it is not set), the connections are
``aws_default`` and ``wan_default``. The pool has to exist; ``--include-deferred`` makes a batch that waits count.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import AssetAlias, Param, dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

BUCKET = "{{ var.value.get('wan_bucket', 'wan-media') }}"
# A run that was triggered without a logical date has no data interval.
DAY = "{{ data_interval_start | default(dag_run.run_after, true) | ds }}"


# [START dag]
@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Earlier days cost money as well: create them on purpose, with "airflow backfill".
    catchup=False,
    max_active_runs=3,
    params={
        "prompt": Param(
            "The scene comes to life with slow, natural motion; the camera moves in gently.",
            type="string",
            format="multiline",
            maxLength=1500,
            description="For every image of the day",
            section="Clips",
        ),
        "resolution": Param(
            "720P",
            type="string",
            enum=["720P", "1080P"],
            values_display={"720P": "720P, $0.10 a second", "1080P": "1080P, $0.15 a second"},
            section="Clips",
        ),
        "duration": Param(5, type="integer", enum=[5, 10, 15], description="Seconds of each clip", section="Clips"),
        "max_cost": Param(100.0, type="number", minimum=0, description="US dollars for each day", section="Cost"),
        "dry_run": Param(False, type="boolean", description="Only estimate the cost", section="Cost"),
    },
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_dataset_backfill() -> None:
    # [END dag]

    # [START batch]
    WanI2VBatchOperator(
        task_id="clips",
        # Every image below the prefix; a day without images is a green run without clips.
        manifest=f"s3://{BUCKET}/datasets/images/{DAY}/",
        output_prefix=f"s3://{BUCKET}/datasets/clips/{DAY}/",
        # All days, and all Dags that use it, share this ledger.
        ledger_uri=f"s3://{BUCKET}/datasets/ledger",
        reuse="content",
        prompt="{{ params.prompt }}",
        resolution="{{ params.resolution }}",
        duration="{{ params.duration }}",
        max_cost="{{ params.max_cost }}",
        dry_run="{{ params.dry_run }}",
        max_failed_fraction=0.05,
        max_in_flight=40,
        deferrable=True,
        timeout=timedelta(hours=12),
        # A retry continues from the checkpoint: it tries failed rows again, and no others.
        retries=3,
        retry_delay=timedelta(minutes=1),
        pool="wan_clips",
        # The prefix is known only at run time: each day becomes its own asset, with events under this alias.
        outlets=[AssetAlias("wan_dataset_clips")],
    )
    # [END batch]


wan_dataset_backfill()
