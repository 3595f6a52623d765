# SPDX-License-Identifier: Apache-2.0
"""
The protocol of a store: entries with versions, written by compare-and-set.

A store never treats an error as "no entry", and never overwrites what the caller has not read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import LedgerCorruptError, LedgerError, LedgerVersionError

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

ENTRY_SUFFIX = ".json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True)
class StoredEntry:
    """
    An entry as it was read.

    :param entry: the entry.
    :param version: the version it was read under, which :meth:`LedgerStore.replace` asks for.
    """

    entry: LedgerEntry
    version: str


@dataclass(frozen=True)
class StoredDocument:
    """
    Another object of the ledger as it was read, such as a budget.

    :param content: the object.
    :param version: the version it was read under, which :meth:`DocumentStore.write_document` asks for.
    """

    content: bytes
    version: str


class LedgerStore(Protocol):
    """
    Stores entries, one per fingerprint.

    :ivar uri: where it is, without secrets.
    """

    @property
    def uri(self) -> str:
        """Where the store is, without secrets."""

    def read(self, fingerprint: str) -> StoredEntry | None:
        """
        Return the entry, or None if there is certainly none.

        :param fingerprint: key of the entry.
        :raises LedgerUnavailableError: if that is not certain.
        :raises LedgerCorruptError: if the entry can't be read, or is that of another clip.
        :raises LedgerVersionError: if it has the format of another version.
        """

    def create(self, entry: LedgerEntry) -> str:
        """
        Store a first entry.

        :param entry: the entry.
        :returns: its version.
        :raises AlreadyExistsError: if there is one already.
        :raises LedgerUnavailableError: if it may or may not have been stored.
        """

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """
        Replace the entry that was read under a version.

        :param entry: the new entry.
        :param version: the version that was read.
        :returns: the new version.
        :raises ConflictError: if it has changed since, or is gone.
        :raises LedgerUnavailableError: if it may or may not have been replaced.
        """

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """
        Yield the entries lazily, in no particular order. Objects that are not entries are skipped, with one warning.

        :param modified_since: Unix seconds; leaves out entries not written since.
        """

    def fingerprints(self) -> Iterator[str]:
        """Yield the fingerprints of all entries lazily, without reading the entries."""

    def probe(self) -> None:
        """
        Verify that conditions on writes are honoured.

        :raises LedgerUnsafeError: if they are not.
        :raises LedgerUnavailableError: if that can't be found out now.
        """


class DocumentStore(LedgerStore, Protocol):
    """A store that keeps other objects beside the entries."""

    def read_document(self, name: str) -> StoredDocument | None:
        """
        Return an object that is not an entry, or None if there is certainly none.

        :param name: name of a folder below the ledger, ``/``, and a name.
        :raises LedgerUnavailableError: if that is not certain.
        """

    def write_document(self, name: str, content: bytes, version: str | None) -> str:
        """
        Write an object that is not an entry.

        :param name: as for :meth:`read_document`.
        :param content: the new content, which no other writer can write.
        :param version: the version that was read; None if there was none.
        :returns: the new version.
        :raises ConflictError: if it has changed since.
        :raises LedgerUnavailableError: if it may or may not have been written.
        """


def validate_fingerprint(fingerprint: str) -> str:
    """
    Return the fingerprint if it is a plain name, which can't lead out of the ledger's folder.

    :param fingerprint: key of an entry.
    :raises WanValidationError: if it is not.
    """
    if not _NAME.fullmatch(fingerprint):
        raise WanValidationError("fingerprint", fingerprint, "must be letters and digits")
    return fingerprint


def validate_document_name(name: str) -> str:
    """
    Return the name of an object, if it can't lead out of the ledger's folder or be taken for an entry.

    :param name: name of a folder, ``/``, and a name.
    :raises WanValidationError: if it is not such a name.
    """
    folder, separator, rest = name.partition("/")
    if not separator or not _NAME.fullmatch(folder) or not _NAME.fullmatch(rest):
        raise WanValidationError("document", name, "must be folder/name of letters and digits")
    return name


def parse_entry_name(name: str) -> str | None:
    """
    Return the fingerprint of an entry's file or object name; None if the name is not an entry's.

    :param name: name without folder or prefix.
    """
    fingerprint = name.removesuffix(ENTRY_SUFFIX)
    return fingerprint if name.endswith(ENTRY_SUFFIX) and _NAME.fullmatch(fingerprint) else None


def read_entries(
    names: Iterable[str], read: Callable[[str], StoredEntry | None], uri: str, *, readers: int = 1
) -> Iterator[StoredEntry]:
    """
    Yield the entries of a listing. What is not an entry is skipped: it stops only the clip whose key it has.

    :param names: fingerprints.
    :param read: reads one entry, as :meth:`LedgerStore.read`.
    :param uri: URI of the store, for the warning.
    :param readers: number of threads that read ahead; 1 reads each entry when it is asked for.
    """

    def try_read(name: str) -> tuple[str, StoredEntry | LedgerError | None]:
        try:
            found = read(name)
        except (LedgerCorruptError, LedgerVersionError) as error:
            return name, error
        return name, found

    skipped = 0
    for name, found in map(try_read, names) if readers == 1 else _map_ahead(try_read, names, readers):
        if isinstance(found, LedgerError):
            skipped += 1
            if skipped == 1:
                log.warning("%s: %s%s is skipped, and so are all others like it: %s", uri, name, ENTRY_SUFFIX, found)
        elif found is not None:
            yield found


def _map_ahead(call: Callable[[str], ResultT], names: Iterable[str], threads: int) -> Iterator[ResultT]:
    """Call a function for each name, in threads, and yield the results in the order of the names."""
    pending: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="wan-ledger") as pool:
        try:
            for name in names:
                pending.append(pool.submit(call, name))
                if len(pending) >= 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def hash_content(content: bytes) -> str:
    """
    Return the version of an entry by its content, for stores that have no versions of their own.

    :param content: the entry as stored.
    """
    return hashlib.sha256(content).hexdigest()
