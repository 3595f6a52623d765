# SPDX-License-Identifier: Apache-2.0
"""Entries as files in a folder that all workers share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

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
    hash_content,
    parse_entry_name,
    read_entries,
    validate_document_name,
    validate_fingerprint,
)

#: Seconds to wait for the folder's lock, which is held for the time of a read and a rename.
LOCK_TIMEOUT = 5.0
_LOCK_POLL_INTERVAL = 0.02


class FileStore:
    """
    :class:`~airflow_provider_wan.ledger.stores.base.LedgerStore` in a folder.

    A first entry is created by a hard link, which fails if the file exists; a later version by an atomic rename
    under a lock. Both are flushed to disk when the call returns. The folder must be on one machine's disk, or on a
    network file system that honours hard links and ``flock`` (:meth:`probe`).

    Files get the mode that the umask leaves. Where the folder is writable for its group or for all, so are they:
    whoever may add entries may read and lock them.

    :param folder: absolute path; created if missing.
    """

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
        return (
            None if content is None else StoredEntry(LedgerEntry.from_json(content, fingerprint), hash_content(content))
        )

    def create(self, entry: LedgerEntry) -> str:
        """See :meth:`LedgerStore.create`."""
        content = entry.to_json().encode()
        if not self._create(self._path(entry.fingerprint), content):
            raise AlreadyExistsError(f"Ledger entry {entry.fingerprint} exists already")
        return hash_content(content)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        """See :meth:`LedgerStore.replace`."""
        content = entry.to_json().encode()
        if not self._replace(self._path(entry.fingerprint), content, version):
            raise ConflictError(f"Ledger entry {entry.fingerprint} has changed")
        return hash_content(content)

    def read_document(self, name: str) -> StoredDocument | None:
        """See :meth:`DocumentStore.read_document`."""
        content = self._read_bytes(self._document_path(name))
        return None if content is None else StoredDocument(content, hash_content(content))

    def write_document(self, name: str, content: bytes, version: str | None) -> str:
        """See :meth:`DocumentStore.write_document`."""
        path = self._document_path(name)
        with _translate_errors("written", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        is_written = self._create(path, content) if version is None else self._replace(path, content, version)
        if not is_written:
            raise ConflictError(f"{path} has changed")
        return hash_content(content)

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        """See :meth:`LedgerStore.entries`."""
        return read_entries(self._names(modified_since), self.read, self.uri)

    def fingerprints(self) -> Iterator[str]:
        """See :meth:`LedgerStore.fingerprints`."""
        return self._names()

    def _names(self, modified_since: float | None = None) -> Iterator[str]:
        with _translate_errors("listed", self._folder):
            if not self._folder.exists():
                return
            with os.scandir(self._folder) as items:
                for item in items:
                    name = parse_entry_name(item.name) if item.is_file() else None
                    if name is not None and (modified_since is None or _modified_at(item) >= modified_since):
                        yield name

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

    def _document_path(self, name: str) -> Path:
        return self._folder / f"{validate_document_name(name)}{ENTRY_SUFFIX}"

    def _create(self, path: Path, content: bytes) -> bool:
        """Create a file, and return whether there was none."""
        with self._temporary_file(content) as part:
            try:
                os.link(part, path)
            except FileExistsError:
                # NFS says so as well if it repeats a request whose response was lost: then the link is there.
                if part.stat().st_nlink == 1:
                    return False
            self._sync_folder(path.parent)
        return True

    def _replace(self, path: Path, content: bytes, version: str) -> bool:
        """Replace a file, and return whether it had this version."""
        with self._temporary_file(content) as part:
            with self._lock():
                current = self._read_bytes(path)
                if current is None or hash_content(current) != version:
                    return False
                os.replace(part, path)
            self._sync_folder(path.parent)
        return True

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
            part = self._folder / f".part-{uuid4().hex}"
            try:
                with part.open("xb") as file:
                    self._share(file)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                yield part
            finally:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._folder / ".lock"
        with path.open("a+b") as file:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise self._lock_timeout(path, file) from None
                    time.sleep(_LOCK_POLL_INTERVAL)
            self._share(file)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            file.flush()
            yield

    def _lock_timeout(self, path: Path, file: BinaryIO) -> LedgerUnavailableError:
        file.seek(0)
        holder = file.read(200).decode(errors="replace") or "an unknown process"
        return LedgerUnavailableError(
            f"The ledger at {self._folder} can't be written: {path} has been locked for {LOCK_TIMEOUT:.0f} s by "
            f"{holder}. That process may be stopped or hang: continue it, or end it, which releases the lock."
        )

    def _share(self, file: BinaryIO) -> None:
        """Give a file of ours to those who may write in the folder."""
        state, folder = os.fstat(file.fileno()), self._folder.stat()
        mode = stat.S_IMODE(state.st_mode)
        if folder.st_mode & stat.S_IWGRP:
            mode |= stat.S_IRGRP | stat.S_IWGRP
        if folder.st_mode & stat.S_IWOTH:
            mode |= stat.S_IROTH | stat.S_IWOTH
        if mode != stat.S_IMODE(state.st_mode) and state.st_uid == os.geteuid():
            os.fchmod(file.fileno(), mode)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _modified_at(item: os.DirEntry[str]) -> float:
    try:
        return item.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _translate_errors(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerUnavailableError(f"The ledger at {path} can't be {what}: {error.strerror or error}") from error
