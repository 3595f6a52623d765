# SPDX-License-Identifier: Apache-2.0
"""Airflow's cluster policy: what moves files goes to the worker for transfers, whichever Dag it is in."""

from __future__ import annotations

from typing import Any

__all__ = ["task_policy"]

TRANSFERS = frozenset({"S3ToWanOperator", "WanToS3Operator"})


def task_policy(task: Any) -> None:
    """Route a task by its operator. A queue that its Dag names is left as it is."""
    kind = getattr(task, "task_type", None) or type(task).__name__
    if kind in TRANSFERS and task.queue == "default":
        task.queue = "transfers"
