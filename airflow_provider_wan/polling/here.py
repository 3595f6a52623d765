# SPDX-License-Identifier: Apache-2.0
"""Runs a wait in a thread that has no event loop of its own, such as a worker's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_here(wait: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it to its end; where a loop runs in this thread already (a notebook), in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()
