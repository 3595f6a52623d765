# SPDX-License-Identifier: Apache-2.0
"""The cancellation of requests when a user kills the task that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_wan.api.record import RequestRecord

# Airflow gives on_kill 30 s by default.
ON_KILL_SECONDS = 20.0


class CancelPolicy(StrEnum):
    """What happens to a request when a user kills its task.

    ``QUEUED`` cancels a request that has not started, which costs nothing. A running request finishes: it is paid
    for, and the next attempt resumes it. ``ALWAYS`` cancels both. ``NEVER`` cancels none.
    """

    QUEUED = "queued"
    ALWAYS = "always"
    NEVER = "never"

    def applies_to(self, record: RequestRecord) -> bool:
        """Return whether a request in this state is to be cancelled."""
        if record.status.is_terminal or self is CancelPolicy.NEVER:
            return False
        return self is CancelPolicy.ALWAYS or record.status.is_waiting


async def was_killed(task_instance: Any) -> bool:
    """Distinguish a user's action from a move to another triggerer, which calls ``on_kill`` too.

    After a move the task is still deferred; a cancellation would destroy a healthy, paid request.

    :param task_instance: the trigger's task instance; ``None`` if there is none.
    :returns: whether a user killed the task.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    ti = task_instance
    if ti is None:
        return False
    get_states: Callable[..., dict[str, Any]] = RuntimeTaskInstance.get_task_states
    map_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
    runs = await asyncio.to_thread(
        get_states, dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index
    )
    # The key of a mapped task is not its id, so only the values are used. A cleared task has none.
    states = [str(state) for tasks in runs.values() for state in tasks.values()]
    return "deferred" not in states
