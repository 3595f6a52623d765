# SPDX-License-Identifier: Apache-2.0
"""Signing needs no server: boto3 computes the URL on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.network import FROM_ENVIRONMENT
from airflow_provider_wan.s3.presign import PresignError, presign, probe_url, validate_lifetime


def client_whose_credentials_die_in(seconds: float | None) -> Any:
    session: Any = boto3.session.Session(aws_access_key_id="AKIA", aws_secret_access_key="key", region_name="eu-west-1")
    if seconds is not None:
        dies = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        fresh = {"access_key": "ASIA", "secret_key": "key", "token": "token", "expiry_time": dies}
        session._session._credentials = RefreshableCredentials.create_from_metadata(
            fresh, refresh_using=lambda: fresh, method="assume-role"
        )
    return session.client("s3", config=Config(signature_version="s3v4"))


def test_a_url_lives_six_hours_by_default_and_names_the_content_type() -> None:
    now = datetime.now(UTC).timestamp()

    signed = presign(client_whose_credentials_die_in(None), "b", "k", content_type="image/png", lifetime=None)

    query = parse_qs(urlsplit(signed.url).query)
    assert query["X-Amz-Expires"] == ["21600"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["response-content-type"] == ["image/png"]
    assert int(now) + 21600 <= signed.expires_at <= datetime.now(UTC).timestamp() + 21600
    assert not signed.shortened
    assert "X-Amz" not in repr(signed)


def test_the_default_lifetime_is_shortened_to_that_of_the_credentials() -> None:
    signed = presign(client_whose_credentials_die_in(3000), "b", "k", content_type="image/png", lifetime=None)
    assert signed.shortened
    assert 2990 <= int(parse_qs(urlsplit(signed.url).query)["X-Amz-Expires"][0]) <= 3000


def test_a_lifetime_that_was_asked_for_and_that_the_credentials_do_not_reach_is_refused() -> None:
    with pytest.raises(WanValidationError, match=r"expire in \d+ s.*delivery=\"upload\""):
        presign(client_whose_credentials_die_in(3000), "b", "k", content_type="image/png", lifetime=3600)


def test_credentials_about_to_die_are_refused_even_for_the_default_lifetime() -> None:
    with pytest.raises(WanValidationError, match="the AWS credentials, and with them the presigned URL, expire"):
        presign(client_whose_credentials_die_in(899), "b", "k", content_type="image/png", lifetime=None)


@pytest.mark.parametrize("seconds", [0, -5, 59, 7 * 86400 + 1])
def test_a_lifetime_that_no_signature_may_have_is_refused(seconds: int) -> None:
    validate_lifetime(7 * 86400)
    with pytest.raises(WanValidationError, match="7 days"):
        validate_lifetime(seconds)


def test_a_url_that_leads_nowhere_is_reported_without_its_signature() -> None:
    with pytest.raises(PresignError) as caught:
        probe_url("http://127.0.0.1:9/b/k?X-Amz-Signature=secret", 5, FROM_ENVIRONMENT)
    assert "secret" not in str(caught.value)
