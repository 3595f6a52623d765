# SPDX-License-Identifier: Apache-2.0
"""Computations in small steps, so that an event loop can do something else between them."""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def run_to_end(steps: Generator[None, None, T]) -> T:
    """Run a stepwise computation without interruption.

    :returns: its result.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@types.coroutine
def run_cooperatively(steps: Generator[None, None, T]) -> Generator[None, None, T]:
    """Await a stepwise computation with one step per iteration of asyncio's event loop.

    :returns: its result.
    """
    # A bare yield lets the loop run once, as asyncio.sleep(0) does.
    return (yield from steps)
