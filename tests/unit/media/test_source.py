# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.source import (
    MAX_ADDRESS,
    MediaSource,
    Origin,
    SourceMissingError,
    SourceUnavailableError,
    shorten_address,
)

PREFIX = "https://images.example.com/"


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("http://[bad/x.jpg", "must be a URL that can be parsed"),
        ("http://a..b/x.jpg", "must be a URL that can be parsed"),
        (f"http://{'a' * 70}.com/x.jpg", "must be a URL that can be parsed"),
        ("http://h:99999/x.jpg", "must be a URL that can be parsed"),
        ("http:///x.jpg", "must be a URL that can be parsed"),
        ("s3://[bad/x.jpg", "name of a bucket"),
        ("s3://Bad_Bucket!/x.jpg", "name of a bucket"),
        ("x\0.jpg", "control characters"),
        ("s3://b/a\nb.jpg", "control characters"),
        ("s3://b/a\udce9.jpg", "UTF-8"),
        ("data:image/jpeg;base64,QUJD", "must be an address"),
        (f"s3://b/{'a' * MAX_ADDRESS}.jpg", "at most 4096 characters"),
        ("ftp://h/x.jpg", "must be s3://bucket/key"),
    ],
)
def test_what_is_no_address_is_refused_with_a_remedy(address: str, rule: str) -> None:
    with pytest.raises(WanValidationError, match=rule) as raised:
        MediaSource.parse(address)

    assert raised.value.field == "source"
    assert raised.value.remedy
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("address", [f" {PREFIX}a.png", f"{PREFIX}a.png\r\n", "\ts3://b/a.png", "/data/a.png "])
def test_white_space_around_an_address_is_not_a_part_of_it(address: str) -> None:
    assert MediaSource.parse(address).text == address.strip()


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://bücher.example/ä b.png", Origin.WEB),
        ("http://[::1]:8080/x.png", Origin.WEB),
        ("http://my_host/x.png?token=a%20b", Origin.WEB),
        ("s3://my.bucket_1/ä #1?.png", Origin.S3),
        ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint:images/a.png", Origin.S3),
        ("folder/a b://c.png", Origin.FILE),
        ("gs://conn@bucket/a.png", Origin.STORAGE),
    ],
)
def test_unusual_addresses_are_accepted(address: str, origin: Origin) -> None:
    assert MediaSource.parse(address).origin is origin


def test_an_embedded_image_has_a_name_that_fits_into_one_line() -> None:
    source = MediaSource.embed(b"x", "a\nb\0" + "c" * 9000 + ".jpg")

    assert source.text.isprintable()
    assert len(source.text) <= MAX_ADDRESS


def test_a_long_address_is_shortened_in_its_middle_and_is_one_line() -> None:
    short = shorten_address("s3://b/" + "a\n" * 500 + "end.jpg")

    assert short.startswith("s3://b/a a")
    assert short.endswith("end.jpg")
    assert len(short) == 200
    assert shorten_address("s3://b/a.jpg") == "s3://b/a.jpg"


def _s3_error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [
        (_s3_error("NoSuchKey", 404), False),
        (_s3_error("AccessDenied", 403), False),
        (_s3_error("SlowDown", 503), True),
        (EndpointConnectionError(endpoint_url="http://s3"), True),
        (NoCredentialsError(), True),
    ],
    ids=["404", "403", "503", "no connection", "no credentials"],
)
def test_an_s3_that_does_not_answer_is_a_sentence_with_a_remedy_and_no_missing_file(
    error: Exception, is_passing: bool
) -> None:
    client = Mock(get_object=Mock(side_effect=error))

    with pytest.raises(SourceMissingError, match=r"s3://b/a\.png can't be read.*\. (Check|Retry)") as raised:
        MediaSource.parse("s3://b/a.png").read(lambda: client, 100, "source", "")

    assert isinstance(raised.value, SourceUnavailableError) is is_passing
