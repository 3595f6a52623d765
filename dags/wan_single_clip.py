# SPDX-License-Identifier: Apache-2.0
"""One clip from one image, with everything that the API offers as a field of the trigger form."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator


# [START dag]
@dag(
    schedule=None,
    params={
        "image": Param(
            type="string",
            minLength=1,
            description="s3://bucket/key, or an http(s) address",
            pattern="^(s3|https?)://",
            examples=["s3://my-bucket/photos/cat.jpg"],
            section="Files",
        ),
        "target": Param(
            type="string",
            pattern=r"^s3://[^/]+/.+\.mp4$",
            description="Where the clip goes: s3://bucket/key.mp4",
            examples=["s3://my-bucket/clips/cat.mp4"],
            section="Files",
        ),
        "prompt": Param(
            None,
            type=["null", "string"],
            format="multiline",
            maxLength=1500,
            description="What happens in the clip; at most 1500 characters",
            section="Scene",
        ),
        "negative_prompt": Param(
            None,
            type=["null", "string"],
            format="multiline",
            maxLength=500,
            description="What should not be seen; at most 500 characters",
            section="Scene",
        ),
        "shot_type": Param(
            "single", type="string", enum=["single", "multi"], description="One shot, or several", section="Scene"
        ),
        "prompt_extend": Param(
            True, type="boolean", description="Let the service elaborate the prompt", section="Scene"
        ),
        "resolution": Param(
            "720P",
            type="string",
            enum=["720P", "1080P"],
            values_display={"720P": "720P, $0.10 a second", "1080P": "1080P, $0.15 a second"},
            description="List prices; prices of the task or of [wan] replace them",
            section="Video and cost",
        ),
        "duration": Param(
            5, type="integer", enum=[5, 10, 15], description="Seconds of video", section="Video and cost"
        ),
        "max_cost": Param(
            None,
            type=["null", "number"],
            minimum=0,
            description="US dollars: a clip that would cost more is refused before it is paid for",
            section="Video and cost",
        ),
        "audio": Param(True, type="boolean", description="Let the service add sound", section="More"),
        "watermark": Param(False, type="boolean", description="Add the service's watermark", section="More"),
        "seed": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=2**31 - 1,
            description="The same seed gives a similar clip; empty: a random one",
            section="More",
        ),
    },
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_single_clip() -> None:
    # [END dag]

    # [START typed]
    # A task's output keeps its type. A template such as "{{ params.duration }}" works too: its text is parsed.
    @task(multiple_outputs=True)
    def form() -> dict[str, Any]:
        params = get_current_context()["params"]
        # An empty field is None.
        texts = {name: params[name] or "" for name in ("prompt", "negative_prompt")}
        return {**params, **texts, "fitted": f"{params['target'].rpartition('/')[0]}/"}

    given = form()
    # [END typed]

    # [START chain]
    ingest = S3ToWanOperator(
        task_id="ingest",
        source=given["image"],
        fit="resize",
        dest_prefix=given["fitted"],
        expires_in=timedelta(hours=6),
    )
    # A retry first looks the clip up in the ledger, and resumes a request that was paid for.
    generate = WanI2VOperator(
        task_id="generate",
        img_url=ingest.output,
        prompt=given["prompt"],
        negative_prompt=given["negative_prompt"],
        resolution=given["resolution"],
        duration=given["duration"],
        shot_type=given["shot_type"],
        prompt_extend=given["prompt_extend"],
        audio=given["audio"],
        watermark=given["watermark"],
        seed=given["seed"],
        max_cost=given["max_cost"],
        deferrable=True,
        timeout=timedelta(hours=2),
        retries=3,
        retry_delay=timedelta(minutes=1),
    )
    WanToS3Operator(
        task_id="archive",
        request_id=generate.output,
        s3_key=given["target"],
        retries=5,
        retry_delay=timedelta(seconds=30),
        retry_exponential_backoff=True,
    )
    # [END chain]


wan_single_clip()
