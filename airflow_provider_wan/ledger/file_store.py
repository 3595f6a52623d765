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
from airflow_provider_wan.ledger.store import Versioned, checked_name, content_version


class FileStore:
    """
    :class:`~airflow_provider_wan.ledger.store.LedgerStore` in a folder.

    A first entry appears by a hard link, which fails where there is one; a later one by an atomic
    rename under a lock. Both are on the disk when the call returns. The folder must be on one
    machine's disk, or on a network file system whose links and ``flock`` are honoured (:meth:`probe`).

    :param folder: made when missing.
    """

    lists = True

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    @property
    def uri(self) -> str:
        """``file://`` and the folder."""
        return f"file://{self._folder}"

    def read(self, fingerprint: str) -> Versioned | None:
        """See :meth:`LedgerStore.read`."""
        content = self._content(self._path(fingerprint))
        return None if content is None else Versioned(LedgerEntry.from_json(content), content_version(content))

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        content = entry.to_json().encode()
        with self._written(content) as part:
            try:
                os.link(part, self._path(entry.fingerprint))
            except FileExistsError:
                raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already") from None
            self._sync_folder()
        return content_version(content)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        content = entry.to_json().encode()
        path = self._path(entry.fingerprint)
        with self._written(content) as part, self._lock():
            held = self._content(path)
            if held is None or content_version(held) != version:
                raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
            os.replace(part, path)
            self._sync_folder()
        return content_version(content)

    def entries(self, *, modified_since: float | None = None) -> Iterator[Versioned]:
        """See :meth:`LedgerStore.entries`."""
        for item in self._items():
            with contextlib.suppress(FileNotFoundError):
                if modified_since is not None and item.stat().st_mtime < modified_since:
                    continue
            if held := self.read(item.name.removesuffix(".json")):
                yield held

    def fingerprints(self) -> Iterator[str]:
        """See :meth:`LedgerStore.fingerprints`."""
        return (item.name.removesuffix(".json") for item in self._items())

    def _items(self) -> Iterator[os.DirEntry[str]]:
        with _told("listed", self._folder):
            if not self._folder.exists():
                return
            with os.scandir(self._folder) as found:
                for item in found:
                    if item.name.endswith(".json") and not item.name.startswith("."):
                        yield item

    def probe(self) -> None:
        """See :meth:`LedgerStore.probe`: a second link to one name must fail, and so must a second lock."""
        with _told("probed", self._folder), self._written(b"probe") as part, self._lock():
            twice = part.with_name(part.name + "-twice")
            os.link(part, twice)
            try:
                os.link(part, twice)
            except FileExistsError:
                pass
            else:
                raise LedgerUnsafeError(f"{self.uri}: the file system lets two processes make the same file")
            finally:
                twice.unlink()
            with (self._folder / ".lock").open("rb") as second:
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
            raise LedgerUnsafeError(f"{self.uri}: the file system does not honour locks")

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{checked_name(fingerprint)}.json"

    def _content(self, path: Path) -> bytes | None:
        with _told("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        with _told("written", self._folder):
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
def _told(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerUnavailableError(f"The ledger at {path} can't be {what}: {error.strerror or error}") from error
