# SPDX-License-Identifier: Apache-2.0
"""A trigger that does nothing, to measure Airflow's own costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Sleeper(BaseTrigger):
    """
    Sleeps, and fires an event.

    :param seconds: how long it sleeps.
    """

    def __init__(self, seconds: float = 86400.0) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benchmarks.sleeper.Sleeper", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.seconds)
        yield TriggerEvent({})
