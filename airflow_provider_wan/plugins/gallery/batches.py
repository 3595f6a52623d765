# SPDX-License-Identifier: Apache-2.0
"""The batches of a run: where their contact sheets are, and how far they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_wan.batch.checkpoint import Checkpoint
from airflow_provider_wan.batch.errors import CheckpointError
from airflow_provider_wan.links.wan import WanSheetLink
from airflow_provider_wan.plugins.gallery.source import s3_client
from airflow_provider_wan.s3.errors import S3ResponseError
from airflow_provider_wan.s3.objects import read_object
from airflow_provider_wan.s3.uri import is_s3_uri, parse_s3_uri

log = logging.getLogger(__name__)

_MAX_CHECKPOINT_BYTES = 20_000_000
_MAX_BATCHES = 20
_SHEET = "/sheet.html"
# A page does not wait for a store: after S3 was away, pages do without progress for this long.
PAUSE_SECONDS = 30.0


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
    query = select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
        XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == WanSheetLink.key
    )
    if task_id is not None:
        query = query.where(XComModel.task_id == task_id)
    if map_index is not None:
        query = query.where(XComModel.map_index == map_index)
    with create_session() as session:
        rows = session.execute(query.order_by(XComModel.task_id, XComModel.map_index).limit(_MAX_BATCHES)).all()
        found = [(row.task_id, row.map_index, XComModel.deserialize_value(row)) for row in rows]
    # Who may edit XComs must not lead readers elsewhere, or to another file of the bucket.
    return [BatchTask(*each) for each in found if is_s3_uri(each[2]) and each[2].endswith(_SHEET)]


class ProgressReader:
    """
    Reads how far batches are.

    :param clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until: float | None = None

    def read(self, batches: Iterable[BatchTask]) -> list[dict[str, Any]]:
        """
        Return how far batches are, by their last checkpoints; without those that can't be read now.

        :param batches: the batches.
        """
        found = []
        for batch in batches:
            if self._is_paused():
                break
            try:
                progress = read_progress(batch)
            except S3ResponseError:
                continue
            except Exception as error:  # whatever it is, the page shows the clips
                log.warning("The progress of %s can't be read: %s", batch.name, type(error).__name__)
                with self._lock:
                    self._paused_until = self._clock() + PAUSE_SECONDS
                break
            if progress is not None:
                found.append(progress)
        return found

    def _is_paused(self) -> bool:
        with self._lock:
            return self._paused_until is not None and self._clock() < self._paused_until


def read_progress(batch: BatchTask) -> dict[str, Any] | None:
    """
    Return how far a batch is, by its last checkpoint; None if there is none that can be read.

    :param batch: the batch.
    :raises botocore.exceptions.BotoCoreError: if S3 does not respond; or another error of the S3 client.
    """
    bucket, sheet = parse_s3_uri(batch.sheet_uri, "sheet_uri")
    body = read_object(s3_client(), bucket, f"{sheet.rpartition('/')[0]}/checkpoint.json", _MAX_CHECKPOINT_BYTES)
    try:
        checkpoint = None if body is None else Checkpoint.from_json(body, batch.sheet_uri)
    except CheckpointError:
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
        "spent": checkpoint.spent,
        "max_cost": checkpoint.max_cost,
    }
