# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from airflow_provider_wan.api.errors import Paid, WanValidationError
from airflow_provider_wan.api.request import I2VRequest, RawRequest, build_clip_request

URL = "https://images.example.com/cat.jpg"


def test_the_defaults_are_the_documented_ones() -> None:
    assert I2VRequest(img_url=URL).to_payload() == {
        "img_url": URL,
        "prompt": "",
        "negative_prompt": "",
        "resolution": "1080P",
        "duration": 5,
        "prompt_extend": True,
        "shot_type": "single",
        "audio": True,
        "watermark": False,
    }


def test_what_is_set_is_in_the_payload_and_the_model_is_not() -> None:
    request = I2VRequest(URL, audio_url="https://example.com/a.mp3", seed=0, model="wan2.6-i2v-flash")
    payload = request.to_payload()
    assert payload["audio_url"] == "https://example.com/a.mp3"
    assert payload["seed"] == 0
    assert "model" not in payload


def test_a_prompt_is_measured_in_characters_and_not_in_bytes() -> None:
    assert len(I2VRequest(URL, prompt="猫" * 1500).prompt) == 1500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "x" * 1501),
        ("prompt", "half an emoji \ud83d"),
        ("prompt", "NUL \x00 within"),
        ("negative_prompt", "\udc00"),
        ("img_url", "https://example.com/\ud83d.png"),
        ("prompt", None),
        ("prompt", 7),
        ("negative_prompt", "x" * 501),
        ("duration", "5"),
        ("duration", 7),
        ("duration", 5.0),
        ("duration", True),
        ("resolution", "4K"),
        ("resolution", "720p"),
        ("resolution", None),
        ("seed", -1),
        ("seed", 2**31),
        ("seed", "1"),
        ("seed", True),
        ("shot_type", "dual"),
        ("prompt_extend", "true"),
        ("audio", 1),
        ("watermark", None),
        ("model", ""),
        ("img_url", ""),
        ("img_url", None),
        ("img_url", "ftp://example.com/cat.jpg"),
        ("img_url", "s3://bucket/cat.jpg"),
        ("img_url", "cat.jpg"),
        ("img_url", "https://"),
        ("img_url", "https://[broken/cat.jpg"),
        ("img_url", "https://example.com/a cat.jpg"),
        ("img_url", "https://me:secret@example.com/cat.jpg"),
        ("audio_url", "file:///etc/passwd"),
        ("audio_url", ""),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(WanValidationError, match=f"^{field}=") as refused:
        I2VRequest(**{"img_url": URL, field: value})
    assert refused.value.field == field
    assert refused.value.rule
    assert refused.value.paid is Paid.NO
    assert not refused.value.retryable


@pytest.mark.parametrize(("field", "value"), [("seed", 2**31 - 1), ("duration", 15), ("resolution", "720P")])
def test_the_edges_of_what_is_allowed_are_allowed(field: str, value: int | str) -> None:
    arguments: dict[str, Any] = {"img_url": URL, field: value}
    assert getattr(I2VRequest(**arguments), field) == value


def test_a_refused_url_is_shown_without_its_query_and_password() -> None:
    with pytest.raises(WanValidationError) as refused:
        I2VRequest("ftp://example.com/cat.jpg?X-Amz-Signature=c0ffee")
    assert "c0ffee" not in str(refused.value)
    with pytest.raises(WanValidationError) as refused:
        I2VRequest("https://me:hunter22@example.com/cat.jpg")
    assert "hunter22" not in str(refused.value)


def test_a_request_can_not_be_changed_after_it_was_checked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        I2VRequest(URL).duration = 7  # type: ignore[misc]


def test_a_seed_of_its_own_changes_nothing_else() -> None:
    request = I2VRequest(URL, prompt="a cat")
    assert request.with_seed(7).to_payload() == {**request.to_payload(), "seed": 7}


def test_a_refusal_survives_the_way_between_processes() -> None:
    with pytest.raises(WanValidationError) as refused:
        I2VRequest(URL, duration=7)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


@pytest.mark.parametrize("payload", [{"text": "\ud83d"}, {"\x00": 1}, {"deep": [{"a": ["\udc00"]}]}])
def test_a_raw_payload_has_no_text_that_is_no_utf8(payload: dict[str, Any]) -> None:
    with pytest.raises(WanValidationError, match=r"payload.*half an emoji.*Remove"):
        RawRequest("kling-v3", payload)


@pytest.mark.parametrize("value", ["https://images.example.com/end.png?Signature=drawn", "", 5])
def test_a_file_that_the_model_does_not_take_is_refused_whatever_its_value_is(value: Any) -> None:
    with pytest.raises(WanValidationError, match="is not a parameter of") as caught:
        build_clip_request("wan2.6-i2v", {"img_url": "https://images.example.com/cat.png", "last_frame": value})
    assert caught.value.field == "last_frame"
    assert "Signature" not in str(caught.value)
