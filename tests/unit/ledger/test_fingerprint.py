# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.request import Wan27I2VRequest
from airflow_provider_wan.ledger import build_scope, compute_fingerprint
from airflow_provider_wan.ledger.fingerprint import hash_payload, parse_idempotency_key
from dev.testkit.ledger import REQUEST


def test_a_new_presigned_url_is_the_same_clip() -> None:
    again = replace(REQUEST, img_url="https://images.example.com/cat.png?sig=2#x")
    assert compute_fingerprint(again) == compute_fingerprint(REQUEST)


def test_images_that_differ_in_a_query_parameter_are_different_clips() -> None:
    one, two = (replace(REQUEST, img_url=f"https://images.example.com/image?id={n}&Signature=x") for n in (1, 2))
    signed_again = replace(one, img_url="https://images.example.com/image?Signature=y&Expires=3&id=1")
    assert compute_fingerprint(one) != compute_fingerprint(two)
    assert compute_fingerprint(one) == compute_fingerprint(signed_again)
    assert hash_payload(one.to_payload()) != hash_payload(two.to_payload())


def test_the_same_bytes_elsewhere_are_the_same_clip_if_their_hash_is_known() -> None:
    elsewhere = replace(REQUEST, img_url="https://elsewhere.example.com/dog.png")
    assert compute_fingerprint(elsewhere) != compute_fingerprint(REQUEST)
    assert compute_fingerprint(elsewhere, media_sha256={"img_url": "a" * 64}) == compute_fingerprint(
        REQUEST, media_sha256={"img_url": "a" * 64}
    )
    assert compute_fingerprint(REQUEST, media_sha256={"img_url": "b" * 64}) != compute_fingerprint(
        REQUEST, media_sha256={"img_url": "a" * 64}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a dog"},
        {"negative_prompt": "rain"},
        {"audio_url": "https://x.example/a.mp3"},
        {"resolution": "1080P"},
        {"duration": 10},
        {"prompt_extend": False},
        {"shot_type": "multi"},
        {"audio": False},
        {"watermark": True},
        {"seed": 0},
        {"model": "wan2.7-i2v"},
        {"img_url": "https://images.example.com/dog.png"},
    ],
)
def test_any_other_parameter_is_another_clip(change: dict[str, Any]) -> None:
    assert compute_fingerprint(replace(REQUEST, **change)) != compute_fingerprint(REQUEST)


def test_audio_counts_by_its_bytes_like_the_image() -> None:
    one, two = (replace(REQUEST, audio_url=f"https://x.example/{name}.mp3") for name in "ab")
    assert compute_fingerprint(one, media_sha256={"audio_url": "a" * 64}) == compute_fingerprint(
        two, media_sha256={"audio_url": "a" * 64}
    )
    assert compute_fingerprint(one) != compute_fingerprint(two)


def test_every_file_counts_by_its_bytes_if_their_hash_is_known() -> None:
    for argument, field in Wan27I2VRequest.MEDIA_FIELDS.items():
        first: dict[str, Any] = {"first_frame": "https://x.example/i.png"}
        one, two = (Wan27I2VRequest(**{**first, field: f"https://x.example/{name}"}) for name in ("a", "b"))
        digests = {argument: "a" * 64}
        assert compute_fingerprint(one) != compute_fingerprint(two)
        assert compute_fingerprint(one, media_sha256=digests) == compute_fingerprint(two, media_sha256=digests)
        assert compute_fingerprint(one, media_sha256=digests) != compute_fingerprint(
            one, media_sha256={argument: "b" * 64}
        )


def _clip(reuse: str, run: str, key: str | None = None) -> str:
    return compute_fingerprint(REQUEST, scope=build_scope(reuse, run=run), idempotency_key=key)


def test_run_shares_within_a_run_and_content_everywhere() -> None:
    assert _clip("run", "d/1") == _clip("run", "d/1")
    assert _clip("run", "d/1") != _clip("run", "d/2")
    assert _clip("content", "d/1") == _clip("content", "e/2")
    assert _clip("run", "d/1") != _clip("content", "d/1")


def test_each_idempotency_key_is_one_other_clip() -> None:
    assert len({_clip("content", "d/1", key) for key in (None, "take 2", "take 3")}) == 3
    assert _clip("content", "d/1", "take 2") == _clip("content", "e/2", "take 2")
    assert _clip("run", "d/1", "take 2") != _clip("run", "d/2", "take 2")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("None", None),
        ("none", None),
        (" take 2 ", "take 2"),
        (0, "0"),
        (7, "7"),
    ],
)
def test_an_idempotency_key_is_text_and_an_empty_one_is_unset(given: Any, key: str | None) -> None:
    assert parse_idempotency_key(given) == key


@pytest.mark.parametrize("given", [True, False, "True", "false", " TRUE ", 1.5, ["a"], {"a": 1}, b"a", []])
def test_a_value_that_names_no_clip_is_no_idempotency_key(given: Any) -> None:
    with pytest.raises(WanValidationError, match=r"idempotency_key=.*names the clip"):
        parse_idempotency_key(given)


def test_the_fingerprint_of_a_clip_is_stable_across_versions() -> None:
    assert compute_fingerprint(REQUEST) == "e316a004faaae41481cc54629b2187e0e454bd19908771f07432093521808fc7"


@pytest.mark.parametrize("digest", ["", "A" * 64, "a" * 63, "sha256:" + "a" * 64])
def test_an_invalid_hash_is_refused(digest: Any) -> None:
    with pytest.raises(WanValidationError, match="media_sha256"):
        compute_fingerprint(REQUEST, media_sha256={"img_url": digest})


@pytest.mark.parametrize(("reuse", "run"), [("always", "d/1"), ("never", "d/1"), ("run", "")])
def test_a_wrong_reuse_is_refused(reuse: str, run: str) -> None:
    with pytest.raises(WanValidationError, match="reuse"):
        build_scope(reuse, run=run)


def test_a_payload_and_its_echo_have_the_same_hash() -> None:
    sent = REQUEST.with_seed(7).to_payload()
    echo = {**sent, "img_url": sent["img_url"].replace("sig=1", "sig=2"), "audio_url": None, "internal": 1}
    assert hash_payload(echo) == hash_payload(sent)
    assert hash_payload({**sent, "seed": 8}) != hash_payload(sent)


def test_a_payload_of_an_unknown_model_is_identified_by_all_of_it_but_the_signatures_of_its_urls() -> None:
    payload: dict[str, Any] = {
        "image": "https://x.example/cat.png?Signature=1",
        "frames": ["http://x.example/1.png?token=1", {"url": "https://x.example/2.png?Expires=1", "at": 2}],
        "prompt": "see https://x.example/cat.png?Signature=1",
        "audio": None,
    }
    signed_again = {
        **payload,
        "image": "https://x.example/cat.png?Signature=2",
        "frames": ["http://x.example/1.png?token=2", {"url": "https://x.example/2.png?Expires=2", "at": 2}],
    }
    digest = hash_payload(payload, "wan9-x2v")
    assert hash_payload(signed_again, "wan9-x2v") == digest
    for change in (
        {"image": "https://x.example/dog.png"},
        {"frames": payload["frames"][:1]},
        {"frames": [payload["frames"][0], {"url": "https://x.example/2.png", "at": 3}]},
        {"prompt": "see"},
        {"new": 1},
    ):
        assert hash_payload({**payload, **change}, "wan9-x2v") != digest
    assert hash_payload({**payload, "another": None}, "wan9-x2v") == digest
