# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanError, WanInDoubtError, WanLookupError, WanValidationError
from airflow_provider_wan.batch.checkpoint import InFlightRecord
from airflow_provider_wan.batch.manifest import ListManifest
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.report import write_report
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.batch.rows import InvalidRow, Item, parse_row, parse_row_range
from airflow_provider_wan.batch.run import merge_ranges
from tests.unit.batch.conftest import Batch


def read_all(run: Any) -> list[Any]:
    found = []
    while (row := run.next_row()) is not None:
        found.append(row)
    return found


def test_rows_are_items_duplicates_or_rejected(batch: Batch) -> None:
    image = "https://images.example.com/1.png"
    batch.rows = [image, {"image": image, "duration": 7}, image]
    first, invalid, duplicate = read_all(batch.start())

    assert isinstance(first, Item)
    assert (invalid.status, duplicate.status) == (ItemStatus.REJECTED, ItemStatus.DUPLICATE)
    assert "row 1" in duplicate.error


def test_a_name_belongs_to_one_row(batch: Batch) -> None:
    batch.rows = [{"image": f"https://images.example.com/{n}.png", "name": "tom"} for n in (1, 2)]
    _, second = read_all(batch.start())

    assert second.status is ItemStatus.REJECTED
    assert "row 1" in second.error


def test_only_the_selected_rows_are_read(batch: Batch) -> None:
    batch.add_rows(9)
    run = batch.start(rows=(3, 5))

    assert [row.row for row in read_all(run)] == [3, 4, 5]
    assert run.total_rows == 3


def test_requests_in_flight_that_no_row_asks_for_any_more_are_reported(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    batch.add_rows(3)
    batch.execute(batch.start(), deferrable=True)
    lost = {record.request_id for record in batch.api.records if record.request_id.startswith("r")}
    batch.rows = ["https://images.example.com/1.png", "https://images.example.com/9.png"]
    for _ in range(2):  # a second failed try must not forget them
        run = batch.start()
        read_all(run)
        fingerprint = next(iter(run.unclaimed))
        run.save((), clean=True)
    assert {each.request_id for each in run.unclaimed.values()} == lost

    run.record_result(ItemResult(1, None, ItemStatus.ARCHIVED, fingerprint=fingerprint), transient=False)
    summary, _ = write_report(run, batch.clock(), max_failed_fraction=1.0)

    result = summary.as_result()
    assert result["unclaimed"] == 2
    lines = run.context.store.get("unclaimed.jsonl").splitlines()
    assert {json.loads(line)["request_id"] for line in lines} < lost
    assert f"wan-provider harvest --ledger {batch.ledger_store.uri}" in caplog.text
    assert result["unclaimed_uri"].endswith("unclaimed.jsonl")


def test_requests_that_timed_out_are_reported_too_when_no_row_asks_for_them_any_more(batch: Batch) -> None:
    batch.add_rows(2)
    run = batch.build_run()
    run.start(batch.clock() + 30.0)
    batch.execute(run)
    write_report(run, batch.clock(), max_failed_fraction=0.0)
    batch.start().save((), clean=True)  # a try that comes to no row must not forget them
    batch.rows = ["https://images.example.com/9.png"]
    run = batch.start()

    assert {each.request_id for each in run.unclaimed.values()} == {"r1", "r2"}


@pytest.mark.parametrize("fingerprint", [None, "f2"], ids=["removed", "changed"])
def test_a_paid_request_whose_image_changed_or_was_removed_is_reported(batch: Batch, fingerprint: str | None) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)  # and then the worker is killed
    run = batch.start()
    read_all(run)
    assert not run.unclaimed
    run.record_result(ItemResult(1, None, ItemStatus.REJECTED, fingerprint=fingerprint), transient=True)
    run.save((), clean=True)

    assert [each.request_id for each in batch.start().unclaimed.values()] == ["r1"]


def test_an_unclaimed_request_whose_clip_another_task_archived_is_not_reported(batch: Batch) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)
    batch.rows = ["https://images.example.com/9.png"]  # as after a clear of the task that maps this one
    run = batch.start()
    (fingerprint,) = run.unclaimed
    run.context.ledger.record_archive(fingerprint, "r1", "s3://b/1.mp4", "abc")
    summary, _ = write_report(run, batch.clock(), max_failed_fraction=1.0)

    assert summary.unclaimed == 0


def test_requests_that_a_killed_process_sent_after_its_last_checkpoint_are_reported(batch: Batch) -> None:
    class KilledError(BaseException):
        pass

    def kill() -> None:
        if len(batch.api.posts) == 2:
            raise KilledError

    def finish() -> None:
        for record in list(batch.api.records):
            if record.request_id in ("r1", "r3"):
                batch.api.turn(record.request_id, "success")

    batch.add_rows(2)
    batch.clock.on_sleep = kill
    with pytest.raises(KilledError):
        batch.execute(batch.start())
    checkpoint = batch.start().context.store.read()
    assert checkpoint is not None
    assert checkpoint.in_flight == ()
    assert sorted(each.request_id for each in checkpoint.unmatched) == ["r1", "r2"]
    batch.rows = [*batch.rows[:1], "https://images.example.com/9.png"]
    batch.clock.on_sleep = finish
    run = batch.start()
    batch.execute(run)
    summary, error = write_report(run, batch.clock(), max_failed_fraction=0.0)

    assert error is None
    assert (summary.unclaimed, [each.request_id for each in run.unclaimed.values()]) == (1, ["r2"])


def test_a_submission_in_doubt_that_no_row_asks_for_any_more_is_reported(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    batch.add_rows(1)
    batch.api.answers = [WanInDoubtError("no response")]
    batch.api.list_error = WanLookupError("no list")
    run = batch.start()
    batch.execute(run)
    assert batch.results(run)[1].status is ItemStatus.IN_DOUBT
    batch.rows = []
    run = batch.start()
    batch.execute(run)
    summary, error = write_report(run, batch.clock(), max_failed_fraction=0.0)

    assert (summary.unclaimed, error) == (1, None)
    (line,) = map(json.loads, run.context.store.get("unclaimed.jsonl").splitlines())
    assert (line["request_id"], line["cost"]) == (None, 0.5)
    assert "may be paid for. `wan-provider reconcile --ledger" in caplog.text
    assert line["fingerprint"] in caplog.text


def test_rows_that_a_stopped_try_did_not_reach_may_still_ask_for_such_requests(batch: Batch) -> None:
    batch.add_rows(1)
    run = batch.start()
    run.stopped_by = WanError("no credit")
    run._unmatched["f"] = InFlightRecord(0, "r9", "f", 1.0, 0.5, True)
    write_report(run, batch.clock(), max_failed_fraction=0.0)

    assert run.unclaimed == {}
    assert [each.request_id for each in batch.start().context.store.read().unmatched] == ["r9"]


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_an_unclaimed_request_that_is_not_charged_is_not_reported(batch: Batch, ending: str) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)
    batch.rows = ["https://images.example.com/9.png"]
    run = batch.start()
    (fingerprint,) = run.unclaimed
    run.context.ledger.record_result(fingerprint, batch.api.turn("r1", ending))
    summary, _ = write_report(run, batch.clock(), max_failed_fraction=1.0)

    assert summary.unclaimed == 0


def test_a_clip_that_is_archived_in_the_end_is_not_reported(batch: Batch) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)
    (record,) = batch.start().context.store.read().awaited
    run = batch.start()
    read_all(run)
    archived = ItemResult(1, None, ItemStatus.ARCHIVED, archive_uri="s3://b/1.mp4", fingerprint=record.fingerprint)
    run.record_result(archived, transient=False)
    run.save((), clean=True)
    batch.rows = ["https://images.example.com/9.png"]

    assert not batch.start().unclaimed


def test_a_result_replaces_the_one_that_a_killed_process_wrote_after_its_last_checkpoint(batch: Batch) -> None:
    batch.add_rows(1)
    for _ in range(6):  # the names of parts end in random digits
        run = batch.start()
        stale = ItemResult(1, None, ItemStatus.FAILED, error="of the killed process")
        run.context.store.write_part(run.context.manifest.identity(), 1, [stale])
        run = batch.start()
        run.record_result(ItemResult(1, None, ItemStatus.LOST), transient=False)
        run.save((), clean=True)

        assert batch.results(run)[1].status is ItemStatus.LOST
        run.context.store.delete_parts()
        batch.s3.objects.clear()


def test_the_picture_of_another_manifests_row_is_not_shown(batch: Batch) -> None:
    batch.add_rows(2)
    run = batch.start()
    run.context.store.put("stills/1.jpg", b"of the first manifest", "image/jpeg")
    assert batch.start().context.store.get("stills/1.jpg")
    batch.add_rows(1)

    assert batch.start().context.store.get("stills/1.jpg") is None


def test_a_row_whose_clip_is_gone_since_is_read_again(batch: Batch) -> None:
    batch.add_rows(2)
    run = batch.start()
    read_all(run)
    for row in (1, 2):
        run.record_result(ItemResult(row, None, ItemStatus.ARCHIVED, seconds=5), transient=False)
    run.save((), clean=True)
    batch.archiver.missing = {2}

    assert [found.row for found in read_all(batch.start())] == [2]


def test_the_next_try_keeps_final_results_and_reads_the_others_again(batch: Batch) -> None:
    batch.add_rows(4)
    run = batch.start()
    read_all(run)
    run.record_result(ItemResult(2, None, ItemStatus.ARCHIVED, seconds=5), transient=False)
    run.record_result(ItemResult(3, None, ItemStatus.FAILED), transient=True)
    run.save((), clean=True)

    again = batch.start()

    assert [row.row for row in read_all(again)] == [1, 3, 4]
    assert (again.counts.archived, again.items) == (1, 4)


def test_a_clip_that_an_earlier_try_paid_for_is_that_of_its_row_in_the_next_one_too(
    batch: Batch, make_item: Callable[..., PreparedItem]
) -> None:
    batch.add_rows(2)
    run = batch.start()
    read_all(run)
    item = make_item(row=2)
    run.record_result(item.build_result(ItemStatus.ARCHIVED, cost=0.5), transient=False)
    run.save((), clean=True)
    again = batch.start()

    assert not again.is_first_row(replace(item, item=replace(item.item, row=1)))
    assert again.is_first_row(item)


def test_another_manifest_starts_from_the_beginning(batch: Batch) -> None:
    batch.add_rows(2)
    run = batch.start()
    run.record_result(ItemResult(1, None, ItemStatus.ARCHIVED), transient=False)
    run.save((), clean=True)
    batch.add_rows(3)

    assert batch.build_run().resume() is False
    assert [row.row for row in read_all(batch.start())] == [1, 2, 3]


def test_the_reason_of_a_stop_survives_a_deferral_cycle(batch: Batch) -> None:
    batch.add_rows(2)
    run = batch.start()
    run.stopped_by = WanError("no credit")
    run.save((), clean=True)

    again = batch.build_run()

    assert again.resume()
    assert str(again.stopped_by) == "no credit"
    assert again.scheduler.stopped


def test_open_rows_come_first_after_a_deferral_cycle(batch: Batch) -> None:
    batch.add_rows(4)
    run = batch.start()
    for _ in range(3):
        run.next_row()
    run.save([2], clean=True)

    again = batch.build_run()
    assert again.resume()

    assert [row.row for row in read_all(again)] == [2, 4]


def list_image_urls(*numbers: int) -> list[str]:
    return [f"https://images.example.com/{number}.png" for number in numbers]


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 2), (1,)], ids=["inserted", "replaced", "removed"])
def test_no_row_gets_the_clip_of_another_one_if_the_manifest_is_replaced_while_it_is_read(
    batch: Batch, numbers: tuple[int, ...]
) -> None:
    before, after = (ListManifest(list_image_urls(*each)) for each in ((1, 3), numbers))
    batch.rows = before.items
    batch.execute(batch.start(), deferrable=True)
    manifest = SimpleNamespace(identity=before.identity, rows=after.rows, description="a file", uri=None)

    run = batch.build_run(manifest=manifest)
    assert run.resume()
    images = {each.request_id: each.item.item.image.text for each in run.scheduler.in_flight.values()}
    batch.execute(run)
    run.find_unclaimed()

    assert images == {"r1": list_image_urls(1)[0]}
    requests = {row: result.request_id for row, result in batch.results(run).items()}
    expected = {1: "r1", 2: "r3", 3: "r2"}
    assert requests == {row: expected[row] for row in range(1, len(numbers) + 1)}
    assert {each.request_id for each in run.unclaimed.values()} == ({"r2"} if len(numbers) < 3 else set())


def test_a_request_whose_row_is_invalid_by_the_rules_of_a_newer_version_is_reported(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.add_rows(2)
    batch.execute(batch.start(), deferrable=True)

    def parse(raw: Any, defaults: Any) -> Any:
        return InvalidRow(2, None, "is refused") if raw.number == 2 else parse_row(raw, defaults)

    monkeypatch.setattr("airflow_provider_wan.batch.run.parse_row", parse)
    run = batch.build_run()
    assert run.resume()
    batch.execute(run)
    run.find_unclaimed()

    assert batch.results(run)[2].status is ItemStatus.REJECTED
    assert [each.request_id for each in run.unclaimed.values()] == ["r2"]


def test_a_checkpoint_says_how_much_of_the_budget_is_used(batch: Batch) -> None:
    batch.add_rows(1)
    run = batch.start(max_cost=10.0)
    batch.execute(run, deferrable=True)

    checkpoint = run.context.store.read()
    assert checkpoint is not None
    assert (checkpoint.spent, checkpoint.max_cost) == (0.5, 10.0)


def test_consecutive_rows_are_merged_into_ranges() -> None:
    assert merge_ranges([5, 1, 2, 3, 9, 8]) == ((1, 3), (5, 5), (8, 9))


@pytest.mark.parametrize("value", [[1, 500], (1, 500), "[1, 500]", "(1, 500)", " [1, 500]\n"])
def test_a_range_of_rows_may_be_the_text_that_a_template_renders_to(value: Any) -> None:
    assert parse_row_range(value) == (1, 500)


@pytest.mark.parametrize("value", [[0, 5], [5, 1], [1], "1-5", "[1, x]", "[1]", [1, "5"], [1, True], 7, "None"])
def test_an_invalid_range_of_rows_is_refused(value: Any) -> None:
    with pytest.raises(WanValidationError, match="rows="):
        parse_row_range(value)
