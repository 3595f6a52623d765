# SPDX-License-Identifier: Apache-2.0
"""Stores and policies that refuse what AWS allows, over a real S3."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.hooks.s3_client import create_s3_client, create_signing_client
from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.errors import LedgerUnavailableError, LedgerUnsafeError
from airflow_provider_wan.media.archive import ClipArchive, StoreError
from airflow_provider_wan.media.fetch import ResultHosts
from airflow_provider_wan.media.image_fit import Fit, FitOptions
from airflow_provider_wan.media.ingest import Delivery, MediaIngester, MediaKind
from airflow_provider_wan.media.source import MediaSource
from airflow_provider_wan.s3.errors import S3ProtocolError
from airflow_provider_wan.s3.multipart import PART_BYTES, ObjectWriter
from airflow_provider_wan.s3.objects import _parse_contents, list_objects
from dev.seaweed import SeaweedFS
from dev.testkit import scripted_server as wire
from dev.testkit.ledger import a_claim
from dev.testkit.media_files import picture
from dev.testkit.result_host import ResultHost, body
from dev.testkit.s3_folder import BUCKET, Folder
from dev.testkit.s3_proxy import S3Proxy
from dev.testkit.scripted_server import WireServer
from tests.integration.test_archive import CLIP, LONG, finished

Connect = Callable[..., None]


@pytest.fixture
def connect(folder: Folder, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Connect:
    def set_up(url: str, **extra: Any) -> None:
        value = {
            "conn_type": "aws",
            "login": seaweed.access_key,
            "password": seaweed.secret_key,
            "extra": {"endpoint_url": url, "region_name": seaweed.region, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(value))

    return set_up


@pytest.mark.parametrize("create", [create_s3_client, create_signing_client])
def test_the_options_of_the_connection_are_on_every_write(
    seaweed: SeaweedFS, connect: Connect, create: Callable[[str], Any]
) -> None:
    required = {"x-amz-storage-class": "STANDARD", "x-amz-tagging": "team=film+one", "x-amz-acl": "private"}
    with S3Proxy(seaweed.port, required=required) as proxy:
        connect(proxy.url, s3_options={"StorageClass": "STANDARD", "Tagging": {"team": "film one"}, "ACL": "private"})
        client = create("aws_default")
        client.put_object(Bucket=BUCKET, Key="stores/put", Body=b"a")
        writer = ObjectWriter(client, BUCKET, "stores/writer", content_type="text/plain", metadata={})
        writer.write(b"b")
        writer.commit({})
        open_store(f"s3://{BUCKET}/stores", s3_client=lambda: client).probe()
        assert proxy.refused == []
        assert len(proxy.writes) >= 4


def test_the_options_of_a_task_go_before_the_deployments_and_those_before_the_connections(
    seaweed: SeaweedFS, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with S3Proxy(seaweed.port) as proxy:
        connect(proxy.url, s3_options={"ACL": "public-read", "Tagging": {"by": "connection"}, "SSEKMSKeyId": "other"})
        monkeypatch.setenv(
            "AIRFLOW__WAN__S3_OPTIONS",
            json.dumps({"ACL": "private", "Tagging": {"by": "deployment"}, "ServerSideEncryption": "AES256"}),
        )
        client = create_s3_client("aws_default", {"Tagging": {"by": "task"}})
        with contextlib.suppress(client.exceptions.ClientError):
            client.put_object(Bucket=BUCKET, Key="stores/layers", Body=b"a")
        written = proxy.writes[-1]
        assert (written["x-amz-acl"], written["x-amz-tagging"]) == ("private", "by=task")
        assert written["x-amz-server-side-encryption"] == "AES256"
        # The key of the connection belongs to an encryption that the deployment replaces.
        assert "x-amz-server-side-encryption-aws-kms-key-id" not in written


def test_an_upload_in_parts_sends_the_checksum_that_it_announces_with_each_part(
    seaweed: SeaweedFS, connect: Connect
) -> None:
    with S3Proxy(seaweed.port) as proxy:
        connect(proxy.url)
        client = create_s3_client("aws_default", {"ChecksumAlgorithm": "SHA256"})
        writer = ObjectWriter(client, BUCKET, "stores/parts", content_type="text/plain", metadata={})
        writer.write(bytes(PART_BYTES + 1))
        writer.commit({})
        announced = [each for each in proxy.seen if each.startswith("POST") and "uploads" in each]
        assert len(announced) == 1
        assert [each.get("x-amz-checksum-sha256", "") != "" for each in proxy.parts] == [True, True]


@pytest.mark.parametrize("text", ["encrypted", "[1]", '{"Acl": "private"}'])
def test_an_invalid_option_of_the_deployment_is_named(
    seaweed: SeaweedFS, connect: Connect, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    connect(seaweed.endpoint_url)
    monkeypatch.setenv("AIRFLOW__WAN__S3_OPTIONS", text)
    with pytest.raises(WanValidationError, match=r"\[wan\] s3_options"):
        create_s3_client("aws_default")


def test_without_the_options_such_a_policy_refuses_and_the_ledger_says_so_before_any_payment(
    seaweed: SeaweedFS, connect: Connect
) -> None:
    with S3Proxy(seaweed.port, required={"x-amz-server-side-encryption": "aws:kms"}) as proxy:
        connect(proxy.url)
        store = open_store(f"s3://{BUCKET}/denied", s3_client=lambda: create_s3_client("aws_default"))
        with pytest.raises(LedgerUnavailableError, match="AccessDenied"):
            store.probe()
        connect(proxy.url, s3_options={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1"})
        client = create_s3_client("aws_default")
        refused = len(proxy.refused)
        with contextlib.suppress(client.exceptions.ClientError):  # this S3 has no KMS
            client.put_object(Bucket=BUCKET, Key="denied/a", Body=b"a")
        assert len(proxy.refused) == refused
        assert proxy.writes[-1]["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"


def test_without_permission_to_list_an_absent_entry_is_named_with_the_remedy(
    seaweed: SeaweedFS, connect: Connect
) -> None:
    with S3Proxy(seaweed.port, may_list=False) as proxy:
        connect(proxy.url)
        store = open_store(f"s3://{BUCKET}/unlisted", s3_client=lambda: create_s3_client("aws_default"))
        with pytest.raises(LedgerUnavailableError, match="s3:ListBucket"):
            store.read("0" * 64)


ENCRYPTED = {"x-amz-server-side-encryption": "AES256"}
OPTIONS = {"ServerSideEncryption": "AES256"}


def open_archive(options: Any = None) -> ClipArchive:
    return ClipArchive(create_s3_client("aws_default", options), ResultHosts(api_base_url="http://127.0.0.1:1/api"))


@pytest.mark.parametrize("data", [CLIP, LONG], ids=["one part", "three parts"])
def test_a_clip_is_archived_encrypted_where_the_credentials_may_not_list(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost, data: bytes
) -> None:
    with S3Proxy(seaweed.port, required=ENCRYPTED, may_list=False) as proxy:
        connect(proxy.url)
        archive, key = open_archive(OPTIONS), folder.key("a.mp4")
        assert archive.find(BUCKET, key, "req-1", forbidden_is_absent=True) is None
        clip = archive.store(finished(host.play(body(data)), "req-1"), BUCKET, key)
        again = archive.find(BUCKET, key, "req-1", forbidden_is_absent=True)
        assert again is not None
        assert (again.sha256, again.existing) == (clip.sha256, True)
        with pytest.raises(WanValidationError, match="holds the clip of request req-1"):
            archive.store(finished(host.play(body(CLIP), path="/b.mp4"), "req-2"), BUCKET, key)
        assert not [each for each in proxy.refused if each.startswith(("PUT", "POST"))]
        assert all(each["x-amz-server-side-encryption"] == "AES256" for each in proxy.writes)
    assert folder.get("a.mp4") == data


def test_a_bucket_that_demands_an_option_is_named_with_the_remedy_after_the_payment(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost
) -> None:
    with S3Proxy(seaweed.port, required=ENCRYPTED) as proxy:
        connect(proxy.url)
        with pytest.raises(StoreError, match=r"AccessDenied.*s3_options.*paid for, and that pays nothing"):
            open_archive().store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))
    assert folder.names() == []


def test_what_may_not_be_read_is_neither_missing_nor_overwritten(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost
) -> None:
    key = folder.key("a.mp4")
    connect(seaweed.endpoint_url)
    open_archive().store(finished(host.play(body(CLIP)), "req-1"), BUCKET, key)
    with S3Proxy(seaweed.port, may_read=False) as proxy:
        connect(proxy.url)
        with pytest.raises(StoreError, match=r"HeadObject.*s3:ListBucket"):
            open_archive().find(BUCKET, key, "req-1")
        with pytest.raises(StoreError, match="s3:GetObject"):
            open_archive().store(finished(host.play(body(LONG), path="/b.mp4"), "req-2"), BUCKET, key)
    assert folder.get("a.mp4") == CLIP


def test_a_store_without_conditional_writes_is_refused_at_once_with_the_remedy(
    seaweed: SeaweedFS, connect: Connect
) -> None:
    with S3Proxy(seaweed.port, conditional=False) as proxy:
        connect(proxy.url)
        store = open_store(f"s3://{BUCKET}/unsafe", s3_client=lambda: create_s3_client("aws_default"))
        with pytest.raises(LedgerUnsafeError, match="file:///folder"):
            store.probe()
        assert proxy.refused == ["PUT 501"]


def test_weakened_etags_are_found_by_the_ledger_and_survived_by_the_archive(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost, caplog: pytest.LogCaptureFixture
) -> None:
    with S3Proxy(seaweed.port, weak_etags=True) as proxy:
        connect(proxy.url)
        store = open_store(f"s3://{BUCKET}/{folder.prefix}/ledger", s3_client=lambda: create_s3_client("aws_default"))
        with pytest.raises(LedgerUnsafeError, match="a proxy may weaken or rewrite ETags"):
            store.probe()
        open_archive().store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))
    assert folder.get("a.mp4") == CLIP
    assert "refuses its own ETags" in caplog.text


def test_behind_a_proxy_that_capitalizes_headers_a_clip_without_its_record_is_found(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost
) -> None:
    with S3Proxy(seaweed.port, capitals=True) as proxy:
        connect(proxy.url)
        key, request = folder.key("a.mp4"), finished(host.play(body(CLIP)), "req-1")
        open_archive().store(request, BUCKET, key)
        seaweed.client().delete_object(Bucket=BUCKET, Key=folder.key("a.json"))
        assert open_archive().find_request_id(BUCKET, key) == "req-1"
        assert open_archive().store(request, BUCKET, key).existing
    assert sorted(folder.names()) == ["a.json", "a.mp4"]


def test_a_slow_store_is_waited_for(seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost) -> None:
    with S3Proxy(seaweed.port, delay=0.2) as proxy:
        connect(proxy.url)
        store = open_store(f"s3://{BUCKET}/{folder.prefix}/ledger", s3_client=lambda: create_s3_client("aws_default"))
        store.probe()
        open_archive().store(finished(host.play(body(CLIP))), BUCKET, folder.key("a.mp4"))
    assert folder.get("a.mp4") == CLIP


@pytest.mark.parametrize("name", ["a+b & c=d", "100 % #1 ?x=1", 'it\'s "here"', "Übergröße", "🎬 clip", "a%2Fb%20c"])
def test_keys_with_any_character_serve_as_source_target_and_ledger(
    seaweed: SeaweedFS, connect: Connect, folder: Folder, host: ResultHost, name: str
) -> None:
    connect(seaweed.endpoint_url)
    clip = open_archive().store(finished(host.play(body(CLIP))), BUCKET, folder.key(f"{name}.mp4"))
    copy = open_archive().copy(clip.uri, BUCKET, folder.key(f"copy/{name}.mp4"), "req-1")
    assert copy is not None
    assert folder.get(f"{name}.mp4") == folder.get(f"copy/{name}.mp4") == CLIP

    signing = create_signing_client("aws_default")
    folder.put(f"{name}.png", picture(400, 400, "PNG"))
    ingester = MediaIngester(
        lambda: signing, lambda *_: "", fit=FitOptions(Fit.ERROR), delivery=Delivery.PRESIGN, lifetime=600
    )
    source = f"s3://{BUCKET}/{folder.key(f'{name}.png')}"
    media = ingester.ingest(MediaSource.parse(source), MediaKind.IMAGE)
    assert (media.source, media.uri, media.width) == (source, source, 400)

    store = open_store(f"s3://{BUCKET}/{folder.key(name)}", s3_client=lambda: signing)
    store.probe()
    entry = a_claim()
    version = store.create(entry)
    stored = store.read(entry.fingerprint)
    assert stored is not None
    assert (stored.entry, stored.version) == (entry, version)
    assert list(store.fingerprints()) == [entry.fingerprint]


@pytest.mark.parametrize("create", [create_s3_client, create_signing_client])
def test_a_store_that_knows_no_checksums_gets_none(
    seaweed: SeaweedFS, connect: Connect, create: Callable[[str], Any]
) -> None:
    with S3Proxy(seaweed.port, checksums=False) as proxy:
        connect(proxy.url)
        create("aws_default").put_object(Bucket=BUCKET, Key="plain", Body=b"a")
        assert proxy.refused == []


@pytest.mark.parametrize("create", [create_s3_client, create_signing_client])
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_store_whose_address_is_in_the_environment_gets_no_checksums_either(
    seaweed: SeaweedFS,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    create: Callable[[str], Any],
) -> None:
    with S3Proxy(seaweed.port, checksums=False) as proxy:
        connect(proxy.url, endpoint_url=None)
        monkeypatch.setenv(name, proxy.url)
        create("aws_default").put_object(Bucket=BUCKET, Key="plain", Body=b"a")
        assert len(proxy.writes) == 1
        assert proxy.refused == []


@pytest.mark.parametrize("create", [create_s3_client, create_signing_client])
def test_a_store_that_redirects_to_https_is_named_with_the_remedy(
    connect: Connect, create: Callable[[str], Any]
) -> None:
    with WireServer([wire.answers(301, {}, "Location: https://store.example.com/")]) as server:
        connect(server.url.removesuffix("/api"))
        with pytest.raises(S3ProtocolError, match=r"redirect to https://store\.example\.com/.*endpoint_url"):
            create("aws_default").get_object(Bucket=BUCKET, Key="any")


@pytest.mark.parametrize("options", [{"Acl": "private"}, ["private"], "private"])
def test_an_option_that_no_store_has_is_refused(seaweed: SeaweedFS, connect: Connect, options: Any) -> None:
    connect(seaweed.endpoint_url, s3_options=options)
    with pytest.raises(WanValidationError, match="s3_options"):
        create_s3_client("aws_default")


def test_a_list_holds_what_botocore_reads_of_it(seaweed: SeaweedFS) -> None:
    client, plain = seaweed.client(), seaweed.client()
    keys = ["a b", "a+b", "a&b<c>", "ä/ö ü", "plain.json", "q?x=1#2", "%41", "\u65e5\u672c"]
    for number, key in enumerate(keys):
        client.put_object(Bucket=BUCKET, Key=f"lists/{key}", Body=b"x" * number)
    found = list(list_objects(client, BUCKET, "lists/"))
    expected = plain.list_objects_v2(Bucket=BUCKET, Prefix="lists/")["Contents"]
    names = ("Key", "ETag", "Size", "LastModified", "StorageClass")
    assert [{name: each.get(name) for name in names} for each in found] == [
        {name: each.get(name) for name in names} for each in expected
    ]
    assert sorted(each["Key"] for each in found) == sorted(f"lists/{key}" for key in keys)
    assert list(list_objects(client, BUCKET, "lists/none/")) == []
    with pytest.raises(client.exceptions.NoSuchBucket):
        list(list_objects(client, "no-such-bucket", ""))


@pytest.mark.parametrize("time", ["yesterday", "2026-11-28T22:00:00", ""])
def test_a_list_that_is_odd_is_left_to_botocore(time: str) -> None:
    body = f"<ListBucketResult><Contents><Key>a</Key><LastModified>{time}</LastModified><Size>1</Size></Contents>"
    response: dict[str, Any] = {"body": f"{body}</ListBucketResult>".encode()}
    before, customized = dict(response), dict[str, Any]()
    _parse_contents(response_dict=response, customized_response_dict=customized)
    assert (response, customized) == (before, {})
