# SPDX-License-Identifier: Apache-2.0
"""Every day, turn the images of the day before into clips.

Images are at ``s3://<bucket>/images/<day>/``, clips go to ``s3://<bucket>/clips/<day>/<name>.mp4``, each with a record
of how it was made beside it (``.json``). The day is the start of the run's data interval, so a backfill over past days
works like any other run.

The bucket is the Airflow Variable ``wan_bucket`` (``wan-media`` when it is not set), the connections are
``aws_default`` and ``wan_default``. What may differ from run to run is a parameter, to be changed in the trigger form.

An image may have a prompt of its own: a text file beside it (``cat.jpg``, ``cat.txt``).

Unless all tasks run on one machine, set ``[wan] ledger_uri``: there the provider records what it paid for.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.sdk import Param, Variable, dag, get_current_context, task, task_group
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

IMAGE_TYPES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


# [START dag]
@dag(
    # A run at midnight is about the day that has just ended: its data interval.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Earlier days cost money as well: create them on purpose, with "airflow backfill".
    catchup=False,
    max_active_runs=4,
    params={
        "images_prefix": Param(
            "images", type="string", minLength=1, description="Where the images of all days are", section="Files"
        ),
        "clips_prefix": Param(
            "clips", type="string", minLength=1, description="Where the clips of all days go", section="Files"
        ),
        "prompt": Param(
            "The scene comes to life with slow, natural motion; the camera moves in gently.",
            type="string",
            format="multiline",
            maxLength=1500,
            description="For every image that has no prompt of its own",
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
        "max_cost": Param(1.0, type="number", minimum=0, description="US dollars for each clip", section="Clips"),
    },
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_image_to_video() -> None:
    # [END dag]

    # [START find_images]
    @task(retries=2, retry_delay=timedelta(seconds=30))
    def find_images() -> list[dict[str, Any]]:
        """One mapping per image: the arguments of one ``clip`` group. An empty list makes a green run without clips."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        context = get_current_context()
        params = context["params"]
        bucket = Variable.get("wan_bucket", default="wan-media")
        # A run that was triggered without a logical date has no data interval.
        day = f"{context.get('data_interval_start') or context['dag_run'].run_after:%Y-%m-%d}"
        prefix = f"{params['images_prefix']}/{day}/"

        s3 = S3Hook(aws_conn_id="aws_default")
        keys = {PurePosixPath(key) for key in s3.list_keys(bucket_name=bucket, prefix=prefix) or []}
        images = sorted(key for key in keys if key.suffix.lower() in IMAGE_TYPES)
        if len(images) > 1024:
            raise ValueError(
                f"{len(images)} images below s3://{bucket}/{prefix}: a mapped group takes 1024 (max_map_length). "
                "Split the day into several prefixes."
            )
        # Existing clips are skipped: a second run of the day makes only what is missing. To have clips made anew, move
        # the old ones away and start a run.
        done = set(s3.list_keys(bucket_name=bucket, prefix=f"{params['clips_prefix']}/{day}/") or [])
        names = Counter(key.with_suffix("") for key in images)
        found = []
        for key in images:
            # cat.jpg becomes cat.mp4; where there is a cat.png as well, cat.jpg.mp4 and cat.png.mp4.
            name = key.with_suffix("") if names[key.with_suffix("")] == 1 else key
            target = f"{params['clips_prefix']}/{day}/{name.relative_to(prefix)}.mp4"
            if target in done:
                continue
            text = key.with_suffix(".txt")
            prompt = s3.read_key(str(text), bucket).strip() if text in keys else params["prompt"]
            found.append(
                {
                    "source": f"s3://{bucket}/{key}",
                    "fitted": f"s3://{bucket}/fitted/{day}/",
                    "target": f"s3://{bucket}/{target}",
                    "prompt": prompt,
                    "resolution": params["resolution"],
                    "duration": params["duration"],
                    "max_cost": params["max_cost"],
                }
            )
        return found

    # [END find_images]

    # [START group]
    @task_group
    def clip(
        source: str, fitted: str, target: str, prompt: str, resolution: str, duration: int, max_cost: float
    ) -> None:
        """One image. Each group stands alone: an image that fails does not hold back the clips of the others."""
        ingest = S3ToWanOperator(
            task_id="ingest",
            source=source,
            # Too small, too large, turned or transparent images are made to fit; the copy goes here.
            fit="resize",
            dest_prefix=fitted,
            # The API fetches the image when it starts on the clip, which may be hours after the request.
            expires_in=timedelta(hours=6),
            retries=2,
            retry_delay=timedelta(seconds=30),
        )
        generate = WanI2VOperator(
            task_id="generate",
            img_url=ingest.output,
            prompt=prompt,
            resolution=resolution,
            duration=duration,
            max_cost=max_cost,
            deferrable=True,
            timeout=timedelta(hours=2),
            # A retry first looks the clip up in the ledger, and resumes a request that was paid for.
            retries=3,
            retry_delay=timedelta(minutes=1),
            # The limit counts waiting clips too. To share one limit among several Dags, give the task a pool that was
            # made with "include deferred".
            max_active_tis_per_dagrun=64,
        )
        WanToS3Operator(
            task_id="archive",
            request_id=generate.output,
            s3_key=target,
            # The clip is paid for, so many retries are worth it. They only download it, and cost nothing.
            retries=5,
            retry_delay=timedelta(seconds=30),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(minutes=10),
        )

    clip.expand_kwargs(find_images())
    # [END group]


wan_image_to_video()
