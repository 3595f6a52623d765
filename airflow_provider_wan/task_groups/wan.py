# SPDX-License-Identifier: Apache-2.0
"""The three steps of a clip as a task group."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import TaskGroup

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator


def image_to_video(
    *,
    source: Any,
    target: Any,
    prompt: Any = "",
    group_id: str = "image_to_video",
    fit: Literal["error", "resize", "pad", "crop"] = "resize",
    dest_prefix: Any = None,
    deferrable: bool = True,
    wan_conn_id: str = "wan_default",
    aws_conn_id: str | None = "aws_default",
    ingest: Mapping[str, Any] | None = None,
    archive: Mapping[str, Any] | None = None,
    **generate: Any,
) -> TaskGroup:
    """Add the tasks ``ingest``, ``generate`` and ``archive`` of one clip to the Dag, each with retries of its own.

    :class:`~airflow_provider_wan.operators.image_to_video.WanImageToVideoOperator` does the same in one task. The
    group shows and retries each step by itself.

    :param source: the image: ``s3://bucket/key``, a path, or an http(s) URL.
    :param target: ``s3://bucket/key.mp4`` of the clip.
    :param prompt: what happens in the clip.
    :param group_id: id of the group.
    :param fit: what to do with an image that violates a rule of the API.
    :param dest_prefix: ``s3://bucket/prefix/`` for copies of images; needed unless ``ingest`` sets
        ``delivery="upload"``.
    :param deferrable: wait in the triggerer.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param aws_conn_id: id of the AWS connection.
    :param ingest: more arguments of :class:`~airflow_provider_wan.transfers.s3_to_wan.S3ToWanOperator`.
    :param archive: more arguments of :class:`~airflow_provider_wan.transfers.wan_to_s3.WanToS3Operator`.
    :param generate: all other arguments are those of :class:`~airflow_provider_wan.operators.wan.WanI2VOperator`.
    :returns: the group.
    """
    shared = {"wan_conn_id": wan_conn_id, "aws_conn_id": aws_conn_id, "retry_delay": timedelta(seconds=30)}
    with TaskGroup(group_id) as group:
        ingested = S3ToWanOperator(
            task_id="ingest",
            **{**shared, "retries": 2, "source": source, "fit": fit, "dest_prefix": dest_prefix, **(ingest or {})},
        )
        arguments = {"img_url": ingested.output, "prompt": prompt, "deferrable": deferrable, "retries": 3, **shared}
        generated = WanI2VOperator(task_id="generate", **{**arguments, **generate})
        # The clip is paid for, so more retries are worth it; they only download it.
        WanToS3Operator(
            task_id="archive",
            **{**shared, "retries": 5, "request_id": generated.output, "s3_key": target, **(archive or {})},
        )
    return group
