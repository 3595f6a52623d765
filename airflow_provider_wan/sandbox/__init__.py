# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the wan2.6-i2v request-queue API: strict, on real sockets, with real MP4 files and injectable faults.

It implements the API's contract independently and shares no code with the provider's client.

    with SandboxServer(api_key="key", speed=60) as sandbox:
        print(sandbox.base_url)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.config import SandboxConfig
    from airflow_provider_wan.sandbox.core import SandboxCore
    from airflow_provider_wan.sandbox.faults import Fault
    from airflow_provider_wan.sandbox.server.thread import SandboxServer

__all__ = ["Fault", "SandboxConfig", "SandboxCore", "SandboxServer"]

_MODULES = {"Fault": "faults", "SandboxConfig": "config", "SandboxCore": "core", "SandboxServer": "server.thread"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
