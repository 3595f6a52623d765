# SPDX-License-Identifier: Apache-2.0
"""The report of a batch: results, contact sheet and summary, and the error with which it ends."""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from airflow_provider_wan.api.errors import WanBudgetError, WanError
from airflow_provider_wan.batch.checkpoint import JSONL, CheckpointStore
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.preparer import SHEET_ROWS
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.batch.run import BatchRun
from airflow_provider_wan.media import contact_sheet
from airflow_provider_wan.media.contact_sheet import Progress, Tile
from airflow_provider_wan.media.source import shorten_address
from airflow_provider_wan.s3.uri import split_s3_uri

log = logging.getLogger(__name__)

#: Number of the first rows on the picture of the contact sheet.
PICTURE_ROWS = 120
#: Steps of the plot of clips and money over time.
PROGRESS_STEPS = 120
_READERS = 8


@dataclass(frozen=True)
class BatchSummary:
    """The figures of a batch, as returned to XCom.

    :param items: rows of the manifest that were read.
    :param counts: of them, by status.
    :param skipped: rows that were not started, because the batch had to stop.
    :param reused: archived clips that this task did not pay for.
    :param video_seconds: seconds of archived video.
    :param cost: US dollars that this task has paid in all its attempts.
    :param elapsed: seconds since the first attempt began.
    :param unclaimed: requests that are paid for, or may be, and that no row asks for any more, because the manifest,
        the arguments or an image changed before their clips were archived.
    :param folder: ``s3://`` prefix of the files.
    """

    items: int
    counts: Mapping[str, int]
    skipped: int
    reused: int
    video_seconds: int
    cost: float
    elapsed: float
    unclaimed: int
    folder: str

    def as_result(self) -> dict[str, Any]:
        """Return JSON values, with a count for each status."""
        values = asdict(self)
        counts = {status.value: int(self.counts.get(status.value, 0)) for status in ItemStatus}
        del values["counts"]
        files = {
            "results": f"{self.folder}results.jsonl",
            "rejected_uri": f"{self.folder}rejected.jsonl",
            "sheet": f"{self.folder}sheet.html",
        }
        if self.unclaimed:
            files["unclaimed_uri"] = f"{self.folder}unclaimed.jsonl"
        return {**values, **counts, **files}


def write_report(run: BatchRun, now: float, *, max_failed_fraction: float) -> tuple[BatchSummary, WanError | None]:
    """Write the report of a batch that has ended.

    :param run: state of the batch.
    :param now: Unix seconds.
    :param max_failed_fraction: fraction of the rows that may be without a clip, from 0 to 1.
    :returns: the summary, and the error with which the batch ends; None: it has succeeded.
    """
    store = run.context.store
    run.find_unclaimed()
    summary = BatchSummary(
        items=run.items,
        counts=dict(run.counts.by_status),
        skipped=run.skipped,
        reused=run.counts.reused,
        video_seconds=run.counts.video_seconds,
        cost=run.budget.spent,
        elapsed=round(now - run.started_at, 1),
        unclaimed=len(run.unclaimed),
        folder=store.uri,
    )
    error = batch_error(run, summary, max_failed_fraction)
    run.write_results()
    try:
        _write_contact_sheet(run, summary, now)
    except Exception as failure:  # it is only for people, and the clips are paid for
        log.warning("The contact sheet can't be written, the results are complete: %s", failure, exc_info=True)
    _report_unclaimed(run, summary)
    store.put("summary.json", json.dumps(summary.as_result(), indent=1).encode(), "application/json")
    run.save((), clean=True, done=error is None)
    if error is None:
        store.delete_parts()
    return summary, error


def batch_error(run: BatchRun, summary: BatchSummary, max_failed_fraction: float) -> WanError | None:
    """Return the error with which a batch ends; None: it has succeeded.

    :param run: state of the batch.
    :param summary: its summary.
    :param max_failed_fraction: fraction of the rows that may be without a clip, from 0 to 1.
    """
    archived, without_clip, results = run.counts.archived, run.counts.without_clip, f"{summary.folder}results.jsonl"
    if run.stopped_by is not None:
        message = f"The batch stopped after {archived} clips: {run.stopped_by}. Results: {results}"
        return WanBatchError(message, run.stopped_by.retryable)
    if summary.skipped:
        return WanBudgetError(
            f"max_cost=${run.budget.limit or 0:.2f}: ${run.budget.spent:.2f} is spent, and {summary.skipped} rows "
            f"are skipped because it does not allow them. {archived} clips are archived. Raise max_cost and clear "
            f"this task: it continues from there. Results: {results}"
        )
    if without_clip and without_clip > max_failed_fraction * run.items:
        return WanBatchError(
            f"{without_clip} of {run.items} rows have no clip, more than max_failed_fraction={max_failed_fraction:g} "
            f"allows: see {summary.folder}rejected.jsonl. {archived} clips are archived, and are not paid for again.",
            run.counts.can_progress,
        )
    return None


def _report_unclaimed(run: BatchRun, summary: BatchSummary) -> None:
    """Name the requests that no row asks for any more: they are paid for, or may be, and their clips in no bucket."""
    if not run.unclaimed:
        return
    found = run.unclaimed.values()
    lines = [
        json.dumps(
            {
                "request_id": each.request_id or None,
                "fingerprint": each.fingerprint,
                "cost": each.cost,
                "row": each.row or None,
            }
        )
        for each in found
    ]
    run.context.store.put("unclaimed.jsonl", "".join(f"{line}\n" for line in lines).encode(), JSONL)
    if ids := [each.request_id for each in found if each.request_id]:
        log.warning(
            "The manifest, the arguments or an image changed before the clips of %d requests were archived, and no row "
            "asks for them any more. They are paid for. Once they have ended, `wan-provider harvest --ledger %s --to "
            "%sunclaimed/` archives them. They are listed in %sunclaimed.jsonl: %s",
            len(ids),
            run.context.ledger.store.uri,
            summary.folder,
            summary.folder,
            ", ".join(ids[:100]),
        )
    if doubtful := [each.fingerprint for each in found if not each.request_id]:
        log.warning(
            "%d submissions got no response, and no row asks for their clips any more: they may be paid for. "
            "`wan-provider reconcile --ledger %s` with the fingerprint searches the API's list for one of them: %s",
            len(doubtful),
            run.context.ledger.store.uri,
            ", ".join(doubtful[:100]),
        )


def _write_contact_sheet(run: BatchRun, summary: BatchSummary, now: float) -> None:
    store = run.context.store
    step = max(1.0, (now - run.started_at) / PROGRESS_STEPS)
    steps = [(0, 0.0)] * PROGRESS_STEPS

    def count(result: ItemResult) -> None:
        if result.status is ItemStatus.ARCHIVED and result.ended_at is not None:
            index = min(max(int((result.ended_at - run.started_at) / step), 0), PROGRESS_STEPS - 1)
            steps[index] = (steps[index][0] + 1, steps[index][1] + (result.cost or 0.0))

    results = run.read_results(SHEET_ROWS, count)
    prompts = run.read_prompts(SHEET_ROWS) if results else {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="wan-sheet") as readers:
        tiles = list(readers.map(lambda result: _build_tile(result, prompts.get(result.row, ""), store), results))
    title = f"{summary.items} rows, {run.counts.archived} clips"
    subtitle = (
        f"{run.context.manifest.description}  ·  {summary.video_seconds} seconds of video  ·  ${summary.cost:.2f}"
        f"{f'  ·  first {len(tiles)} rows' if summary.items > len(tiles) else ''}"
    )
    progress = Progress(step, steps)
    page = contact_sheet.render_html(tiles, title=title, subtitle=subtitle, progress=progress)
    store.put("sheet.html", page, "text/html; charset=utf-8")
    store.put("sheet.png", contact_sheet.render_png(tiles[:PICTURE_ROWS], title=title, subtitle=subtitle), "image/png")


def _build_tile(result: ItemResult, prompt: str, store: CheckpointStore) -> Tile:
    if result.archive_uri is None:
        note = f"{result.status.value}: {result.error or ''}"
    else:
        note = f"{result.seconds} s · {result.resolution} · {'reused' if result.reused else f'${result.cost or 0:.2f}'}"
    return Tile(
        title=f"{result.row}  {shorten_address(posixpath.basename(result.image or ''))}",
        note=note,
        video=None if result.archive_uri is None else _relative_path(result.archive_uri, store.uri),
        picture=store.get(f"stills/{result.row}.jpg"),
        image=result.image,
        prompt=prompt,
        state=result.status.value,
        cost=result.cost or 0.0,
    )


def _relative_path(uri: str, folder: str) -> str:
    """Return the reference from the sheet to a clip, if both are in one bucket; else the URI."""
    (bucket, key), (folder_bucket, folder_key) = split_s3_uri(uri), split_s3_uri(folder)
    # Quoted: a key may have "%", "#" or "?", with which a browser would ask for another one.
    return quote(posixpath.relpath(key, folder_key)) if bucket == folder_bucket else uri
