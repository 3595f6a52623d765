# SPDX-License-Identifier: Apache-2.0
"""Entries as objects in S3, with conditional writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerUnavailableError,
    LedgerUnsafeError,
)
from airflow_provider_wan.ledger.stores.base import (
    ENTRY_SUFFIX,
    StoredDocument,
    StoredEntry,
    parse_entry_name,
    read_entries,
    validate_document_name,
    validate_fingerprint,
)
from airflow_provider_wan.s3.conditional import find_condition_fault, read_version, write_if
from airflow_provider_wan.s3.errors import (
    S3_ERRORS,
    S3ProtocolError,
    find_credential_remedy,
    get_error_code,
    get_http_status,
)
from airflow_provider_wan.s3.objects import list_first_page, list_objects
from airflow_provider_wan.s3.uri import build_s3_uri

_PROBE = ".probe"
#: Threads that read entries and parts of a long list; boto3's clients keep 10 connections open by default.
READERS = 8
#: Where a long list is divided. Fingerprints are hashes, so that the parts are equally long.
LIST_BOUNDS = "123456789abcdef"


class S3Store:
    """
    :class:`~airflow_provider_wan.ledger.stores.base.LedgerStore` in a bucket.

    Entries are written conditionally, see :func:`~airflow_provider_wan.s3.conditional.write_if`. Each entry holds its
    owner's nonce and its times, so equal bytes are our own.

    :param client: returns the boto3 client; called once, at the first use.
    :param bucket: an existing bucket.
    :param prefix: prefix of the keys.
    """

    def __init__(self, client: Callable[[], Any], bucket: str, prefix: str = "") -> None:
        self._client_factory = client
        self._cached_client: Any = None
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    @property
    def uri(self) -> str:
        """URI of the bucket and prefix."""
        return build_s3_uri(self._bucket, self._prefix).rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def read(self, fingerprint: str) -> StoredEntry | None:
        """See :meth:`LedgerStore.read`."""
        stored = self._read(self._key(fingerprint))
        return None if stored is None else StoredEntry(LedgerEntry.from_json(stored[0], fingerprint), stored[1])

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        version = self._write(self._key(entry.fingerprint), entry.to_json().encode(), None)
        if version is None:
            raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already")
        return version

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        new = self._write(self._key(entry.fingerprint), entry.to_json().encode(), version)
        if new is None:
            raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
        return new

    def read_document(self, name: str) -> StoredDocument | None:
        """See :meth:`DocumentStore.read_document`."""
        stored = self._read(self._document_key(name))
        return None if stored is None else StoredDocument(*stored)

    def write_document(self, name: str, content: bytes, version: str | None) -> str:
        """See :meth:`DocumentStore.write_document`."""
        new = self._write(self._document_key(name), content, version)
        if new is None:
            raise ConflictError(f"{self.uri}/{name} has changed")
        return new

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """See :meth:`LedgerStore.entries`."""
        names = self.fingerprints() if modified_since is None else self._names_since(modified_since)
        return read_entries(names, self.read, self.uri, readers=READERS)

    def fingerprints(self) -> Iterator[str]:
        """See :meth:`LedgerStore.fingerprints`."""
        return (name for name, _ in self._names())

    def _names_since(self, modified_since: float) -> Iterator[str]:
        """Yield the names of entries written since; a long list is read in parts, side by side."""

        def select(after: str = "", until: str | None = None) -> Iterator[str]:
            return (name for name, modified in self._names(after, until) if modified >= modified_since)

        try:
            items, has_more = list_first_page(self._client, self._bucket, self._prefix)
        except S3_ERRORS as error:
            raise self._unavailable("listed", error) from error
        if not has_more:
            yield from (name for name, modified in self._parse_names(items) if modified >= modified_since)
            return
        bounds = ["", *(self._prefix + digit for digit in LIST_BOUNDS), None]
        with ThreadPoolExecutor(READERS, thread_name_prefix="wan-ledger-list") as pool:
            for names in pool.map(lambda part: list(select(*part)), pairwise(bounds)):
                yield from names

    def _names(self, after: str = "", until: str | None = None) -> Iterator[tuple[str, float]]:
        try:
            items = list_objects(self._client, self._bucket, self._prefix, after=after, until=until)
            yield from self._parse_names(items)
        except S3_ERRORS as error:
            raise self._unavailable("listed", error) from error

    def _parse_names(self, items: Iterable[dict[str, Any]]) -> Iterator[tuple[str, float]]:
        for item in items:
            name = parse_entry_name(item["Key"].removeprefix(self._prefix))
            if name is not None:
                yield name, item["LastModified"].timestamp()

    def probe(self) -> None:
        """See :meth:`LedgerStore.probe`. It leaves one small object, ``.probe``, beside the entries."""
        try:
            fault = find_condition_fault(self._client, self._bucket, self._prefix + _PROBE)
        except (*S3_ERRORS, OSError) as error:
            raise self._unavailable("probed", error) from error
        if fault is not None:
            raise LedgerUnsafeError(
                f"{self.uri}: {fault}, so two tasks could both pay for one clip. Nothing was paid. Use a server that "
                "honours conditional writes (AWS S3, MinIO, SeaweedFS, R2 do), without such a proxy; or a ledger in a "
                "folder that all workers share (file:///folder)."
            )

    @property
    def _client(self) -> Any:
        if self._cached_client is None:
            self._cached_client = self._client_factory()
        return self._cached_client

    def _key(self, fingerprint: str) -> str:
        return f"{self._prefix}{validate_fingerprint(fingerprint)}{ENTRY_SUFFIX}"

    def _document_key(self, name: str) -> str:
        return f"{self._prefix}{validate_document_name(name)}{ENTRY_SUFFIX}"

    def _read(self, key: str) -> tuple[bytes, str] | None:
        try:
            return read_version(self._client, self._bucket, key)
        except (*S3_ERRORS, OSError) as error:
            raise self._unavailable("read", error) from error

    def _write(self, key: str, content: bytes, version: str | None) -> str | None:
        try:
            return write_if(self._client, self._bucket, key, content, version=version)
        except (*S3_ERRORS, OSError) as error:
            raise self._unavailable("written", error) from error

    def _unavailable(self, verb: str, error: Exception) -> LedgerUnavailableError:
        hint, code = "", get_error_code(error)
        if remedy := find_credential_remedy(error):
            hint = f" {remedy}."
        elif get_http_status(error) == 403:
            hint = " The credentials need s3:GetObject, s3:PutObject and s3:ListBucket there."
        elif code == "NoSuchBucket":
            hint = " The bucket does not exist."
        name = str(error) if isinstance(error, S3ProtocolError) else f"{type(error).__name__} {code}".strip()
        return LedgerUnavailableError(f"The ledger at {self.uri} can't be {verb}: {name}.{hint}")
