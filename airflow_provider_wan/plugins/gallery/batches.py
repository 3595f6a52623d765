# SPDX-License-Identifier: Apache-2.0
"""The batches of a run: where their contact sheets are, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_wan.batch.checkpoint import Checkpoint
from airflow_provider_wan.batch.errors import CheckpointError
from airflow_provider_wan.links.wan import WanSheetLink
from airflow_provider_wan.plugins.gallery.source import s3_client
from airflow_provider_wan.s3.errors import S3_ERRORS
from airflow_provider_wan.s3.objects import read_object
from airflow_provider_wan.s3.uri import split_s3_uri

_MAX_CHECKPOINT_BYTES = 20_000_000
_MAX_BATCHES = 20


@dataclass(frozen=True)
class BatchTask:
    """
    A task instance that has begun a batch.

    :param sheet_uri: ``s3://`` URI of its contact sheet.
    """

    task_id: str
    map_index: int
    sheet_uri: str

    @property
    def name(self) -> str:
        """The task's id, with its map index if it has one."""
        return self.task_id if self.map_index < 0 else f"{self.task_id} [{self.map_index}]"


def list_batches(dag_id: str, run_id: str, task_id: str | None = None, map_index: int | None = None) -> list[BatchTask]:
    """Return the batches of a run, or of one of its task instances: those that have stored where their sheet is."""
    query = select(XComModel).where(
        XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == WanSheetLink.key
    )
    if task_id is not None:
        query = query.where(XComModel.task_id == task_id)
    if map_index is not None:
        query = query.where(XComModel.map_index == map_index)
    with create_session() as session:
        rows = session.scalars(query.order_by(XComModel.task_id, XComModel.map_index).limit(_MAX_BATCHES)).all()
        return [BatchTask(row.task_id, row.map_index, str(XComModel.deserialize_value(row))) for row in rows]


def read_progress(batch: BatchTask) -> dict[str, Any] | None:
    """Return how far a batch is, by its last checkpoint; None if there is none that can be read now."""
    bucket, sheet = split_s3_uri(batch.sheet_uri)
    key = f"{sheet.rpartition('/')[0]}/checkpoint.json"
    try:
        body = read_object(s3_client(), bucket, key, _MAX_CHECKPOINT_BYTES)
        checkpoint = None if body is None else Checkpoint.from_json(body, batch.sheet_uri)
    except (*S3_ERRORS, OSError, CheckpointError):
        return None
    if checkpoint is None:
        return None
    return {
        "name": batch.name,
        "done": sum(checkpoint.counts.by_status.values()),
        "archived": checkpoint.counts.by_status.get("archived", 0),
        "total": checkpoint.total_rows,
        "in_flight": len(checkpoint.in_flight),
        "ended": checkpoint.done,
    }
