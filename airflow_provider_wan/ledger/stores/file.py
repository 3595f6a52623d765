# SPDX-License-Identifier: Apache-2.0
"""Entries as files in a folder that all workers share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import (
    AlreadyExistsError,
    ConflictError,
    LedgerUnavailableError,
    LedgerUnsafeError,
)
from airflow_provider_wan.ledger.stores.base import (
    ENTRY_SUFFIX,
    StoredEntry,
    hash_content,
    parse_entry_name,
    validate_fingerprint,
)


class FileStore:
    """
    :class:`~airflow_provider_wan.ledger.stores.base.LedgerStore` in a folder.

    A first entry is created by a hard link, which fails if the file exists; a later version by an atomic rename
    under a lock. Both are flushed to disk when the call returns. The folder must be on one machine's disk, or on a
    network file system that honours hard links and ``flock`` (:meth:`probe`).

    :param folder: absolute path; created if missing.
    """

    lists = True

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    @property
    def uri(self) -> str:
        """URI of the folder: ``file://`` and its path."""
        return f"file://{self._folder}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def read(self, fingerprint: str) -> StoredEntry | None:
        """See :meth:`LedgerStore.read`."""
        content = self._read_bytes(self._path(fingerprint))
        return None if content is None else StoredEntry(LedgerEntry.from_json(content), hash_content(content))

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        content = entry.to_json().encode()
        with self._temporary_file(content) as part:
            try:
                os.link(part, self._path(entry.fingerprint))
            except FileExistsError:
                raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already") from None
            self._sync_folder()
        return hash_content(content)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        content = entry.to_json().encode()
        path = self._path(entry.fingerprint)
        with self._temporary_file(content) as part, self._lock():
            current = self._read_bytes(path)
            if current is None or hash_content(current) != version:
                raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
            os.replace(part, path)
            self._sync_folder()
        return hash_content(content)

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """See :meth:`LedgerStore.entries`."""
        for item in self._items():
            with contextlib.suppress(FileNotFoundError):
                if modified_since is not None and item.stat().st_mtime < modified_since:
                    continue
            if stored := self.read(item.name.removesuffix(ENTRY_SUFFIX)):
                yield stored

    def fingerprints(self) -> Iterator[str]:
        """See :meth:`LedgerStore.fingerprints`."""
        return (item.name.removesuffix(ENTRY_SUFFIX) for item in self._items())

    def _items(self) -> Iterator[os.DirEntry[str]]:
        with _translate_errors("listed", self._folder):
            if not self._folder.exists():
                return
            with os.scandir(self._folder) as items:
                for item in items:
                    if parse_entry_name(item.name) is not None:
                        yield item

    def probe(self) -> None:
        """See :meth:`LedgerStore.probe`: a second hard link to one name must fail, and so must a second lock."""
        with _translate_errors("probed", self._folder), self._temporary_file(b"probe") as part, self._lock():
            twice = part.with_name(part.name + "-twice")
            os.link(part, twice)
            try:
                os.link(part, twice)
            except FileExistsError:
                pass
            else:
                raise LedgerUnsafeError(f"{self.uri}: the file system lets two processes create the same file")
            finally:
                twice.unlink()
            with (self._folder / ".lock").open("rb") as second:
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
            raise LedgerUnsafeError(f"{self.uri}: the file system does not honour locks")

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{validate_fingerprint(fingerprint)}{ENTRY_SUFFIX}"

    def _read_bytes(self, path: Path) -> bytes | None:
        with _translate_errors("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _temporary_file(self, content: bytes) -> Iterator[Path]:
        with _translate_errors("written", self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".part-", dir=self._folder)
            part = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                yield part
            finally:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._folder / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _translate_errors(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerUnavailableError(f"The ledger at {path} can't be {what}: {error.strerror or error}") from error
