# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.s3.uri import build_s3_uri, is_s3_uri, parse_s3_prefix, parse_s3_uri, split_s3_uri


@pytest.mark.parametrize("uri", ["s3://b/a/c.jpg", "S3://b/a/c.jpg", "s3a://b/a/c.jpg", "s3n://b/a/c.jpg"])
def test_every_scheme_of_s3_names_the_same_object(uri: str) -> None:
    assert is_s3_uri(uri)
    assert parse_s3_uri(uri, "source") == split_s3_uri(uri) == ("b", "a/c.jpg")


@pytest.mark.parametrize("value", ["", "s3", "s3:/b/a", "https://b/a", "s3x://b/a", "/s3://b/a", None, 3])
def test_other_values_are_not_uris_of_s3(value: object) -> None:
    assert not is_s3_uri(value)


@pytest.mark.parametrize("uri", ["", "https://b/a", "s3://", "s3://b", "s3://b/", "s3:///a", "b/a", None, 3])
def test_an_object_needs_a_bucket_and_a_key(uri: object) -> None:
    with pytest.raises(WanValidationError, match="source"):
        parse_s3_uri(uri, "source")


@pytest.mark.parametrize("uri", ["", "clips/", "https://b/clips/", "s3://", "s3://b/../c/", None])
def test_a_prefix_needs_a_bucket_and_no_dots(uri: object) -> None:
    with pytest.raises(WanValidationError, match="output_prefix"):
        parse_s3_prefix(uri, "output_prefix")


@pytest.mark.parametrize("bucket", ["[b", "Bad_Bucket!", "a b", " ", "ä"])
def test_what_no_bucket_can_be_named_is_refused(bucket: str) -> None:
    for parse, uri in ((parse_s3_uri, f"s3://{bucket}/a"), (parse_s3_prefix, f"s3://{bucket}/a/")):
        with pytest.raises(WanValidationError, match="name of a bucket"):
            parse(uri, "target")


def test_a_prefix_ends_in_a_slash_or_is_empty() -> None:
    assert parse_s3_prefix("s3://b/a/c", "output_prefix") == ("b", "a/c/")
    assert parse_s3_prefix("s3://b/a/c/", "output_prefix") == ("b", "a/c/")
    assert parse_s3_prefix("s3://b", "output_prefix") == ("b", "")


def test_a_uri_is_built_of_what_it_was_split_into() -> None:
    assert build_s3_uri(*split_s3_uri("s3://b/a b/ä.jpg")) == "s3://b/a b/ä.jpg"
