# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanBudgetError, WanError
from airflow_provider_wan.batch.report import write_report
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.media import contact_sheet
from tests.unit.batch.conftest import Batch

PREFIX = "out/_batch/x/"


def ended(batch: Batch, *statuses: ItemStatus, transient: bool = False) -> Any:
    batch.add_rows(len(statuses))
    run = batch.start(max_cost=6.0)
    for row, status in enumerate(statuses, 1):
        run.next_row()
        uri = f"s3://b/out/{row}.mp4" if status is ItemStatus.ARCHIVED else None
        run.record_result(
            ItemResult(row, f"s3://b/{row}.png", status, archive_uri=uri, seconds=5, error=uri and "why"),
            transient=transient,
        )
    run.next_row()
    run.save((), clean=True)
    return run


def test_a_complete_batch_has_all_files_and_no_parts(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED, ItemStatus.DUPLICATE)

    summary, error = write_report(run, batch.clock() + 7.0, max_failed_fraction=0.0)

    assert error is None
    assert (summary.items, summary.skipped, summary.video_seconds, summary.elapsed) == (2, 0, 5, 7.0)
    files = {key.removeprefix(PREFIX) for key in batch.s3.objects}
    assert files == {
        "checkpoint.json",
        "results.jsonl",
        "rejected.jsonl",
        "sheet.html",
        "sheet.png",
        "summary.json",
    }
    assert json.loads(batch.s3.objects[f"{PREFIX}summary.json"])["archived"] == 1
    assert json.loads(batch.s3.objects[f"{PREFIX}checkpoint.json"])["done"] is True
    assert b"../../1.mp4" in batch.s3.objects[f"{PREFIX}sheet.html"]


def test_the_sheet_finds_a_clip_whose_name_has_characters_of_urls(batch: Batch) -> None:
    batch.add_rows(1)
    run = batch.start()
    run.next_row()
    uri = "s3://b/out/50% off? #1.mp4"
    run.record_result(ItemResult(1, None, ItemStatus.ARCHIVED, archive_uri=uri, seconds=5), transient=False)
    run.save((), clean=True)
    write_report(run, batch.clock(), max_failed_fraction=0.0)

    assert b'"../../50%25%20off%3F%20%231.mp4"' in batch.s3.objects[f"{PREFIX}sheet.html"]


def test_too_many_rows_without_a_clip_are_an_error_and_the_parts_remain(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED, ItemStatus.FAILED, transient=True)

    _, error = write_report(run, batch.clock(), max_failed_fraction=0.4)

    assert isinstance(error, WanError)
    assert error.retryable
    assert "1 of 2 rows have no clip" in str(error)
    assert any("parts/" in key for key in batch.s3.objects)
    assert len(batch.s3.objects[f"{PREFIX}rejected.jsonl"].splitlines()) == 1


def test_some_rows_without_a_clip_are_allowed(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED, ItemStatus.REJECTED)

    assert write_report(run, batch.clock(), max_failed_fraction=0.5)[1] is None


def test_a_retry_is_useless_if_all_failures_are_permanent(batch: Batch) -> None:
    _, error = write_report(ended(batch, ItemStatus.REJECTED), batch.clock(), max_failed_fraction=0.0)

    assert error is not None
    assert not error.retryable


def test_skipped_rows_are_an_error_of_the_budget(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED)
    run.skip(2)

    summary, error = write_report(run, batch.clock(), max_failed_fraction=1.0)

    assert summary.skipped == 1
    assert isinstance(error, WanBudgetError)
    assert "max_cost=$6.00" in str(error)


def test_the_reason_of_a_stop_comes_first(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED)
    run.skip(2)
    run.stopped_by = WanError("no credit")

    _, error = write_report(run, batch.clock(), max_failed_fraction=1.0)

    assert "stopped after 1 clips: no credit" in str(error)


def test_the_sheet_has_the_prompts_and_when_the_clips_ended(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED, ItemStatus.REJECTED)
    run.record_result(
        ItemResult(3, "s3://b/3.png", ItemStatus.ARCHIVED, cost=0.5, ended_at=batch.clock() + 30), transient=False
    )
    run.context = replace(run.context, defaults={**run.context.defaults, "prompt": "a slow zoom"})
    run.save((), clean=True)

    write_report(run, batch.clock() + 60, max_failed_fraction=1.0)

    page = batch.s3.objects[f"{PREFIX}sheet.html"].decode()
    assert page.count('"prompt": "a slow zoom"') == 2
    assert "1 clips archived" in page


def test_the_results_are_written_even_if_the_sheet_fails(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = ended(batch, ItemStatus.ARCHIVED, ItemStatus.REJECTED)

    def fail(*args: Any, **more: Any) -> bytes:
        raise ValueError("can't be drawn")

    monkeypatch.setattr(contact_sheet, "render_png", fail)

    _, error = write_report(run, batch.clock(), max_failed_fraction=1.0)

    assert error is None
    assert len(batch.s3.objects[f"{PREFIX}results.jsonl"].splitlines()) == 2
    assert f"{PREFIX}summary.json" in batch.s3.objects
    assert json.loads(batch.s3.objects[f"{PREFIX}checkpoint.json"])["done"] is True
    assert "The contact sheet can't be written, the results are complete: can't be drawn" in caplog.text


def test_a_line_break_in_an_image_and_in_a_reason_is_no_problem_of_the_sheet(batch: Batch) -> None:
    run = ended(batch, ItemStatus.ARCHIVED)
    for row, image in ((2, "s3://b/a\nb.jpg"), (3, "s3://b/" + "x" * 4000)):
        run.record_result(ItemResult(row, image, ItemStatus.REJECTED, error="not\nread"), transient=False)
    run.save((), clean=True)

    write_report(run, batch.clock(), max_failed_fraction=1.0)

    page = batch.s3.objects[f"{PREFIX}sheet.html"].decode()
    assert '"title": "2  a b.jpg"' in page
    assert "x" * 201 not in page
    assert f"{PREFIX}sheet.png" in batch.s3.objects
