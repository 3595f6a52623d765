# SPDX-License-Identifier: Apache-2.0
"""Storage of clips, posters and uploads: in memory for simulations, in a folder for a server."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class BlobStore(Protocol):
    """Files by name."""

    def put(self, name: str, data: bytes) -> None:
        """Store a file."""

    def get(self, name: str) -> bytes | Path | None:
        """Return the bytes or the path of a file, or None if there is none."""


class MemoryBlobStore:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store a file."""
        self._files[name] = data

    def get(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None if there is none."""
        return self._files.get(name)


class FolderBlobStore:
    """Files in a folder, each written atomically.

    :param folder: created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """Store a file."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, self.path(name))

    def get(self, name: str) -> Path | None:
        """Return the path of a file, or None if there is none."""
        if not _NAME.match(name):
            return None
        path = self.path(name)
        return path if path.is_file() else None

    def path(self, name: str) -> Path:
        """Return the path for a file name, whether or not it exists."""
        return self.folder / name
