# SPDX-License-Identifier: Apache-2.0
"""The ledger with a real S3 server."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from airflow_provider_wan.ledger import (
    EntryState,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
    Submitter,
    open_store,
)
from airflow_provider_wan.ledger.entry import record_intent, submitted
from airflow_provider_wan.ledger.errors import AlreadyExistsError, ConflictError
from dev.testkit.ledger import FINGERPRINT, ME, NOW, OTHER, REQUEST, Api, Clock, a_claim
from dev.testkit.s3_folder import BUCKET


@pytest.fixture(scope="module")
def client(seaweed: Any) -> Any:
    return seaweed.client()


@pytest.fixture
def prefix() -> Any:
    return secrets.token_hex(4)


@pytest.fixture
def store(client: Any, prefix: Any) -> Any:
    return open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: client)


class PatchedClient:
    """The real client with some methods replaced."""

    def __init__(self, client: Any, **changed: Any) -> None:
        self._client = client
        self.__dict__.update(changed)

    def __getattr__(self, name: Any) -> Any:
        return getattr(self._client, name)


def test_a_stored_entry_is_read_back(store: Any) -> None:
    assert store.read(FINGERPRINT) is None
    version = store.create(a_claim())
    assert (store.read(FINGERPRINT).entry, read_version(store)) == (a_claim(), version)
    version = store.replace(record_intent(a_claim(), NOW), version)
    assert (store.read(FINGERPRINT).entry, read_version(store)) == (record_intent(a_claim(), NOW), version)


def test_of_many_writers_one_creates_and_one_replaces(store: Any) -> None:
    won = []
    start = threading.Barrier(8)

    def race(act: Any, refused: Any) -> None:
        start.wait()
        with contextlib.suppress(refused):
            won.append(act())

    def run(act: Any, refused: Any) -> Any:
        won.clear()
        threads = [threading.Thread(target=race, args=(lambda n=n: act(n), refused)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won

    (version,) = run(lambda n: store.create(a_claim(claimed_at=NOW + n)), AlreadyExistsError)
    assert len(run(lambda n: store.replace(record_intent(a_claim(), NOW + n), version), ConflictError)) == 1


def test_an_entry_that_is_gone_is_not_replaced(store: Any, client: Any, prefix: Any) -> None:
    version = store.create(a_claim())
    client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{FINGERPRINT}.json")
    with pytest.raises(ConflictError):
        store.replace(record_intent(a_claim(), NOW), version)


def test_a_document_is_written_once_by_each_version_and_is_no_entry(store: Any) -> None:
    assert store.read_document("budgets/one") is None
    version = store.write_document("budgets/one", b"1", None)
    for wrong in (None, '"0"'):
        with pytest.raises(ConflictError, match="budgets/one has changed"):
            store.write_document("budgets/one", b"2", wrong)
    newer = store.write_document("budgets/one", b"2", version)
    assert (store.read_document("budgets/one").content, store.read_document("budgets/one").version) == (b"2", newer)
    store.create(a_claim())
    assert list(store.fingerprints()) == [FINGERPRINT]


def test_a_bucket_that_is_missing_is_an_error_and_not_an_empty_ledger(client: Any) -> None:
    store = open_store("s3://no-such-bucket/x", s3_client=lambda: client)
    for call in (
        lambda: store.read(FINGERPRINT),
        lambda: list(store.entries()),
        lambda: list(store.entries(modified_since=NOW)),
    ):
        with pytest.raises(LedgerUnavailableError, match="no-such-bucket"):
            call()


def test_an_unknown_access_key_is_an_error_with_the_remedy(seaweed: Any) -> None:
    import boto3

    stranger = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint_url,
        aws_access_key_id="stranger",
        aws_secret_access_key="wrong",
        region_name="us-east-1",
    )
    with pytest.raises(LedgerUnavailableError, match=r"InvalidAccessKeyId\. Correct the access key"):
        open_store(f"s3://{BUCKET}/x", s3_client=lambda: stranger).read(FINGERPRINT)


def test_damaged_and_newer_objects_are_errors(store: Any, client: Any, prefix: Any) -> None:
    key = f"{prefix}/{FINGERPRINT}.json"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    with pytest.raises(LedgerCorruptError):
        store.read(FINGERPRINT)
    client.put_object(Bucket=BUCKET, Key=key, Body=b'{"version": 99}')
    with pytest.raises(LedgerVersionError):
        store.read(FINGERPRINT)


def test_entries_are_listed_without_the_probe_and_other_folders(store: Any, client: Any, prefix: Any) -> None:
    names = [f"e{n}" for n in range(5)]
    for name in names:
        store.create(a_claim(fingerprint=name))
    store.probe()
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/deeper/e9.json", Body=b"{}")
    client.put_object(Bucket=BUCKET, Key=f"{prefix}-beside/e9.json", Body=b"{}")
    assert sorted(stored.entry.fingerprint for stored in store.entries()) == names
    assert list(store.entries(modified_since=time.time() + 60)) == []
    assert len(list(store.entries(modified_since=time.time() - 60))) == 5


def test_a_list_of_many_pages_is_walked_lazily(store: Any, client: Any, prefix: Any) -> None:
    for n in range(40):
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/e{n:02}.json", Body=a_claim(fingerprint=f"e{n:02}").to_json())
    asked = []

    class TwentyAtATime:
        def __init__(self, operation: str) -> None:
            self._paginator = client.get_paginator(operation)

        def paginate(self, **wanted: Any) -> Any:
            for page in self._paginator.paginate(**wanted, PaginationConfig={"PageSize": 20}):
                asked.append(page)
                yield page

    paged = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: PatchedClient(client, get_paginator=TwentyAtATime))
    entries = paged.entries()
    next(entries)
    assert len(asked) == 1
    assert len(list(entries)) == 39
    assert len(asked) == 2


def test_a_long_list_is_read_in_parts_that_miss_and_repeat_nothing(store: Any, client: Any, prefix: Any) -> None:
    names = [*(digit + "-entry" for digit in "0123456789abcdefghzAZ"), "0", "1", "f", "ff"]
    for name in names:
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}.json", Body=a_claim(fingerprint=name).to_json())
    client.put_object(Bucket=BUCKET, Key=f"{prefix}-beside/e9.json", Body=b"{}")
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/limits/account.json", Body=b"{}")
    listed = []

    def list_page(**wanted: Any) -> Any:
        return {**client.list_objects_v2(**wanted), "IsTruncated": True}

    def paginator(operation: str) -> Any:
        listed.append(operation)
        return client.get_paginator(operation)

    patched = PatchedClient(client, list_objects_v2=list_page, get_paginator=paginator)
    long = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: patched)
    found = [stored.entry.fingerprint for stored in long.entries(modified_since=time.time() - 600)]
    assert sorted(found) == sorted(names)
    assert len(listed) == 16
    assert list(long.entries(modified_since=time.time() + 600)) == []


def test_a_server_that_honours_conditions_passes_the_probe_again_and_again(store: Any) -> None:
    store.probe()
    store.probe()


def _rewrites_etags(client: Any, rewrite: Any, *, calls: tuple[str, ...]) -> Any:
    """Return a client behind a proxy that changes the ETags of responses, and passes conditions through."""

    def call(name: str) -> Any:
        def send(**wanted: Any) -> Any:
            response = getattr(client, name)(**wanted)
            return {**response, "ETag": rewrite(response["ETag"])}

        return send

    return PatchedClient(client, **{name: call(name) for name in calls})


def _refuses_conditions(client: Any) -> Any:
    def put(**wanted: Any) -> Any:
        if "IfNoneMatch" in wanted or "IfMatch" in wanted:
            raise ClientError(
                {
                    "Error": {"Code": "NotImplemented", "Message": "A header you provided is not implemented"},
                    "ResponseMetadata": {"HTTPStatusCode": 501},
                },
                "PutObject",
            )
        return client.put_object(**wanted)

    return PatchedClient(client, put_object=put)


def _ignores(client: Any, condition: str) -> Any:
    def careless(**wanted: Any) -> Any:
        wanted.pop(condition, None)
        return client.put_object(**wanted)

    return PatchedClient(client, put_object=careless)


def _weaken(etag: str) -> str:
    return f"W/{etag}"


def _suffix(etag: str) -> str:
    return etag[:-1] + '-gzip"'


@pytest.mark.parametrize(
    ("break_client", "message"),
    [
        (lambda client: _ignores(client, "IfNoneMatch"), "ignores If-None-Match"),
        (lambda client: _ignores(client, "IfMatch"), "ignores If-Match"),
        (lambda client: _rewrites_etags(client, _weaken, calls=("get_object", "put_object")), "refuses its own ETag"),
        (lambda client: _rewrites_etags(client, _weaken, calls=("get_object",)), "refuses its own ETag"),
        (lambda client: _rewrites_etags(client, _suffix, calls=("get_object", "put_object")), "refuses its own ETag"),
        (lambda client: _rewrites_etags(client, _suffix, calls=("put_object",)), "is not the object's"),
        (_refuses_conditions, "does not implement conditional writes"),
    ],
    ids=["no If-None-Match", "no If-Match", "weak", "weak on GET", "rewritten", "rewritten on PUT", "501"],
)
def test_a_server_whose_conditions_do_not_hold_is_refused_before_anything_is_paid(
    client: Any, prefix: Any, break_client: Any, message: str
) -> None:
    clock = Clock()
    api = Api(clock)
    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: break_client(client))
    submitter = Submitter(api, store, clock=clock, sleep=clock.sleep)

    with pytest.raises(LedgerUnsafeError, match=message) as caught:
        submitter.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME, deadline=NOW + 60)

    assert "file:///" in str(caught.value)
    assert api.posts == []
    assert clock.slept == []


def test_many_processes_may_probe_a_sound_server_at_once(client: Any, prefix: Any) -> None:
    faults: list[Exception] = []
    start = threading.Barrier(12)

    def probe() -> None:
        store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: client)
        start.wait()
        try:
            store.probe()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=probe) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_foreign_objects_among_the_entries_are_skipped_with_one_warning(
    store: Any, client: Any, prefix: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(a_claim())
    for name in ("package", "tsconfig", "with space"):
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}.json", Body=b'{"name": "x"}')

    assert [stored.entry for stored in store.entries()] == [a_claim()]
    assert len([record for record in caplog.records if "is skipped" in record.getMessage()]) == 1


def _loses_responses(client: Any, *, arrives: Any) -> Any:
    def put(**wanted: Any) -> None:
        if arrives:
            client.put_object(**wanted)
        raise ReadTimeoutError(endpoint_url="http://s3.example")

    return PatchedClient(client, put_object=put)


def read_version(store: Any) -> Any:
    stored = store.read(FINGERPRINT)
    assert stored is not None
    return stored.version


def test_a_write_whose_answer_is_lost_is_recognised_as_our_own(client: Any, prefix: Any) -> None:
    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_responses(client, arrives=True))
    version = store.create(a_claim())
    assert read_version(store) == version
    assert store.replace(record_intent(a_claim(), NOW), version) == read_version(store)


def test_a_write_that_collides_with_its_own_repetition_is_recognised_as_our_own(client: Any, prefix: Any) -> None:
    def twice(**wanted: Any) -> Any:
        client.put_object(**wanted)
        return client.put_object(**wanted)

    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: PatchedClient(client, put_object=twice))
    version = store.create(a_claim())
    assert store.replace(record_intent(a_claim(), NOW), version) == read_version(store)


def test_a_write_that_did_not_arrive_is_an_error(client: Any, prefix: Any) -> None:
    store = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_responses(client, arrives=False))
    with pytest.raises(LedgerUnavailableError, match="ReadTimeoutError"):
        store.create(a_claim())
    assert store.read(FINGERPRINT) is None


def test_a_lost_write_overtaken_by_another_is_not_considered_our_own(client: Any, prefix: Any, store: Any) -> None:
    store.create(a_claim(OTHER))
    blind = open_store(f"s3://{BUCKET}/{prefix}", s3_client=lambda: _loses_responses(client, arrives=False))
    with pytest.raises(LedgerUnavailableError):
        blind.create(a_claim(ME))


def test_a_server_that_is_unreachable_is_an_error(client: Any, prefix: Any) -> None:
    def away(**wanted: Any) -> None:
        raise ConnectTimeoutError(endpoint_url="http://s3.example")

    store = open_store(
        f"s3://{BUCKET}/{prefix}", s3_client=lambda: PatchedClient(client, get_object=away, put_object=away)
    )
    with pytest.raises(LedgerUnavailableError):
        store.read(FINGERPRINT)
    with pytest.raises(LedgerUnavailableError):
        store.probe()


def test_a_clip_is_submitted_and_archived(store: Any) -> None:
    clock = Clock()
    api = Api(clock)
    submitter = Submitter(api, store, clock=clock, sleep=clock.sleep)
    submitter.submit_once(REQUEST, fingerprint=FINGERPRINT, owner=ME)
    submitter.ledger.record_result(FINGERPRINT, api.turn("r1", "success"))
    entry = submitter.ledger.record_archive(FINGERPRINT, "r1", "s3://clips/r1.mp4", "f" * 64)
    assert store.read(FINGERPRINT).entry == entry
    assert entry is not None
    assert entry.state is EntryState.ARCHIVED
    with pytest.raises(ConflictError):
        store.replace(submitted(a_claim(), "r9", NOW), '"0123456789abcdef0123456789abcdef"')
