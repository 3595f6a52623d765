# SPDX-License-Identifier: Apache-2.0
"""Start a run whenever new images arrive.

Images are put into ``s3://<bucket>/incoming/``. A run waits for the first one, makes a clip of each that is there, and
moves the images to ``s3://<bucket>/done/``, or to ``s3://<bucket>/failed/`` if they were rejected or their requests
failed; then the next run waits. What is in ``incoming`` is what is to be done. To try a failed image again, move it
back. The sensor takes a worker for a moment a minute.

The bucket is the Airflow Variable ``wan_bucket`` (``wan-media`` when it is not set), the connections are
``aws_default`` and ``wan_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import Variable, dag, task

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

BUCKET = "{{ var.value.get('wan_bucket', 'wan-media') }}"


# [START dag]
@dag(
    # One run after the other, for as long as the Dag is not paused.
    schedule="@continuous",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    catchup=False,
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_new_images() -> None:
    def has_image(files: list[dict[str, Any]], **context: Any) -> bool:
        from airflow_provider_wan.batch.manifest import is_image

        return any(is_image(PurePosixPath(each["Key"])) for each in files)

    new_images = S3KeySensor(
        task_id="new_images",
        bucket_key=f"s3://{BUCKET}/incoming/*",
        wildcard_match=True,
        check_fn=has_image,
        mode="reschedule",
        poke_interval=timedelta(minutes=1),
        timeout=timedelta(days=1),
        # A day without images ends the run, and the next one waits.
        soft_fail=True,
    )
    clips = WanI2VBatchOperator(
        task_id="clips",
        manifest=f"s3://{BUCKET}/incoming/",
        output_prefix=f"s3://{BUCKET}/clips/incoming/",
        prompt="The scene comes to life with slow, natural motion.",
        resolution="720P",
        max_cost=10.0,
        # An image that is there twice, or again after a failure of the move, is paid for once.
        reuse="content",
        ledger_uri=f"s3://{BUCKET}/clips/ledger",
        max_failed_fraction=1.0,
        deferrable=True,
        retries=3,
        retry_delay=timedelta(minutes=1),
    )

    @task(retries=3)
    def move(summary: dict[str, Any]) -> list[str]:
        """Move the images that are done and those that failed. The next run waits for the others again."""
        import json

        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        s3, bucket = S3Hook(aws_conn_id="aws_default"), Variable.get("wan_bucket", default="wan-media")
        key = summary["results"].removeprefix(f"s3://{bucket}/")
        rows = [json.loads(line) for line in s3.read_key(key, bucket).split("\n") if line]
        folders = {"archived": "done/", "duplicate": "done/", "rejected": "failed/", "failed": "failed/"}
        moved = {row["image"]: folders[row["status"]] for row in rows if row["status"] in folders}
        for source, folder in sorted(moved.items()):
            image = source.removeprefix(f"s3://{bucket}/")
            s3.copy_object(image, image.replace("incoming/", folder, 1), bucket, bucket)
            s3.delete_objects(bucket, image)
        return sorted(moved)

    new_images >> clips
    move(clips.output)


# [END dag]


wan_new_images()
