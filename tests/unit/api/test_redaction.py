# SPDX-License-Identifier: Apache-2.0
"""No secret of a URL survives redaction."""

from __future__ import annotations

import pytest

from airflow_provider_wan.api.redaction import (
    find_prompts,
    identity_url,
    public_url,
    redact,
    redact_value,
    strip_query,
    url_query,
)

SECRET = "https://me:hunter22@h.example.com/a.png?X-Amz-Signature=c0ffee#c0ffee"


@pytest.mark.parametrize("text", [SECRET, f"got {SECRET}, gave up", f'{{"url": "{SECRET}"}}', "s3://me:hunter22@b/k"])
def test_a_text_keeps_no_query_and_no_password(text: str) -> None:
    redacted = redact(text)
    assert "c0ffee" not in redacted
    assert "hunter22" not in redacted


def test_a_text_is_redacted_before_it_is_cut() -> None:
    assert redact(f"x {SECRET}", 24) == "x https://***@h.example."


def test_nested_values_are_redacted_and_others_kept() -> None:
    value = {"a": [SECRET, 1, None], "b": {"c": SECRET}}
    assert redact_value(value) == {
        "a": ["https://***@h.example.com/a.png", 1, None],
        "b": {"c": "https://***@h.example.com/a.png"},
    }


def test_the_parts_of_a_url() -> None:
    assert public_url(SECRET) == "https://h.example.com/a.png"
    assert strip_query("https://h/a?b#c") == "https://h/a"
    assert url_query("https://h/a?b=c") == "b=c"
    assert url_query("https://h/a") is None
    assert url_query(None) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/a?id=1&X-Amz-Signature=s&X-Amz-Expires=9", "https://h/a?X-Amz-Date=d&X-Amz-Signature=t&id=1"),
        ("https://h/a?X-Goog-Signature=1&X-Goog-Date=2", "https://h/a"),
        ("https://h/a?sv=1&sr=b&se=now&sp=r&sig=x&v=2", "https://h/a?sv=1&sr=b&se=then&sp=r&sig=y&v=2"),
        ("https://h/a?Expires=1&Signature=x&Key-Pair-Id=k&Policy=p", "https://h/a?Expires=2&Signature=y&Key-Pair-Id=k"),
        ("https://h/a?OSSAccessKeyId=k&Expires=1&Signature=2", "https://h/a#top"),
        ("https://h/a?auth_token=1", "https://h/a?auth_token=2"),
        ("https://h/a?ts=1&hmac=x", "https://h/a?ts=2&hmac=y"),
        ("https://h/a?b=2&a=1", "https://h/a?a=1&b=2"),
    ],
)
def test_urls_that_differ_only_in_their_signatures_are_of_one_object(one: str, other: str) -> None:
    assert identity_url(one) == identity_url(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/image?id=1", "https://h/image?id=2"),
        ("https://h/image?id=1", "https://h/image"),
        ("https://h/image?file=a.png&X-Amz-Signature=s", "https://h/image?file=b.png&X-Amz-Signature=s"),
        ("https://h/image?author=x", "https://h/image?author=y"),
        ("https://h/image?design=1", "https://h/image?design=2"),
        ("https://h/image?ts=1", "https://h/image?ts=2"),
        ("https://h/image?7", "https://h/image?8"),
        ("https://h/image?versionId=1", "https://h/image?versionId=2"),
        ("https://h/image?q=caf%C3%A9", "https://h/image?q=cafe"),
    ],
)
def test_urls_that_differ_in_what_is_no_signature_are_of_two_objects(one: str, other: str) -> None:
    assert identity_url(one) != identity_url(other)


def test_no_more_of_a_text_is_searched_than_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # An answer may have megabytes, and the searches take more time than in proportion.
    searched: list[int] = []

    def count(text: str, *_: object) -> str:
        searched.append(len(text))
        return text

    monkeypatch.setattr("airflow_provider_wan.api.redaction._redact_plain", count)
    assert len(redact("http://a" * 100_000, 500)) == 500
    assert max(searched) < 2000


def test_the_texts_of_prompts_are_found_wherever_a_payload_has_them() -> None:
    payload = {
        "input": {"prompt": "one", "seed": 3},
        "prompts": ["two", "three"],
        "shots": [{"Prompt": "four", "duration": 5}, {"text": "five"}],
        "img_url": "https://h/a.png",
    }
    assert set(find_prompts(payload)) == {"one", "two", "three", "four", "five"}
