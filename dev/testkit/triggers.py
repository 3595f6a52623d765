# SPDX-License-Identifier: Apache-2.0
"""Triggers as the triggerer runs them."""

from __future__ import annotations

import json
from typing import Any


async def run_trigger(trigger: Any) -> dict[str, Any]:
    """Run a trigger from its serialized form, and return the payload of its event."""
    _, arguments = trigger.serialize()
    fresh = type(trigger)(**json.loads(json.dumps(arguments)))
    async for event in fresh.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")
