# SPDX-License-Identifier: Apache-2.0
"""The job with Airflow's own operators."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag, task, task_group

from benchmarks.job_common import OPTIONS, POLL_SECONDS, RETRIES, build_body, list_clips


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


job_stock_operators()
