# SPDX-License-Identifier: Apache-2.0
"""The ledger on a real S3 server."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from airflow_provider_wan.ledger import (
    EntryState,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
    Submitter,
    open_store,
)
from airflow_provider_wan.ledger.entry import posting, submitted
from airflow_provider_wan.ledger.errors import AlreadyExistsError, ConflictError
from dev.testkit.ledger import FINGERPRINT, ME, NOW, OTHER, REQUEST, Api, Clock, a_claim
from dev.testkit.s3_folder import BUCKET


@pytest.fixture(scope="module")
def client(seaweed):
    return seaweed.client()


@pytest.fixture
def prefix():
    return secrets.token_hex(4)


@pytest.fixture
def store(client, prefix):
    return open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: client)


class Meddled:
    """The real client, with something in between."""

    def __init__(self, client, **changed):
        self._client = client
        self.__dict__.update(changed)

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_what_was_put_is_read_again(store):
    assert store.read(FINGERPRINT) is None
    version = store.create(a_claim())
    assert (store.read(FINGERPRINT).entry, store.read(FINGERPRINT).version) == (a_claim(), version)
    version = store.replace(posting(a_claim(), NOW), version)
    assert (store.read(FINGERPRINT).entry, store.read(FINGERPRINT).version) == (posting(a_claim(), NOW), version)


def test_of_many_writers_one_creates_and_one_replaces(store):
    won = []
    start = threading.Barrier(8)

    def race(act, refused):
        start.wait()
        with contextlib.suppress(refused):
            won.append(act())

    def run(act, refused):
        won.clear()
        threads = [threading.Thread(target=race, args=(lambda n=n: act(n), refused)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won

    (version,) = run(lambda n: store.create(a_claim(claimed_at=NOW + n)), AlreadyExistsError)
    assert len(run(lambda n: store.replace(posting(a_claim(), NOW + n), version), ConflictError)) == 1


def test_an_entry_that_is_gone_is_not_replaced(store, client, prefix):
    version = store.create(a_claim())
    client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{FINGERPRINT}.json")
    with pytest.raises(ConflictError):
        store.replace(posting(a_claim(), NOW), version)


def test_a_bucket_that_is_missing_is_an_error_and_not_an_empty_ledger(client):
    store = open_store("s3://no-such-bucket/x", s3_client=lambda: client)
    for call in (lambda: store.read(FINGERPRINT), lambda: list(store.entries())):
        with pytest.raises(LedgerUnavailableError, match="no-such-bucket"):
            call()


def test_a_refused_key_is_an_error_with_the_rights_that_are_needed(seaweed):
    import boto3

    stranger = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint_url,
        aws_access_key_id="stranger",
        aws_secret_access_key="wrong",
        region_name="us-east-1",
    )
    with pytest.raises(LedgerUnavailableError, match="s3:ListBucket"):
        open_store(f"s3://{BUCKET}/x", s3_client=lambda: stranger).read(FINGERPRINT)


def test_damaged_and_newer_objects_are_errors(store, client, prefix):
    key = f"{prefix}/{FINGERPRINT}.json"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    with pytest.raises(LedgerCorruptError):
        store.read(FINGERPRINT)
    client.put_object(Bucket=BUCKET, Key=key, Body=b'{"version": 2}')
    with pytest.raises(LedgerVersionError):
        store.read(FINGERPRINT)


def test_entries_are_listed_without_the_probe_and_other_folders(store, client, prefix):
    names = [f"e{n}" for n in range(5)]
    for name in names:
        store.create(a_claim(fingerprint=name))
    store.probe()
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/deeper/e9.json", Body=b"{}")
    client.put_object(Bucket=BUCKET, Key=f"{prefix}-beside/e9.json", Body=b"{}")
    assert sorted(held.entry.fingerprint for held in store.entries()) == names
    assert list(store.entries(modified_since=time.time() + 60)) == []
    assert len(list(store.entries(modified_since=time.time() - 60))) == 5


def test_a_list_of_many_pages_is_walked_lazily(store, client, prefix):
    for n in range(5):
        store.create(a_claim(fingerprint=f"e{n}"))
    asked = []

    def two_at_a_time(**wanted):
        asked.append(wanted)
        return client.list_objects_v2(**wanted, MaxKeys=2)

    paged = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: Meddled(client, list_objects_v2=two_at_a_time))
    entries = paged.entries()
    next(entries)
    assert len(asked) == 1
    assert len(list(entries)) == 4
    assert len(asked) == 3


def test_a_server_that_honours_conditions_passes_the_probe_again_and_again(store):
    store.probe()
    store.probe()


@pytest.mark.parametrize("ignored", ["IfNoneMatch", "IfMatch"])
def test_a_server_that_ignores_a_condition_is_found_out(client, prefix, ignored):
    def careless(**wanted):
        wanted.pop(ignored, None)
        return client.put_object(**wanted)

    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: Meddled(client, put_object=careless))
    with pytest.raises(LedgerUnsafeError, match="If-None-Match"):
        store.probe()


def _loses_answers(client, *, arrives):
    def put(**wanted):
        if arrives:
            client.put_object(**wanted)
        raise ReadTimeoutError(endpoint_url="http://s3.example")

    return Meddled(client, put_object=put)


def test_a_write_whose_answer_is_lost_is_recognised_as_our_own(client, prefix):
    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_answers(client, arrives=True))
    version = store.create(a_claim())
    assert store.read(FINGERPRINT).version == version
    assert store.replace(posting(a_claim(), NOW), version) == store.read(FINGERPRINT).version


def test_a_write_that_collides_with_its_own_repetition_is_recognised_as_our_own(client, prefix):
    def twice(**wanted):
        client.put_object(**wanted)
        return client.put_object(**wanted)

    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: Meddled(client, put_object=twice))
    version = store.create(a_claim())
    assert store.replace(posting(a_claim(), NOW), version) == store.read(FINGERPRINT).version


def test_a_write_that_did_not_arrive_is_an_error(client, prefix):
    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_answers(client, arrives=False))
    with pytest.raises(LedgerUnavailableError, match="ReadTimeoutError"):
        store.create(a_claim())
    assert store.read(FINGERPRINT) is None


def test_a_lost_write_that_somebody_else_overtook_is_not_taken_for_our_own(client, prefix, store):
    store.create(a_claim(OTHER))
    blind = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_answers(client, arrives=False))
    with pytest.raises(LedgerUnavailableError):
        blind.create(a_claim(ME))


def test_a_server_that_can_not_be_reached_is_an_error(client, prefix):
    def away(**wanted):
        raise ConnectTimeoutError(endpoint_url="http://s3.example")

    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: Meddled(client, get_object=away, put_object=away))
    with pytest.raises(LedgerUnavailableError):
        store.read(FINGERPRINT)
    with pytest.raises(LedgerUnavailableError):
        store.probe()


def test_a_clip_goes_its_whole_way(store):
    clock = Clock()
    api = Api(clock)
    submission = Submitter(api, store, clock=clock, sleep=clock.sleep)
    submission.ensure(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    submission.finish(FINGERPRINT, api.turn("r1", "success"))
    entry = submission.archive(FINGERPRINT, "r1", "s3://clips/r1.mp4", "f" * 64)
    assert store.read(FINGERPRINT).entry == entry
    assert entry.state is EntryState.ARCHIVED
    with pytest.raises(ConflictError):
        store.replace(submitted(a_claim(), "r9", NOW), '"0123456789abcdef0123456789abcdef"')
