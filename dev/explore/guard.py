# SPDX-License-Identifier: Apache-2.0
"""Forbid real I/O while histories are played: a call that bypasses the boundaries is a defect of the exploration."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

_FORBIDDEN = frozenset(
    {
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "subprocess.Popen",
        "os.remove",
        "os.rename",
        "os.link",
        "os.mkdir",
        "urllib.Request",
        "sqlite3.connect",
    }
)
_WRITES = os.O_WRONLY | os.O_RDWR
_state = {"on": False, "installed": False}


class RealIoError(AssertionError):
    """Real I/O was attempted without a boundary."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _state["on"]:
        return
    if event in _FORBIDDEN or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
        raise RealIoError(f"{event} {arguments!r}: an I/O call that no boundary covers")


def _no_sleep(seconds: float) -> None:
    raise RealIoError(f"time.sleep({seconds}): a wait that no boundary covers")


@contextmanager
def nothing_real() -> Iterator[None]:
    """Forbid connections, processes, writes to files, and real sleep."""
    if not _state["installed"]:
        sys.addaudithook(_hook)
        _state["installed"] = True
    with patch.object(time, "sleep", _no_sleep):
        _state["on"] = True
        try:
            yield
        finally:
            _state["on"] = False
