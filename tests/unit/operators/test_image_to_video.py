# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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
