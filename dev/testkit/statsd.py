# SPDX-License-Identifier: Apache-2.0
"""A StatsD receiver for Airflow's metrics in the tests."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from types import TracebackType


class Statsd:
    """Sum counters, and store the last value of everything else."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.timings: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Statsd:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An empty datagram ends the thread; closing the socket would not wake it.
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while packet := self._socket.recv(65536):
            for line in packet.decode(errors="replace").splitlines():
                name, _, rest = line.partition(":")
                value, kind = rest.split("|")[:2]
                if kind == "c":
                    self.counters[name] += int(float(value))
                elif kind == "g":
                    self.gauges[name] = float(value)
                else:
                    self.timings[name] = float(value)
