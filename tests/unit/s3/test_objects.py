# SPDX-License-Identifier: Apache-2.0
"""Lists as stores write them, read by a real client."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.errors import LedgerUnavailableError
from airflow_provider_wan.s3.errors import S3_ERRORS, S3ProtocolError, describe_s3_error
from airflow_provider_wan.s3.objects import list_first_page, list_objects

KEYS = [f"ledger/{number:04x}.json" for number in range(0, 65536, 13000)]


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> list[bytes]:
        return [self._data]


def build_client(*, page: int, token: bool) -> Any:
    """Return a client of a store that does not know ``start-after``.

    :param page: objects on a page.
    :param token: whether a page that is not the last one names the next one, as the second version of the list does.
    """

    def respond(request: Any, **_: Any) -> AWSResponse:
        query = parse_qs(urlsplit(request.url).query)
        start = int(query.get("continuation-token", ["0"])[0])
        items = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-28T22:00:00.000Z</LastModified>"
            "<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for key in KEYS[start : start + page]
        )
        more = start + page < len(KEYS)
        following = f"<NextContinuationToken>{start + page}</NextContinuationToken>" if more and token else ""
        head = f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}"
        return AWSResponse(request.url, 200, {}, _Body(f"<ListBucketResult>{head}{items}</ListBucketResult>".encode()))

    client = boto3.client("s3", aws_access_key_id="id", aws_secret_access_key="key", region_name="eu-west-1")
    client.meta.events.register("before-send.s3", respond)
    return client


def test_a_list_is_read_to_its_end_page_by_page() -> None:
    assert [each["Key"] for each in list_objects(build_client(page=2, token=True), "b", "ledger/")] == KEYS


def test_a_store_that_ignores_where_a_list_begins_does_not_repeat_objects() -> None:
    client = build_client(page=2, token=True)
    found = [each["Key"] for each in list_objects(client, "b", "ledger/", after=KEYS[1], until=KEYS[3])]
    assert found == KEYS[2:4]


def test_a_list_that_is_cut_off_without_a_next_page_is_an_error_and_not_the_whole_list() -> None:
    client = build_client(page=4, token=False)
    assert list_first_page(client, "b", "ledger/")[1]
    with pytest.raises(S3_ERRORS) as raised:
        list(list_objects(client, "b", "ledger/"))
    assert isinstance(raised.value, S3ProtocolError)
    assert "ListObjectsV2" in describe_s3_error(raised.value, "s3://b/ledger/")
    store = open_store("s3://b/ledger", s3_client=lambda: client)
    with pytest.raises(LedgerUnavailableError, match=r"can't be listed: .*ListObjectsV2"):
        list(store.fingerprints())
    with pytest.raises(LedgerUnavailableError, match=r"can't be listed: .*ListObjectsV2"):
        list(store.entries(modified_since=1.0))
