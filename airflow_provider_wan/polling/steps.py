# SPDX-License-Identifier: Apache-2.0
"""Long computations in small steps, so that an event loop can turn to others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def at_once(steps: Generator[None, None, T]) -> T:
    """Make all steps. :return: what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as made:
            result: T = made.value
            return result


async def in_between(steps: Generator[None, None, T]) -> T:
    """Make one step each time that the loop comes round. :return: what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as made:
            result: T = made.value
            return result
        await asyncio.sleep(0)
