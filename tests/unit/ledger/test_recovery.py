# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import (
    Retry,
    WanLookupError,
    WanNotFoundError,
    WanRateLimitError,
    WanResultGoneError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.errors import IllegalTransitionError
from airflow_provider_wan.ledger.messages import lost_clip_message
from airflow_provider_wan.ledger.recovery import LostClipError, build_asked_clip, get_result_again, report_lost_clip
from airflow_provider_wan.media.delivery import AskedClip
from dev.testkit.ledger import NOW, a_claim, a_post

MADE = entries.succeeded(entries.submitted(a_post(), "r1", NOW), NOW)
ARCHIVED = entries.archived(MADE, "s3://b/a.mp4", "aa")
RECORD = RequestRecord("r1", RequestStatus.SUCCESS, "success", video_url="https://host/a.mp4")


def an_api(answer: Any) -> Any:
    def get_request(request_id: str) -> Any:
        assert request_id == "r1"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(get_request=get_request)


def test_the_finished_request_is_returned() -> None:
    assert get_result_again(an_api(RECORD), ARCHIVED) is RECORD


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (WanNotFoundError("HTTP 404"), "the API no longer knows the request: HTTP 404"),
        (replace(RECORD, video_url=None), "the request is 'success', and names no file"),
        (replace(RECORD, status=RequestStatus.FAILED, status_text="failed"), "the request is 'failed'"),
    ],
)
def test_a_request_without_a_file_means_that_the_clip_is_lost(answer: Any, cause: str) -> None:
    with pytest.raises(LostClipError) as caught:
        get_result_again(an_api(answer), ARCHIVED)

    message = str(caught.value)
    assert cause in message
    for words in (
        "is lost: request r1 was paid for ($0.50)",
        "s3://b/a.mp4",
        "Nothing was paid now",
        "idempotency_key",
    ):
        assert words in message
    assert caught.value.retry is Retry.RESUME


def test_an_api_that_can_not_be_asked_now_proves_no_loss() -> None:
    with pytest.raises(WanLookupError, match=r"no longer at s3://b/a.mp4.*HTTP 429.*pays nothing"):
        get_result_again(an_api(WanRateLimitError("HTTP 429")), ARCHIVED)


def test_a_loss_is_reported_once() -> None:
    lost = report_lost_clip(ARCHIVED, WanResultGoneError("host answers 404"))

    assert "Cause: host answers 404" in str(lost)
    assert report_lost_clip(ARCHIVED, lost) is lost


@pytest.mark.parametrize(
    ("changes", "cost"),
    [({}, "$0.50"), ({"cost": None}, "$0.50"), ({"cost": None, "cost_estimate": None}, "an unknown amount")],
)
def test_the_message_names_what_was_paid_as_far_as_it_is_known(changes: dict[str, Any], cost: str) -> None:
    assert f"was paid for ({cost})" in lost_clip_message(replace(ARCHIVED, **changes), "gone")


def test_what_was_asked_for_is_that_of_the_entry() -> None:
    assert build_asked_clip(ARCHIVED) == AskedClip(5.0, "720P", 7)
    assert build_asked_clip(a_claim(drawn=False, seed=9)) == AskedClip(5.0, "720P", 9)
    raw = replace(ARCHIVED, model="kling", resolution="4K", duration=0)
    assert build_asked_clip(raw) == AskedClip(None, None, None)


def test_only_an_archived_clip_is_relocated() -> None:
    moved = entries.relocated(ARCHIVED, "s3://b/b.mp4", "bb")

    assert (moved.state, moved.archive_uri, moved.archive_sha256) == ("archived", "s3://b/b.mp4", "bb")
    with pytest.raises(IllegalTransitionError, match="'relocated' is allowed only from archived"):
        entries.relocated(MADE, "s3://b/b.mp4", "bb")


def test_a_drawn_seed_was_asked_for_where_the_model_echoes_it() -> None:
    assert build_asked_clip(MADE).seed == MADE.seed
    assert build_asked_clip(replace(MADE, model="wan9-x2v")).seed is None
    assert build_asked_clip(replace(MADE, model="wan9-x2v", seed_drawn=False)).seed == MADE.seed
