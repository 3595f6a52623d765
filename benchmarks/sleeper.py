# SPDX-License-Identifier: Apache-2.0
"""A trigger that does nothing, to measure Airflow's own costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Sleeper(BaseTrigger):
    """Sleeps for a day."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benchmarks.sleeper.Sleeper", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(86400)
        yield TriggerEvent({})
