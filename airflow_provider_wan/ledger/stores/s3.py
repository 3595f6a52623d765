# SPDX-License-Identifier: Apache-2.0
"""Entries as objects in S3, with conditional writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerUnavailableError,
    LedgerUnsafeError,
)
from airflow_provider_wan.ledger.stores.base import ENTRY_SUFFIX, StoredEntry, parse_entry_name, validate_fingerprint

_PROBE = ".probe"
# The ETag of an empty object, which the probe object never is.
_OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'


class S3Store:
    """
    :class:`~airflow_provider_wan.ledger.stores.base.LedgerStore` in a bucket.

    ``If-None-Match: *`` creates a first entry, ``If-Match`` replaces one. If the response to a write is lost, or
    botocore repeated the write and so it collides with itself, the object is read back: each entry holds its owner's
    nonce and its times, so equal bytes are our own.

    :param client: returns the boto3 client; called once, at the first use.
    :param bucket: an existing bucket.
    :param prefix: prefix of the keys.
    """

    lists = True

    def __init__(self, client: Callable[[], Any], bucket: str, prefix: str = "") -> None:
        self._client_factory = client
        self._cached_client: Any = None
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    @property
    def uri(self) -> str:
        """URI of the bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def read(self, fingerprint: str) -> StoredEntry | None:
        """See :meth:`LedgerStore.read`."""
        got = self._get(self._key(fingerprint))
        return None if got is None else StoredEntry(LedgerEntry.from_json(got[0]), got[1])

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        version = self._put(self._key(entry.fingerprint), entry.to_json().encode(), IfNoneMatch="*")
        if version is None:
            raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already")
        return version

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        new = self._put(self._key(entry.fingerprint), entry.to_json().encode(), IfMatch=version)
        if new is None:
            raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
        return new

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """See :meth:`LedgerStore.entries`."""
        for name, modified in self._names():
            if (modified_since is None or modified >= modified_since) and (stored := self.read(name)):
                yield stored

    def fingerprints(self) -> Iterator[str]:
        """See :meth:`LedgerStore.fingerprints`."""
        return (name for name, _ in self._names())

    def _names(self) -> Iterator[tuple[str, float]]:
        token: dict[str, str] = {}
        while True:
            try:
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **token)
            except (ClientError, BotoCoreError) as error:
                raise self._unavailable("listed", error) from error
            for item in page.get("Contents", ()):
                name = parse_entry_name(item["Key"].removeprefix(self._prefix))
                if name is not None:
                    yield name, item["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def probe(self) -> None:
        """See :meth:`LedgerStore.probe`. It leaves one small object, ``.probe``, beside the entries."""
        key = self._prefix + _PROBE
        refused = self._refuses(key, IfNoneMatch="*") or self._refuses(key, IfNoneMatch="*")
        if not refused or not self._refuses(key, IfMatch=_OTHER_ETAG):
            raise LedgerUnsafeError(
                f"{self.uri}: the S3 server ignores If-None-Match or If-Match, so two tasks could both pay for "
                "one clip. Use a server that honours conditional writes (AWS S3, MinIO, SeaweedFS, R2 do)."
            )

    @property
    def _client(self) -> Any:
        if self._cached_client is None:
            self._cached_client = self._client_factory()
        return self._cached_client

    def _key(self, fingerprint: str) -> str:
        return f"{self._prefix}{validate_fingerprint(fingerprint)}{ENTRY_SUFFIX}"

    def _get(self, key: str) -> tuple[bytes, str] | None:
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=key)
            with response["Body"] as body:
                return body.read(), response["ETag"]
        except ClientError as error:
            if _code(error) == "NoSuchKey" and _status(error) == 404:
                return None
            raise self._unavailable("read", error) from error
        except (BotoCoreError, OSError) as error:
            raise self._unavailable("read", error) from error

    def _put(self, key: str, content: bytes, **condition: str) -> str | None:
        """Return the new version, or None if the condition does not hold."""
        try:
            return self._send(key, content, **condition)
        except (ClientError, BotoCoreError, OSError) as error:
            stored = self._get(key)
            if stored is not None and stored[0] == content:
                return stored[1]
            if isinstance(error, ClientError) and _is_precondition_failure(error):
                return None
            raise self._unavailable("written", error) from error

    def _send(self, key: str, content: bytes, **condition: str) -> str:
        response = self._client.put_object(
            Bucket=self._bucket, Key=key, Body=content, ContentType="application/json", **condition
        )
        return str(response["ETag"])

    def _refuses(self, key: str, **condition: str) -> bool:
        try:
            self._send(key, b"Shows that this server honours conditional writes.", **condition)
        except ClientError as error:
            if _status(error) == 412:
                return True
            raise self._unavailable("probed", error) from error
        except (BotoCoreError, OSError) as error:
            raise self._unavailable("probed", error) from error
        return False

    def _unavailable(self, verb: str, error: Exception) -> LedgerUnavailableError:
        hint = ""
        if isinstance(error, ClientError) and _status(error) == 403:
            hint = " The credentials need s3:GetObject, s3:PutObject and s3:ListBucket there."
        elif isinstance(error, ClientError) and _code(error) == "NoSuchBucket":
            hint = " The bucket does not exist."
        name = f"{type(error).__name__} {_code(error)}" if isinstance(error, ClientError) else type(error).__name__
        return LedgerUnavailableError(f"The ledger at {self.uri} can't be {verb}: {name}.{hint}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_precondition_failure(error: ClientError) -> bool:
    # 404: If-Match on an entry that is gone. 409: AWS saw two conditional writes at the same moment.
    return _status(error) in (409, 412) or (_status(error) == 404 and _code(error) == "NoSuchKey")
