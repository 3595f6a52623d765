# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.ledger.failures import is_permanent


@pytest.mark.parametrize(
    "error",
    [
        None,
        "rate limit exceeded(RPM)",
        "Upstream capacity temporarily exhausted",
        "Video generation failed: internal inference error",
        "InternalError · Video generation failed: internal inference error",
        "context deadline exceeded",
        "the request timed out",
        "something never heard of",
        "Failed to download media",
    ],
)
def test_what_passes_may_be_tried_again(error: str | None) -> None:
    assert not is_permanent(error)


@pytest.mark.parametrize(
    "error",
    [
        "DataInspectionFailed: Input data may contain inappropriate content.",
        "The content was rejected by the safety policy",
        "violation of our content policy",
        "InvalidParameter · the image cannot be used",
        "Image size is too large",
        "unsupported image format",
        "API request failed with status 400",
        "duration must be one of 5, 10, 15",
    ],
)
def test_what_would_fail_again_is_permanent(error: str) -> None:
    assert is_permanent(error)


def test_media_that_can_not_be_downloaded_twice_is_permanent() -> None:
    error = "Failed to download media"
    assert not is_permanent(error, ["rate limit exceeded(RPM)", None])
    assert is_permanent(error, [error])
