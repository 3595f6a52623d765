# SPDX-License-Identifier: Apache-2.0
"""The job of ``benchmarks.job`` in each way: from images on S3 to clips on S3."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import Param, dag, get_current_context, task, task_group

from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

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


@dag(schedule=None, **OPTIONS)
def job_three_tasks() -> None:
    """Three mapped tasks for a clip."""

    @task_group
    def clip(source: str, target: str) -> None:
        ingested = S3ToWanOperator(task_id="ingest", source=source, **RETRIES)
        ingested_image: Any = ingested.output
        generated = WanI2VOperator(
            task_id="generate",
            img_url=ingested_image,
            deferrable=True,
            poll_interval=POLL_SECONDS,
            **CLIP,
            **RETRIES,
        )
        generated_clip: Any = generated.output
        WanToS3Operator(task_id="archive", s3_key=target, request_id=generated_clip, **RETRIES)

    clip.expand_kwargs(task(list_clips)())


@dag(schedule=None, **OPTIONS)
def job_one_task() -> None:
    """One mapped task for a clip."""
    WanImageToVideoOperator.partial(
        task_id="clip", fit="error", deferrable=True, poll_interval=POLL_SECONDS, **CLIP, **RETRIES
    ).expand_kwargs(task(list_clips)())


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


def presign(source: str) -> str:
    """A URL by which the API reads an image."""
    bucket, key = S3Hook.parse_s3_url(source)
    url = S3Hook("aws_default").generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, expires_in=21600)
    return str(url)


def build_body(source: str) -> dict[str, Any]:
    """Body of the paid POST."""
    return {"model": "wan2.6-i2v", "payload": {"img_url": presign(source), **CLIP}}


@dag(schedule=None, **OPTIONS)
def job_stock_operators() -> None:
    """
    HttpOperator, HttpSensor, HttpToS3Operator.

    The sensor can't defer here: its trigger takes any response of 200 for an end, and this API answers 200 at once.
    """

    @task
    def build_requests() -> list[dict[str, str]]:
        clips = list_clips()
        keys = [S3Hook.parse_s3_url(each["target"])[1] for each in clips]
        return [
            {"data": json.dumps(build_body(each["source"])), "key": key} for each, key in zip(clips, keys, strict=True)
        ]

    @task_group
    def clip(data: str, key: str) -> None:
        request: dict[str, Any] = {"http_conn_id": "wan_http", **RETRIES}
        headers = {"Authorization": "Bearer {{ conn.wan_http.password }}", "Content-Type": "application/json"}
        by_id = "requests/{{ ti.xcom_pull(task_ids='clip.submit', map_indexes=ti.map_index) }}"
        submit = HttpOperator(
            task_id="submit",
            endpoint="requests",
            data=data,
            headers=headers,
            response_filter=lambda response: response.json()["request_id"],
            **request,
        )
        wait = HttpSensor(
            task_id="wait",
            endpoint=by_id,
            headers=headers,
            mode="reschedule",
            poke_interval=POLL_SECONDS,
            response_check=lambda response: response.json()["status"] == "success",
            **request,
        )
        locate = HttpOperator(
            task_id="locate",
            endpoint=by_id,
            method="GET",
            headers=headers,
            response_filter=lambda response: urlsplit(response.json()["outcome"]["media_urls"][0]["url"]).path,
            **request,
        )
        archive = HttpToS3Operator(
            task_id="archive",
            http_conn_id="wan_results",
            endpoint="{{ ti.xcom_pull(task_ids='clip.locate', map_indexes=ti.map_index) }}",
            s3_bucket="{{ params.target.split('/')[2] }}",
            s3_key=key,
            replace=True,
            log_response=False,
            **RETRIES,
        )
        submit >> wait >> locate >> archive

    clip.expand_kwargs(build_requests())


@dag(schedule=None, **OPTIONS)
def job_python_task() -> None:
    """A task with requests and sleep."""

    def make(source: str, target: str) -> None:
        import requests
        from airflow.sdk import BaseHook

        connection = BaseHook.get_connection("wan_http")
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {connection.password}"
        answer = session.post(f"{connection.host}/requests", json=build_body(source), timeout=60)
        answer.raise_for_status()
        request_id = answer.json()["request_id"]
        while True:
            time.sleep(POLL_SECONDS)
            record = session.get(f"{connection.host}/requests/{request_id}", timeout=60).json()
            if record["status"] == "success":
                break
        del session.headers["Authorization"]
        video = session.get(record["outcome"]["media_urls"][0]["url"], timeout=300).content
        bucket, key = S3Hook.parse_s3_url(target)
        S3Hook("aws_default").load_bytes(video, key, bucket, replace=True)

    task(make, **RETRIES).expand_kwargs(task(list_clips)())


job_three_tasks()
job_one_task()
job_batch_deferred()
job_batch_loop()
job_stock_operators()
job_python_task()
