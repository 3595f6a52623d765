# SPDX-License-Identifier: Apache-2.0
"""
The protocol of a store: entries with versions, written by compare-and-set.

A store never treats an error as "no entry", and never overwrites what the caller has not read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import LedgerCorruptError, LedgerVersionError

log = logging.getLogger(__name__)

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


class LedgerStore(Protocol):
    """
    Stores entries, one per fingerprint.

    :ivar uri: where it is, without secrets.
    """

    @property
    def uri(self) -> str:
        """Where the store is, without secrets."""

    @property
    def lists(self) -> bool:
        """Whether :meth:`entries` returns the entries of other tasks too."""

    def read(self, fingerprint: str) -> StoredEntry | None:
        """
        Return the entry, or None if there is certainly none.

        :param fingerprint: key of the entry.
        :raises LedgerUnavailableError: if that is not certain.
        :raises LedgerCorruptError: if the entry can't be read.
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


def validate_fingerprint(fingerprint: str) -> str:
    """
    Return the fingerprint if it is a plain name, which can't lead out of the ledger's folder.

    :param fingerprint: key of an entry.
    :raises WanValidationError: if it is not.
    """
    if not _NAME.fullmatch(fingerprint):
        raise WanValidationError("fingerprint", fingerprint, "must be letters and digits")
    return fingerprint


def parse_entry_name(name: str) -> str | None:
    """
    Return the fingerprint of an entry's file or object name; None if the name is not an entry's.

    :param name: name without folder or prefix.
    """
    fingerprint = name.removesuffix(ENTRY_SUFFIX)
    return fingerprint if name.endswith(ENTRY_SUFFIX) and _NAME.fullmatch(fingerprint) else None


def read_entries(names: Iterable[str], read: Callable[[str], StoredEntry | None], uri: str) -> Iterator[StoredEntry]:
    """
    Yield the entries of a listing. What is not an entry is skipped: it stops only the clip whose key it has.

    :param names: fingerprints.
    :param read: reads one entry, as :meth:`LedgerStore.read`.
    :param uri: URI of the store, for the warning.
    """
    skipped = 0
    for name in names:
        try:
            stored = read(name)
        except (LedgerCorruptError, LedgerVersionError) as error:
            skipped += 1
            if skipped == 1:
                log.warning("%s: %s%s is skipped, and so are all others like it: %s", uri, name, ENTRY_SUFFIX, error)
            continue
        if stored is not None:
            yield stored


def hash_content(content: bytes) -> str:
    """
    Return the version of an entry by its content, for stores that have no versions of their own.

    :param content: the entry as stored.
    """
    return hashlib.sha256(content).hexdigest()
