# SPDX-License-Identifier: Apache-2.0
"""Responses that are none of S3: of a login page, a proxy, or a server that moves http to https."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.errors import LedgerUnavailableError
from airflow_provider_wan.media.archive import ClipArchive, Presence, StoreError
from airflow_provider_wan.media.fetch import ResultHosts
from airflow_provider_wan.s3.client import refuse_redirects
from airflow_provider_wan.s3.errors import S3_ERRORS, S3ProtocolError
from airflow_provider_wan.s3.multipart import PART_BYTES, ObjectWriter
from dev.testkit.ledger import a_claim

PAGE = b"<html><body>Please log in<br></body></html>"
RESPONSES = pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"content-type": "text/html"}, PAGE),
        (200, {}, b""),
        (204, {}, b""),
        (301, {"location": "https://store.example.com/bucket"}, b""),
        (302, {"location": "https://login.example.com/?state=secret"}, PAGE),
        (307, {}, b""),
    ],
)


class _Raw(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def build_client(status: int, headers: dict[str, str], body: bytes) -> Any:
    def respond(request: Any, **_: Any) -> AWSResponse:
        sent = b"" if request.method == "HEAD" else body
        return AWSResponse(request.url, status, {"content-length": str(len(sent)), **headers}, _Raw(sent))

    config = Config(retries={"total_max_attempts": 1})
    client = boto3.client(
        "s3", aws_access_key_id="id", aws_secret_access_key="key", region_name="eu-west-1", config=config
    )
    client.meta.events.register("before-send.s3", respond)
    refuse_redirects(client)
    return client


@RESPONSES
def test_the_ledger_takes_them_neither_for_an_entry_nor_for_none(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    store = open_store("s3://bucket/ledger", s3_client=lambda: build_client(status, headers, body))
    entry = a_claim()
    calls: list[Callable[[], object]] = [
        lambda: store.read(entry.fingerprint),
        lambda: store.create(entry),
        lambda: store.replace(entry, '"e"'),
        lambda: store.read_document("budgets/one"),
        lambda: list(store.fingerprints()),
        lambda: list(store.entries(modified_since=1.0)),
        store.probe,
    ]
    for call in calls:
        with pytest.raises(LedgerUnavailableError) as raised:
            call()
        assert "secret" not in str(raised.value)


@RESPONSES
def test_the_archive_takes_them_neither_for_a_clip_nor_for_a_proof_that_it_is_gone(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    client = build_client(status, headers, body)
    archive = ClipArchive(client, ResultHosts())
    assert archive.check("s3://bucket/a.mp4", "r1", None).presence is Presence.UNKNOWN
    with pytest.raises(StoreError, match="endpoint_url"):
        archive.find("bucket", "a.mp4", "r1")


@RESPONSES
@pytest.mark.parametrize("size", [1, PART_BYTES + 1])
def test_they_do_not_say_that_an_object_was_written(
    status: int, headers: dict[str, str], body: bytes, size: int
) -> None:
    writer = ObjectWriter(build_client(status, headers, body), "bucket", "a.mp4", content_type="video/mp4", metadata={})
    with pytest.raises(S3_ERRORS, match=r"endpoint_url|\(500\)"):  # noqa: PT012
        writer.write(bytes(size))
        writer.commit({})
    writer.abort()


def test_a_redirect_names_the_address_without_its_query() -> None:
    client = build_client(302, {"location": "https://login.example.com/in?state=secret"}, PAGE)
    with pytest.raises(S3ProtocolError, match=r"redirect to https://login\.example\.com/in, which names no region"):
        client.get_object(Bucket="bucket", Key="key")
