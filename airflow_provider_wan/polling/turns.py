# SPDX-License-Identifier: Apache-2.0
"""The rate of a connection: who may send a status request now, among all threads and loops of a process."""

from __future__ import annotations

import threading
from collections.abc import Hashable

# How much further apart than the rate asks: one that is held up on its way must not arrive together with the next.
MARGIN = 1.05
# Clocks and timers are that coarse, as a share of the space between two.
_COARSE = 0.01


class Turns:
    """Lets requests begin one by one, evenly, never in bursts: not even after a while in which nobody asked."""

    def __init__(self) -> None:
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, now: float, per_second: float) -> float:
        """
        Take a turn, if it has come. A turn that is not used is lost.

        :param now: seconds of a clock that only goes forward.
        :return: 0.0 where it is taken; otherwise the seconds after which to try again.
        """
        space = MARGIN / per_second
        with self._lock:
            left = self._next - now
            if left > _COARSE * space:
                return left
            self._next = now + space
            return 0.0


_turns: dict[Hashable, Turns] = {}


def turns_of(key: Hashable) -> Turns:
    """Return the turns of a connection; they outlive whoever takes them."""
    return _turns.setdefault(key, Turns())
