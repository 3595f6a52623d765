# SPDX-License-Identifier: Apache-2.0
"""What the Dags of the job have in common. Each has a file of its own, which imports only what its way needs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.sdk import Param, get_current_context

CLIP: dict[str, Any] = {"prompt": "Slow, natural motion", "resolution": "720P", "duration": 5}
POLL_SECONDS = 5.0
RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=5)}
OPTIONS: dict[str, Any] = {
    "max_active_tasks": 1000,
    "params": {
        "images": Param([], type="array", description="s3:// URIs of the images"),
        "manifest": Param("", type="string", description="The same as a manifest"),
        "target": Param("", type="string", description="s3:// prefix of the clips"),
    },
}


def list_clips() -> list[dict[str, str]]:
    """Image and clip, one mapping for each."""
    params = get_current_context()["params"]
    names = [(uri, PurePosixPath(uri).stem) for uri in params["images"]]
    return [{"source": uri, "target": f"{params['target']}{name}.mp4"} for uri, name in names]


def presign(source: str) -> str:
    """A URL by which the API reads an image."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, key = S3Hook.parse_s3_url(source)
    url = S3Hook("aws_default").generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, expires_in=21600)
    return str(url)


def build_body(source: str) -> dict[str, Any]:
    """Body of the paid POST."""
    return {"model": "wan2.6-i2v", "payload": {"img_url": presign(source), **CLIP}}
