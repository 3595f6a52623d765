# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from dev.testkit.ledger import a_claim


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://s3.example"),
        ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "HeadObject"),
    ],
    ids=["no connection", "SlowDown"],
)
def test_before_a_payment_an_unreachable_target_is_an_error_that_names_the_remedy(error: Exception) -> None:
    class Unreachable:
        def find_request_id(self, bucket: str, key: str) -> str:
            raise error

    operator: Any = WanImageToVideoOperator(task_id="clip", source="/cat.png", target="s3://clips/cat.mp4")
    operator.__dict__["archive"] = Unreachable()
    with pytest.raises(WanLookupError, match=r"s3://clips/cat\.mp4.*Check.*Nothing was paid"):
        operator._check_claim(a_claim())


@pytest.mark.parametrize(("try_number", "names_remedy"), [(1, False), (2, True)])
def test_a_retry_whose_image_is_gone_says_how_to_get_the_clip_that_may_be_paid_for(
    connection: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    try_number: int,
    names_remedy: bool,
) -> None:
    connection()
    operator = WanImageToVideoOperator(task_id="clip", source=str(tmp_path / "gone.png"), target="s3://clips/cat.mp4")
    context: Any = {"ti": SimpleNamespace(try_number=try_number)}
    with pytest.raises(Exception, match=r"gone\.png can't be read"):
        operator.execute(context)
    assert ("wan-provider harvest" in caplog.text + capsys.readouterr().out) is names_remedy
