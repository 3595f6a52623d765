# SPDX-License-Identifier: Apache-2.0
"""The job as a task with ``requests`` for a clip."""

from __future__ import annotations

import time

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import dag, task

from benchmarks.job_common import OPTIONS, POLL_SECONDS, RETRIES, build_body, list_clips


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


job_python_task()
