# SPDX-License-Identifier: Apache-2.0
"""The hook as triggers get it, without holding up the triggerer's loop."""

from __future__ import annotations

import asyncio
import gc
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_wan import metrics

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook


async def hook_of(wan_conn_id: str) -> WanHook:
    """
    Return the hook; what it and its client import would hold up the triggerer's loop, and is imported beside it.

    Those that waited for that go on one by one, and not all in one step of the loop.
    """
    async with _gates.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if not _imported:
            await asyncio.to_thread(_import)
    from airflow_provider_wan.hooks.wan import WanHook

    return WanHook(wan_conn_id)


def _import() -> None:
    # Airflow's own few 100,000 objects stay: to go through them again for each few thousand triggers that come
    # or end, or for what is imported now, holds the loop up for 0.1 s and more.
    gc.freeze()
    for name in ("aiohttp", "airflow_provider_wan.hooks.wan", "airflow_provider_wan.api.aio"):
        import_module(name)
    metrics.prepare()
    gc.freeze()
    _imported.append(True)


_imported: list[bool] = []
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
