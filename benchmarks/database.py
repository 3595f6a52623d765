# SPDX-License-Identifier: Apache-2.0
"""Puts deferred task instances and their triggers into an Airflow's database, and reads when they were resumed."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

DAG, RUN, TASK = "bench", "run", "wait"


def fill(database: Path, fernet_key: str, classpath: str, arguments: Iterable[Mapping[str, Any]]) -> int:
    """
    Defer one task instance a set of arguments.

    :return: how many.
    """
    fernet = Fernet(fernet_key.encode())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    version = uuid.uuid4().hex
    count = 0
    with sqlite3.connect(database) as db:
        db.execute("INSERT OR IGNORE INTO dag_bundle (name) VALUES ('bench')")
        db.execute(
            "INSERT INTO dag (dag_id, is_paused, is_stale, bundle_name, timetable_type, partition_mapper_info,"
            " max_active_tasks, max_active_runs, max_consecutive_failed_dag_runs, has_task_concurrency_limits)"
            " VALUES (?, 0, 0, 'bench', '', '{}', 16, 16, 0, 0)",
            (DAG,),
        )
        db.execute(
            "INSERT INTO dag_version (id, version_number, dag_id, bundle_name, created_at, last_updated)"
            " VALUES (?, 1, ?, 'bench', ?, ?)",
            (version, DAG, now, now),
        )
        db.execute(
            "INSERT INTO dag_run (dag_id, run_id, run_type, run_after, logical_date, state, log_template_id, queued_at,"
            " start_date) VALUES (?, ?, 'manual', ?, ?, 'running', 2, ?, ?)",
            (DAG, RUN, now, now, now, now),
        )
        for number, each in enumerate(arguments):
            kwargs = fernet.encrypt(json.dumps(each).encode()).decode()
            row = db.execute(
                "INSERT INTO trigger (classpath, kwargs, created_date) VALUES (?, ?, ?)", (classpath, kwargs, now)
            )
            db.execute(
                "INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, try_number, max_tries, pool,"
                " pool_slots, state, trigger_id, dag_version_id, operator, queue, priority_weight, hostname,"
                " context_carrier, start_date, next_method, next_kwargs)"
                " VALUES (?, ?, ?, ?, ?, 1, 0, 'default_pool', 1, 'deferred', ?, ?, 'x', 'default', 1, '', NULL, ?,"
                " 'execute_complete', NULL)",
                (uuid.uuid4().hex, TASK, DAG, RUN, number, row.lastrowid, version, now),
            )
            count += 1
    db.close()
    return count


def resumed(database: Path) -> dict[int, float]:
    """Map index → Unix seconds at which its event was taken by Airflow."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        rows = db.execute("SELECT map_index, updated_at FROM task_instance WHERE state = 'scheduled'").fetchall()
    finally:
        db.close()
    return {index: datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for index, at in rows}


def states(database: Path) -> dict[str, int]:
    """State → how many task instances."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return dict(db.execute("SELECT state, count(*) FROM task_instance GROUP BY state").fetchall())
    finally:
        db.close()
