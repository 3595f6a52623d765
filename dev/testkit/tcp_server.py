# SPDX-License-Identifier: Apache-2.0
"""Sockets on 127.0.0.1 for tests: one that a thread serves, and one that accepts nothing."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class TcpServer(ABC):
    """A server whose thread accepts connections one after the other, until the context ends.

    :ivar port: port to listen on; 0 for any, which is replaced by the port in use.
    """

    port: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._handle(connection)

    @abstractmethod
    def _handle(self, connection: socket.socket) -> None:
        """Serve one connection, and close it."""


@contextmanager
def unreachable_address() -> Iterator[tuple[str, int]]:
    """Yield an address whose queue of connections is full: a connection is neither accepted nor refused."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()
        for filler in fillers:
            filler.close()
