# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator


@pytest.mark.parametrize("key", [None, 7], ids=["none", "number"])
def test_a_key_that_is_no_text_is_refused_in_words(key: Any) -> None:
    with pytest.raises(AirflowFailException, match=f"s3_key={key}: must be s3://bucket/key.mp4"):
        WanToS3Operator(task_id="archive", request_id="r1", s3_key=key, outlets=[]).execute({})


@pytest.mark.parametrize("limit", ["10", 0], ids=["text", "zero"])
def test_a_size_that_is_no_count_is_refused_before_a_clip_is_downloaded(limit: Any) -> None:
    with pytest.raises(WanValidationError, match="max_bytes"):
        WanToS3Operator(task_id="archive", request_id="r1", s3_key="s3://b/a.mp4", max_bytes=limit)


@pytest.mark.parametrize("bucket", [None, "clips"], ids=["uri", "key"])
def test_a_key_that_is_too_long_with_that_of_its_record_is_refused(bucket: str | None) -> None:
    key = f"{'a/' * 510}.mp4"
    operator = WanToS3Operator(
        task_id="archive", request_id="r1", s3_key=key if bucket else f"s3://clips/{key}", s3_bucket=bucket, outlets=[]
    )
    with pytest.raises(AirflowFailException, match=r"s3_key=.*1024 bytes.*Shorten it"):
        operator.execute({})


@pytest.mark.parametrize("request_id", [None, "None", "", {"request_id": None}])
def test_a_template_without_a_request_is_refused_before_anything_is_asked(request_id: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"request_id=.*must be a request id"):
        WanToS3Operator(task_id="archive", request_id=request_id, s3_key="s3://b/a.mp4", outlets=[]).execute({})
