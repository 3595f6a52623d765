# SPDX-License-Identifier: Apache-2.0
"""Content that is kept on the local disk while an object refers to it."""

from __future__ import annotations

import os
import tempfile
import weakref


class SpooledContent:
    """Bytes in a temporary file, which is deleted with this object.

    :param data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="wan-")
        weakref.finalize(self, _remove, self._path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    def read(self) -> bytes:
        """Return the bytes."""
        with open(self._path, "rb") as file:
            return file.read()


def _remove(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
