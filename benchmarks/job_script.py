# SPDX-License-Identifier: Apache-2.0
"""The job of ``benchmarks.job`` as a script with asyncio, outside of Airflow. Its argument is JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import PurePosixPath
from typing import Any

import aiohttp
import boto3


async def make(session: aiohttp.ClientSession, s3: Any, job: dict[str, Any], source: str) -> None:
    """Make one clip."""
    bucket, _, key = source.removeprefix("s3://").partition("/")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=21600)
    headers = {"Authorization": f"Bearer {job['api_key']}"}
    body = {"model": "wan2.6-i2v", "payload": {"img_url": url, **job["clip"]}}
    async with session.post(f"{job['base_url']}/requests", json=body, headers=headers) as answer:
        answer.raise_for_status()
        request_id = (await answer.json())["request_id"]
    while True:
        await asyncio.sleep(job["poll_seconds"])
        async with session.get(f"{job['base_url']}/requests/{request_id}", headers=headers) as answer:
            record = await answer.json()
        if record["status"] == "success":
            break
    async with session.get(record["outcome"]["media_urls"][0]["url"]) as answer:
        video = await answer.read()
    bucket, _, prefix = job["target"].removeprefix("s3://").partition("/")
    name = f"{prefix}{PurePosixPath(key).stem}.mp4"
    await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=name, Body=video, ContentType="video/mp4")


async def make_all(job: dict[str, Any]) -> None:
    """Make all clips at the same time."""
    s3 = boto3.client("s3", **job["s3"])
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(make(session, s3, job, source) for source in job["images"]))


if __name__ == "__main__":
    asyncio.run(make_all(json.loads(sys.argv[1])))
