# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator


@pytest.mark.parametrize(
    ("clip_duration", "message"),
    [
        ("soon", "clip_duration='soon': must be the clip's seconds"),
        ([5], r"clip_duration=\[5\]: must be the clip's seconds"),
        ("None", "there.png can't be read"),
        ("", "there.png can't be read"),
        (None, "there.png can't be read"),
        ("5", "there.png can't be read"),
    ],
)
def test_a_clip_duration_that_is_no_number_is_refused_in_words_and_one_without_a_value_is_unset(
    tmp_path: Path, clip_duration: Any, message: str
) -> None:
    source = str(tmp_path / "nothing-there.png")
    operator = S3ToWanOperator(
        task_id="ingest", source=source, dest_prefix="s3://bucket/copies/", clip_duration=clip_duration
    )
    with pytest.raises(Exception, match=message) as refused:
        operator.execute({})
    assert isinstance(refused.value, AirflowFailException) is ("seconds" in message)


def test_a_lifetime_or_a_prefix_of_another_type_is_refused_in_words(tmp_path: Path) -> None:
    prefix: Any = 5
    with pytest.raises(WanValidationError, match="expires_in='3600': must be a timedelta or a number"):
        S3ToWanOperator(task_id="ingest", source="s3://b/a.png", expires_in="3600")  # type: ignore[arg-type]
    with pytest.raises(AirflowFailException, match="dest_prefix"):
        S3ToWanOperator(task_id="ingest", source="s3://b/a.png", dest_prefix=prefix).execute({})
