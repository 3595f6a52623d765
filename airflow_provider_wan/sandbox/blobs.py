# SPDX-License-Identifier: Apache-2.0
"""Where clips, posters and uploads lie: in memory for simulations, in a folder for a server."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class Blobs(Protocol):
    """Files by name."""

    def put(self, name: str, data: bytes) -> None:
        """Keep a file."""

    def get(self, name: str) -> bytes | Path | None:
        """A file's bytes or its path, or None where there is none."""


class MemoryBlobs:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Keep a file."""
        self._files[name] = data

    def get(self, name: str) -> bytes | None:
        """A file's bytes."""
        return self._files.get(name)


class FolderBlobs:
    """Files in a folder, each put there whole.

    :param folder: made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """Keep a file."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, self.path(name))

    def get(self, name: str) -> Path | None:
        """A file's path."""
        if not _NAME.match(name):
            return None
        path = self.path(name)
        return path if path.is_file() else None

    def path(self, name: str) -> Path:
        """Where a file of that name lies, or will."""
        return self.folder / name
