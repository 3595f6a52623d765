# SPDX-License-Identifier: Apache-2.0
"""What happens to requests when a user kills the task that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord

# Airflow gives on_kill 30 s by default: what can't be done by then is left alone.
ON_KILL_SECONDS = 20.0


class CancelPolicy(StrEnum):
    """
    What happens to a request when its task is killed by a user.

    ``QUEUED`` cancels what has not begun to run, which costs nothing, and lets what runs finish: it is
    paid for, and the next attempt picks it up. ``ALWAYS`` asks for both. ``NEVER`` leaves all alone.
    """

    QUEUED = "queued"
    ALWAYS = "always"
    NEVER = "never"

    def applies_to(self, record: RequestRecord) -> bool:
        """Whether a request in this state is to be cancelled."""
        if record.status.is_terminal or self is CancelPolicy.NEVER:
            return False
        return self is CancelPolicy.ALWAYS or record.status.is_waiting


async def was_killed(task_instance: Any) -> bool:
    """
    Tell a user's action from a hand-over to another triggerer, which calls ``on_kill`` too.

    After a hand-over the task is still deferred; cancelling would destroy a healthy, paid job.

    :param task_instance: of the trigger; None where there is none.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    ti = task_instance
    if ti is None:
        return False
    find: Callable[..., dict[str, Any]] = RuntimeTaskInstance.get_task_states
    map_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
    runs = await asyncio.to_thread(
        find, dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index
    )
    # A mapped task's key is not its id: the values are what counts. A cleared task has none.
    states = [str(state) for tasks in runs.values() for state in tasks.values()]
    return "deferred" not in states
