# SPDX-License-Identifier: Apache-2.0
"""
Where entries lie: one small protocol, and the way to the store that a URI names.

A store never takes an error for "no entry", and never overwrites what it has not been shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerCorruptError,
    LedgerUnavailableError,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True)
class Versioned:
    """An entry and the version under which it was read, which :meth:`LedgerStore.replace` asks for."""

    entry: LedgerEntry
    version: str


class LedgerStore(Protocol):
    """
    Keeps entries, one a fingerprint.

    :ivar uri: where it is, without secrets.
    """

    @property
    def uri(self) -> str: ...

    def read(self, fingerprint: str) -> Versioned | None:
        """
        Return the entry, or None where there is certainly none.

        :raises LedgerUnavailableError: where that is not certain.
        :raises LedgerCorruptError: where it can't be read.
        :raises LedgerVersionError: where a newer version wrote it.
        """

    def create(self, entry: LedgerEntry) -> str:
        """
        Put a first entry, and return its version.

        :raises AlreadyExistsError: there is one already.
        :raises LedgerUnavailableError: it may or may not have been put.
        """

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """
        Replace the entry that was read under ``version``, and return the new version.

        :raises ConflictError: it has changed since, or is gone.
        :raises LedgerUnavailableError: it may or may not have been replaced.
        """

    def entries(self, *, modified_since: float | None = None) -> Iterator[Versioned]:
        """
        Yield the entries lazily, in no particular order.

        :param modified_since: Unix seconds; leaves out those not written since.
        """

    def fingerprints(self) -> Iterator[str]:
        """Yield the fingerprints of all entries lazily, without reading the entries."""

    def probe(self) -> None:
        """
        Prove that conditions on writes are honoured.

        :raises LedgerUnsafeError: they are not.
        :raises LedgerUnavailableError: that can't be found out now.
        """

    @property
    def lists(self) -> bool:
        """Whether :meth:`entries` shows the entries of other tasks too."""


class StateAccessor(Protocol):
    """What is used of Airflow's ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...

    def delete(self, key: str) -> None: ...


class StateStore:
    """
    :class:`LedgerStore` in Airflow's own state store, which belongs to one task instance.

    Its writer is one: the task instance that runs. So conditions are checked by reading first, which
    guards against a mistake and not against two writers at the same moment.

    :param state: ``get``, ``set`` and ``delete``.
    :param prefix: begins each key.
    """

    MAX_BYTES = 64 * 1024
    uri = "airflow:task_state_store"
    lists = False

    def __init__(self, state: StateAccessor, prefix: str = "wan_ledger.") -> None:
        self._state = state
        self._prefix = prefix

    def read(self, fingerprint: str) -> Versioned | None:
        """See :meth:`LedgerStore.read`."""
        try:
            value = self._state.get(self._prefix + checked_name(fingerprint))
        except Exception as error:
            raise LedgerUnavailableError(f"Airflow's task state store can't be read: {error}") from error
        if value is None:
            return None
        if not isinstance(value, str):
            raise LedgerCorruptError(f"Airflow's task state store holds no ledger entry under {fingerprint}")
        return Versioned(LedgerEntry.from_json(value), content_version(value.encode()))

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        if self.read(entry.fingerprint) is not None:
            raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already")
        return self._set(entry)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        held = self.read(entry.fingerprint)
        if held is None or held.version != version:
            raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
        return self._set(entry)

    def entries(self, *, modified_since: float | None = None) -> Iterator[Versioned]:
        """Airflow's state store can't be listed: yields nothing."""
        return iter(())

    def fingerprints(self) -> Iterator[str]:
        """Airflow's state store can't be listed: yields nothing."""
        return iter(())

    def probe(self) -> None:
        """Nothing to prove: there is one writer."""

    def _set(self, entry: LedgerEntry) -> str:
        text = entry.to_json()
        if len(json.dumps(text)) > self.MAX_BYTES:
            raise LedgerUnavailableError(
                f"Ledger entry {entry.fingerprint} is larger than Airflow's task state store takes "
                f"({self.MAX_BYTES} bytes): configure a ledger URI"
            )
        try:
            self._state.set(self._prefix + entry.fingerprint, text)
        except Exception as error:
            raise LedgerUnavailableError(f"Airflow's task state store can't be written: {error}") from error
        return content_version(text.encode())


def open_store(uri: str, *, s3_client: Callable[[], Any] | None = None) -> LedgerStore:
    """
    Return the store at a URI; nothing is read or written yet.

    :param uri: ``s3://bucket/prefix`` or ``file:///folder``.
    :param s3_client: makes the boto3 client, such as ``S3Hook(aws_conn_id).get_conn``; needed for ``s3://``.
    :raises WanValidationError: for anything else.
    """
    scheme, separator, rest = uri.partition("://")
    if scheme == "file" and separator and rest.startswith("/"):
        from airflow_provider_wan.ledger.file_store import FileStore

        return FileStore(rest)
    if scheme == "s3" and rest.split("/", 1)[0] and s3_client is not None:
        from airflow_provider_wan.ledger.s3_store import S3Store

        bucket, _, prefix = rest.partition("/")
        return S3Store(s3_client, bucket, prefix)
    raise WanValidationError("ledger", uri, "must be s3://bucket/prefix or file:///absolute/folder")


def checked_name(fingerprint: str) -> str:
    """Refuse what would lead out of the ledger's folder."""
    if not _NAME.fullmatch(fingerprint):
        raise WanValidationError("fingerprint", fingerprint, "must be letters and digits")
    return fingerprint


def content_version(content: bytes) -> str:
    """Return the version that an entry has by its content."""
    return hashlib.sha256(content).hexdigest()
