# SPDX-License-Identifier: Apache-2.0
"""No secret of a URL survives redaction."""

from __future__ import annotations

import pytest

from airflow_provider_wan.api.redaction import public_url, redact, redact_value, strip_query, url_query

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
