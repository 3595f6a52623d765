# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.errors import LedgerUnavailableError
from airflow_provider_wan.s3.errors import (
    S3_ERRORS,
    describe_s3_error,
    get_error_code,
    get_http_status,
    is_no_such_key,
    is_not_found,
    is_precondition_failure,
)

SILENT = ConnectTimeoutError(endpoint_url="https://s3.example.com")


def error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )


@pytest.mark.parametrize(
    ("code", "status", "not_found", "no_such_key", "precondition"),
    [
        ("NoSuchKey", 404, True, True, True),
        ("404", 404, True, False, False),  # a HEAD, or a proxy
        ("NotFound", 404, True, False, False),
        ("NoSuchBucket", 404, False, False, False),
        ("PreconditionFailed", 412, False, False, True),
        ("ConditionalRequestConflict", 409, False, False, True),
        ("AccessDenied", 403, False, False, False),
        ("SlowDown", 503, False, False, False),
    ],
)
def test_a_response_is_read_by_its_code_and_status(
    code: str, status: int, not_found: bool, no_such_key: bool, precondition: bool
) -> None:
    response = error(code, status)
    assert (get_error_code(response), get_http_status(response)) == (code, status)
    assert is_not_found(response) is not_found
    assert is_no_such_key(response) is no_such_key
    assert is_precondition_failure(response) is precondition


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        ("RequestTimeTooSkewed", 403, "clock"),
        ("SignatureDoesNotMatch", 403, "secret key"),
        ("InvalidAccessKeyId", 403, "access key"),
        ("ExpiredToken", 400, "session"),
        ("ExpiredToken", 403, "session"),
    ],
)
def test_credentials_that_are_not_accepted_are_not_reported_to_lack_a_permission(
    code: str, status: int, remedy: str
) -> None:
    client = Mock()
    client.get_object.side_effect = error(code, status)
    store = open_store("s3://bucket/ledger", s3_client=lambda: client)
    with pytest.raises(LedgerUnavailableError) as raised:
        store.read("abc")
    for message in (describe_s3_error(error(code, status), "s3://bucket/key"), str(raised.value)):
        assert code in message
        assert remedy in message
        assert "s3:" not in message.replace("s3://", "")


def test_without_a_response_nothing_is_known() -> None:
    assert isinstance(SILENT, S3_ERRORS)
    assert (get_error_code(SILENT), get_http_status(SILENT)) == ("", 0)
    assert not any(decide(SILENT) for decide in (is_not_found, is_no_such_key, is_precondition_failure))
