# SPDX-License-Identifier: Apache-2.0
"""Persistent state: an append-only file of JSON lines that is replayed at the start.

Each line is written before the response that it belongs to is sent, so a sandbox that is killed has lost nothing
that a client knows of. An incomplete last line is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class StateFile:
    """Event log on disk.

    :param path: the file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the complete lines of earlier runs, oldest first, and truncate an incomplete last line."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield json.loads(line)
        os.truncate(self.path, whole)

    def write(self, event: dict[str, Any]) -> None:
        """Append one event."""
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._fd, json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def clear(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
