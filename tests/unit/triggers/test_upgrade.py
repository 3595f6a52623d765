# SPDX-License-Identifier: Apache-2.0
"""Triggers that an older version serialized into Airflow's database are restored by this version."""

from __future__ import annotations

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer

# Never change an entry: a database may still contain it. Add one when the arguments change.
STORED = json.loads((Path(__file__).parent / "fixtures" / "stored_triggers.json").read_text())


def revived(stored: Any, **newer: Any) -> Any:
    module, _, name = stored["classpath"].rpartition(".")
    return getattr(import_module(module), name)(**{**stored["kwargs"], **newer})


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["written_by"])
async def test_a_trigger_of_an_older_version_goes_on_waiting_and_reports_the_end(connection: Any, stored: Any) -> None:
    outcome = {"video_url": "https://s.example.com/a.mp4"}
    answers = [
        wire.answers(200, {"request_id": "r1", "status": status, "outcome": outcome})
        for status in ("processing", "success")
    ]
    with WireServer(answers) as server:
        connection(server.url)
        trigger = revived(stored, end_time=time.time() + 30, poll_interval=0.01)
        (event,) = [each.payload async for each in trigger.run()]

    assert event["status"] in ("success", "enough")
    assert len(server.seen) == 2


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["written_by"])
def test_it_is_written_again_with_what_it_was_given(stored: Any) -> None:
    path, arguments = revived(stored).serialize()

    assert path == stored["classpath"]
    assert {name: arguments[name] for name in stored["kwargs"]} == stored["kwargs"]
