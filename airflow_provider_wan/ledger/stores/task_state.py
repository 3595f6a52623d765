# SPDX-License-Identifier: Apache-2.0
"""Entries in Airflow's task state store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerCorruptError,
    LedgerUnavailableError,
)
from airflow_provider_wan.ledger.stores.base import StoredEntry, hash_content, validate_fingerprint


class TaskStateAccessor(Protocol):
    """The part of Airflow's ``context["task_state_store"]`` that is used here."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""

    def set(self, key: str, value: Any) -> None:
        """Store a value."""


class TaskStateStore:
    """
    :class:`~airflow_provider_wan.ledger.stores.base.LedgerStore` in Airflow's task state store.

    That store belongs to one task instance, which is its only writer. So conditions are checked by reading first,
    which protects against a mistake but not against two simultaneous writers.

    :param state: Airflow's accessor.
    :param prefix: prefix of each key.
    """

    MAX_BYTES = 64 * 1024
    uri = "airflow:task_state_store"
    lists = False

    def __init__(self, state: TaskStateAccessor, prefix: str = "wan_ledger.") -> None:
        self._state = state
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def read(self, fingerprint: str) -> StoredEntry | None:
        """See :meth:`LedgerStore.read`."""
        try:
            value = self._state.get(self._prefix + validate_fingerprint(fingerprint))
        except Exception as error:
            raise LedgerUnavailableError(f"Airflow's task state store can't be read: {error}") from error
        if value is None:
            return None
        if not isinstance(value, str):
            raise LedgerCorruptError(f"Airflow's task state store holds no ledger entry under {fingerprint}")
        return StoredEntry(LedgerEntry.from_json(value), hash_content(value.encode()))

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        if self.read(entry.fingerprint) is not None:
            raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already")
        return self._set(entry)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        stored = self.read(entry.fingerprint)
        if stored is None or stored.version != version:
            raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
        return self._set(entry)

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """Yield nothing: Airflow's task state store can't be listed."""
        return iter(())

    def fingerprints(self) -> Iterator[str]:
        """Yield nothing: Airflow's task state store can't be listed."""
        return iter(())

    def probe(self) -> None:
        """Do nothing: there is one writer."""

    def _set(self, entry: LedgerEntry) -> str:
        text = entry.to_json()
        if len(json.dumps(text)) > self.MAX_BYTES:
            raise LedgerUnavailableError(
                f"Ledger entry {entry.fingerprint} exceeds the limit of Airflow's task state store "
                f"({self.MAX_BYTES} bytes): configure a ledger URI"
            )
        try:
            self._state.set(self._prefix + entry.fingerprint, text)
        except Exception as error:
            raise LedgerUnavailableError(f"Airflow's task state store can't be written: {error}") from error
        return hash_content(text.encode())
