# SPDX-License-Identifier: Apache-2.0
"""Make clips of some images, let a person review them, and publish those that were approved.

Clips go to ``s3://<bucket>/drafts/<run>/``. The task ``approve`` waits for a person, who finds the clips in the tab
*Clips* of the run and approves or rejects them in *Required Actions*. Approved clips are copied to
``s3://<bucket>/published/<run>/``. A run that is not over after four hours raises an alert.

The bucket is the Airflow Variable ``wan_bucket`` (``wan-media`` when it is not set), the connections are
``aws_default`` and ``wan_default``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

try:
    from airflow.sdk import AsyncCallback
except ImportError:  # before Airflow 3.2
    from airflow.sdk.definitions.deadline import AsyncCallback

from airflow_provider_wan.notifications.wan import WanRunNotifier

BUCKET = "{{ var.value.get('wan_bucket', 'wan-media') }}"


# [START dag]
@dag(
    schedule=None,
    # The callback runs in the triggerer: it must be importable there, so a function of this file does not do.
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=4),
        callback=AsyncCallback(WanRunNotifier, kwargs={"text": "Clips are late"}),
    ),
    params={
        "images": Param(
            type="array",
            items={"type": "string", "pattern": "^(s3|https?)://"},
            minItems=1,
            description="One address on each line: s3://bucket/key or https://…",
            section="Images",
        ),
        "prompt": Param(
            "The scene comes to life with slow, natural motion.",
            type="string",
            format="multiline",
            maxLength=1500,
            description="For all images",
            section="Clips",
        ),
        "max_cost": Param(
            1.0,
            type="number",
            minimum=0,
            description="US dollars for each clip; 5 s in 720P cost $0.50",
            section="Clips",
        ),
    },
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_approved_clips() -> None:
    # [END dag]

    @task
    def list_images() -> list[str]:
        images: list[str] = get_current_context()["params"]["images"]
        return images

    # [START taskflow]
    @task.wan_i2v(
        resolution="720P",
        max_cost="{{ params.max_cost }}",
        deferrable=True,
        retries=3,
        retry_delay=timedelta(minutes=1),
    )
    def clip(image: str, folder: str) -> dict[str, Any]:
        """Return the arguments of the clip. A retry calls this again, so it must return the same."""
        prompt = get_current_context()["params"]["prompt"]
        # The whole path: images of one name in two folders are two clips.
        name = image.partition("://")[2].partition("?")[0]
        return {"source": image, "prompt": prompt, "target": f"{folder}/{name}.mp4"}

    clips = clip.partial(folder=f"s3://{BUCKET}/drafts/{{{{ run_id }}}}").expand(image=list_images())
    # [END taskflow]

    # [START approve]
    approve = ApprovalOperator(
        task_id="approve",
        subject="Publish the clips of {{ run_id }}?",
        body="They are in the tab *Clips* of this run. A rejection leaves them in drafts.",
    )

    @task(on_success_callback=WanRunNotifier(text="Published", task_ids=["clip"]))
    def publish(made: list[dict[str, Any]]) -> list[str]:
        """Copy each clip with its record. The copies cost nothing at the API."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        s3 = S3Hook(aws_conn_id="aws_default")
        published = []
        for each in made:
            for uri in (each["uri"], each["record_uri"]):
                bucket, _, key = uri.removeprefix("s3://").partition("/")
                target = f"published/{key.removeprefix('drafts/')}"
                s3.copy_object(key, target, bucket, bucket)
                published.append(f"s3://{bucket}/{target}")
        return published

    clips >> approve >> publish(clips)
    # [END approve]


wan_approved_clips()
