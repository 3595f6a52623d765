# SPDX-License-Identifier: Apache-2.0
"""Ends a batch: the results, the contact sheet, the summary, and the verdict."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable

from airflow_provider_wan.api.errors import WanBudgetError, WanError
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.prepare import SHEET_ROWS
from airflow_provider_wan.batch.results import Row, Summary
from airflow_provider_wan.batch.state import State
from airflow_provider_wan.media import contact_sheet
from airflow_provider_wan.media.contact_sheet import Tile


def finish(state: State, now: float, *, max_failed_fraction: float) -> tuple[Summary, WanError | None]:
    """
    Write what came of a batch.

    :param now: Unix seconds.
    :param max_failed_fraction: how many of the rows may be without a clip, from 0 to 1.
    :return: the summary, and why the batch is not as it should be; None: it is.
    """
    summary = Summary(
        items=state.items,
        counts=dict(state.tally.counts),
        left=state.left_over,
        reused=state.tally.reused,
        video_seconds=state.tally.video_seconds,
        cost=state.budget.spent,
        elapsed=round(now - state.started_at, 1),
        folder=state.setup.journal.uri,
    )
    problem = verdict(state, summary, max_failed_fraction)
    journal = state.setup.journal
    _sheet(state, summary)
    state.merge()
    journal.put("summary.json", json.dumps(summary.as_result(), indent=1).encode(), "application/json")
    state.save((), clean=True, done=problem is None)
    if problem is None:
        journal.forget()
    return summary, problem


def verdict(state: State, summary: Summary, max_failed_fraction: float) -> WanError | None:
    """Say why a batch is not as it should be."""
    tally, told = state.tally, f"Results: {summary.folder}results.jsonl"
    if state.stopped_by is not None:
        message = f"The batch stopped after {tally.counts['archived']} clips: {state.stopped_by}. {told}"
        return WanBatchError(message, state.stopped_by.retryable)
    if summary.left:
        return WanBudgetError(
            f"max_cost=${state.budget.limit or 0:.2f}: ${state.budget.spent:.2f} are spent, and {summary.left} rows "
            f"are left that it does not allow. {tally.counts['archived']} clips are archived. Raise max_cost and clear "
            f"this task: it goes on from there. {told}"
        )
    if tally.bad and tally.bad > max_failed_fraction * state.items:
        return WanBatchError(
            f"{tally.bad} of {state.items} rows have no clip, more than max_failed_fraction={max_failed_fraction:g} "
            f"allows: see {summary.folder}rejected.jsonl. {tally.counts['archived']} clips are archived, and nothing "
            "is paid for them again.",
            tally.passing,
        )
    return None


def _sheet(state: State, summary: Summary) -> None:
    journal = state.setup.journal
    rows = sorted(state.rows(SHEET_ROWS), key=lambda row: row.row)
    tiles = [_tile(row, journal.uri, journal.get) for row in rows]
    more = summary.items - len(tiles)
    title = f"{summary.items} rows, {summary.counts.get('archived', 0)} clips"
    subtitle = (
        f"{state.setup.manifest.shown}  ·  {summary.video_seconds} seconds of video  ·  ${summary.cost:.2f}"
        f"{f'  ·  the first {len(tiles)} are shown' if more > 0 else ''}"
    )
    journal.put("sheet.html", contact_sheet.page(tiles, title=title, subtitle=subtitle), "text/html; charset=utf-8")
    journal.put("sheet.png", contact_sheet.picture(tiles, title=title, subtitle=subtitle), "image/png")


def _tile(row: Row, folder: str, get: Callable[[str], bytes | None]) -> Tile:
    name = posixpath.basename(row.image or "")
    if row.archive_uri is None:
        note = f"{row.status.value}: {row.error or ''}"
    else:
        note = f"{row.seconds} s · {row.resolution} · {'reused' if row.reused else f'${row.cost or 0:.2f}'}"
    still = f"stills/{row.row}.jpg"
    found = get(still)
    return Tile(
        title=f"{row.row}  {name}",
        note=note,
        video=None if row.archive_uri is None else _relative(row.archive_uri, folder),
        poster=still if found else None,
        picture=found,
    )


def _relative(uri: str, folder: str) -> str:
    """Return the way from the sheet to a clip, where they are in one bucket."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    here_bucket, _, here = folder.removeprefix("s3://").partition("/")
    return posixpath.relpath(key, here) if bucket == here_bucket else uri
