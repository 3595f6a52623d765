# SPDX-License-Identifier: Apache-2.0
"""Load the hook for triggers without blocking the triggerer's event loop."""

from __future__ import annotations

import asyncio
import gc
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_wan import metrics

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook


async def load_hook(wan_conn_id: str) -> WanHook:
    """Return the hook of a connection. The first call imports its modules in a thread.

    Callers that waited for the import continue one by one, not all in one iteration of the loop.

    :param wan_conn_id: id of a connection of type ``wan``.
    """
    async with _import_locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if not _imported:
            await asyncio.to_thread(_import_modules)
    from airflow_provider_wan.hooks.wan import WanHook

    return WanHook(wan_conn_id)


def _import_modules() -> None:
    # Airflow's own few 100,000 objects stay alive: traversing them again for every few thousand triggers that come
    # or end, or for what is imported now, blocks the loop for 0.1 s and more.
    gc.freeze()
    for name in ("aiohttp", "airflow_provider_wan.hooks.wan", "airflow_provider_wan.api.async_client"):
        import_module(name)
    metrics.initialize()
    gc.freeze()
    _imported.append(True)


_imported: list[bool] = []
_import_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
