# SPDX-License-Identifier: Apache-2.0
"""Dags of the system tests: one clip each, with options that the example Dags do not use."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag
from airflow.sdk.definitions.deadline import (  # type: ignore[attr-defined]
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
)

from airflow_provider_wan.notifications.wan import WanRunNotifier
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

LEDGER = "s3://wan-media/ledger-of-tests"
PARAMS = {"image": Param(type="string"), "target": Param("", type="string"), "prompt": Param("", type="string")}


@dag(schedule=None, params=PARAMS)
def blocking_clip() -> None:
    """The same job without a triggerer: the worker waits."""
    ingest = S3ToWanOperator(task_id="ingest", source="{{ params.image }}")
    generate = WanI2VOperator(
        task_id="generate",
        img_url=ingest.output,
        prompt="{{ params.prompt }}",
        resolution="720P",
        ledger_uri=LEDGER,
        deferrable=False,
        poll_interval=1,
        timeout=timedelta(minutes=2),
    )
    WanToS3Operator(task_id="archive", request_id=generate.output, s3_key="{{ params.target }}")


LATE = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=3),
    callback=AsyncCallback(WanRunNotifier, kwargs={"text": "Clips are late"}),
)


@dag(schedule=None, params=PARAMS, deadline=LATE)
def patient_clip() -> None:
    """Waits for half a minute at most, and tries once."""
    ingest = S3ToWanOperator(task_id="ingest", source="{{ params.image }}")
    WanI2VOperator(
        task_id="generate",
        img_url=ingest.output,
        prompt="{{ params.prompt }}",
        resolution="720P",
        ledger_uri=LEDGER,
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(seconds=25),
    )


@dag(schedule=None, params=PARAMS | {"ledger": Param("", type="string")})
def company_clip() -> None:
    """From a bucket to a bucket, in a network and a store with rules of their own."""
    WanImageToVideoOperator(
        task_id="clip",
        source="{{ params.image }}",
        target="{{ params.target }}",
        prompt="{{ params.prompt }}",
        resolution="720P",
        wan_conn_id="wan_company",
        aws_conn_id="aws_company",
        ledger_uri="{{ params.ledger }}",
        s3_options={"ServerSideEncryption": "AES256"},
        result_hosts=["127.0.0.1"],
        max_cost=1.0,
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(minutes=2),
    )


blocking_clip()
company_clip()
patient_clip()
