# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from airflow_provider_wan.api.errors import (
    WanAuthError,
    WanClipTimeoutError,
    WanCreditError,
    WanLookupError,
    WanRateLimitError,
    WanResultError,
)
from airflow_provider_wan.api.record import RequestPage, RequestStatus
from airflow_provider_wan.batch.engine import MAX_ATTEMPTS, EndOfCycle, poll_requests
from airflow_provider_wan.batch.results import ItemStatus
from airflow_provider_wan.ledger import LedgerUnavailableError
from dev.testkit.ledger import Api
from tests.unit.batch.conftest import Batch


def finish_all(batch: Batch) -> None:
    for record in list(batch.api.records):
        if not record.status.is_terminal:
            batch.api.turn(record.request_id, "success")


def statuses(batch: Batch, run: Any) -> list[str]:
    return [result.status.value for _, result in sorted(batch.results(run).items())]


def test_every_row_is_submitted_once_and_archived(batch: Batch) -> None:
    batch.add_rows(10)
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start()

    assert batch.execute(run) is None

    assert statuses(batch, run) == ["archived"] * 10
    assert (len(batch.api.posts), run.budget.spent) == (10, 5.0)


def test_no_more_than_the_limit_are_in_flight_at_the_end_of_a_cycle(batch: Batch) -> None:
    batch.add_rows(10)

    end = batch.execute(batch.start(), deferrable=True)

    assert isinstance(end, EndOfCycle)
    assert sorted(end.request_ids) == ["r1", "r2", "r3", "r4"]
    assert end.wake_at == pytest.approx(batch.clock() + 3601.0, abs=1.0)  # then the first of them is given up
    assert not end.is_last


def test_the_last_cycle_is_one_after_which_nothing_is_left_to_submit(batch: Batch) -> None:
    batch.add_rows(3)

    end = batch.execute(batch.start(), deferrable=True)

    assert isinstance(end, EndOfCycle)
    assert (len(end.request_ids), end.is_last) == (3, True)


def test_the_next_cycle_continues_from_the_checkpoint_and_pays_nothing_twice(batch: Batch) -> None:
    batch.add_rows(6)
    first = batch.start()
    batch.execute(first, deferrable=True)
    finish_all(batch)
    batch.clock.now += 60.0
    batch.clock.on_sleep = lambda: finish_all(batch)

    run = batch.build_run()
    assert run.resume()
    assert batch.execute(run) is None

    assert statuses(batch, run) == ["archived"] * 6
    assert (len(batch.api.posts), run.budget.spent, run.cycles) == (6, 3.0, 1)


def test_an_invalid_row_is_rejected_and_the_others_continue(batch: Batch) -> None:
    batch.add_rows(3)
    batch.preparer.invalid = {2}
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["archived", "rejected", "archived"]
    assert len(batch.api.posts) == 2


def test_fail_fast_submits_nothing_more(batch: Batch) -> None:
    batch.add_rows(50)
    batch.preparer.invalid = {1}
    run = batch.start(fail_fast=True)
    batch.clock.on_sleep = lambda: finish_all(batch)
    batch.execute(run)

    assert "row 1 is rejected" in str(run.stopped_by)
    assert len(batch.api.posts) < 50
    assert run.skipped > 0


def test_the_budget_leaves_rows_to_another_try(batch: Batch) -> None:
    batch.add_rows(5)
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start(max_cost=1.0)
    batch.execute(run)

    assert (len(batch.api.posts), run.budget.spent, run.skipped) == (2, 1.0, 3)
    assert statuses(batch, run) == ["archived"] * 2


@pytest.mark.parametrize("error", [WanCreditError("no credit"), WanAuthError("refused")])
def test_an_error_of_the_account_stops_the_batch_and_leaves_the_row_open(batch: Batch, error: Exception) -> None:
    batch.add_rows(3)
    batch.api.answers = [error]
    run = batch.start()
    batch.execute(run)

    assert run.stopped_by is error
    assert len(batch.api.posts) == 1
    assert (run.skipped, run.budget.spent) == (3, 0.0)


def test_a_429_halves_the_window_and_the_row_is_submitted_later(batch: Batch) -> None:
    batch.add_rows(4)
    batch.api.answers = [WanRateLimitError("429")]
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start(max_in_flight=4)
    sizes = []
    refuse = run.scheduler.refuse

    def record_size(*args: Any, **more: Any) -> None:
        refuse(*args, **more)
        sizes.append(run.scheduler.window.size)

    run.scheduler.refuse = record_size  # type: ignore[method-assign]
    batch.execute(run)

    assert sizes == [2]
    assert statuses(batch, run) == ["archived"] * 4


def test_a_failed_request_is_submitted_again_and_refunded(batch: Batch) -> None:
    batch.add_rows(1)
    failures = 1

    def on_sleep() -> None:
        nonlocal failures
        for record in list(batch.api.records):
            if not record.status.is_terminal:
                batch.api.turn(record.request_id, "failed" if failures else "success", "busy" if failures else None)
                failures = 0

    batch.clock.on_sleep = on_sleep
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["archived"]
    assert (len(batch.api.posts), run.budget.spent) == (2, 0.5)


def test_a_list_that_calls_running_requests_failed_leads_to_no_second_payment(batch: Batch) -> None:
    batch.add_rows(5)
    list_requests = batch.api.list_requests

    def list_as_failed(**given: Any) -> RequestPage:
        page = list_requests(**given)
        failed: dict[str, Any] = {"status": RequestStatus.FAILED, "status_text": "failed", "error": "busy"}
        return replace(page, records=tuple(replace(each, **failed) for each in page.records))

    batch.api.list_requests = list_as_failed  # type: ignore[method-assign]
    sleeps: list[None] = []

    def on_sleep() -> None:
        sleeps.append(None)
        if len(sleeps) > 30:
            finish_all(batch)

    batch.clock.on_sleep = on_sleep
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["archived"] * 5
    assert len(batch.api.posts) == 5


def test_a_permanent_failure_is_final_for_this_try(batch: Batch) -> None:
    batch.add_rows(1)
    batch.clock.on_sleep = lambda: [  # type: ignore[assignment]
        batch.api.turn(record.request_id, "failed", "inappropriate content") for record in batch.api.records
    ]
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["failed"]
    assert (len(batch.api.posts), run.budget.spent, run.counts.can_progress) == (1, 0.0, False)


def test_a_clip_that_cannot_be_archived_is_lost_after_some_attempts_and_its_cost_stays(batch: Batch) -> None:
    batch.add_rows(1)
    batch.archiver.errors = [WanResultError("torn") for _ in range(MAX_ATTEMPTS)]
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["lost"]
    assert (len(batch.api.posts), run.budget.spent) == (1, 0.5)


def test_a_request_that_never_ends_times_out_and_is_left_to_the_next_try(batch: Batch) -> None:
    batch.add_rows(1)
    run = batch.start(item_timeout=60.0)
    batch.execute(run)

    assert statuses(batch, run) == ["timeout"]
    assert batch.api.cancelled == []
    assert run.counts.can_progress


def test_a_checkpoint_that_cannot_be_written_at_the_end_of_a_cycle_is_written_later(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.add_rows(2)
    run = batch.start()
    put, failures = batch.s3.put_object, [EndpointConnectionError(endpoint_url="http://s3")] * 2

    def put_object(**arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return put(**arguments)

    monkeypatch.setattr(batch.s3, "put_object", put_object)
    end = batch.execute(run, deferrable=True)

    assert isinstance(end, EndOfCycle)
    checkpoint = run.context.store.read()
    assert checkpoint is not None
    assert (checkpoint.clean, len(checkpoint.in_flight)) == (True, 2)


def test_a_request_that_the_api_does_not_know_is_named_if_its_image_is_gone_too(batch: Batch) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)
    batch.api.hidden.update(["r1"])
    batch.preparer.invalid = {1}
    run = batch.build_run()
    assert run.resume()
    batch.execute(run)

    assert statuses(batch, run) == ["rejected"]
    assert [each.request_id for each in run.unclaimed.values()] == ["r1"]


def test_a_deferred_batch_is_resumed_when_a_request_has_been_waited_for_long_enough(batch: Batch) -> None:
    batch.add_rows(2)
    end = batch.execute(batch.start(item_timeout=600.0), deferrable=True)

    assert isinstance(end, EndOfCycle)
    assert end.wake_at is not None
    batch.clock.now = end.wake_at
    run = batch.build_run(item_timeout=600.0)
    assert run.resume()
    assert batch.execute(run, deferrable=True) is None
    assert statuses(batch, run) == ["timeout"] * 2


def test_the_next_try_waits_as_long_again_for_a_request_that_timed_out(batch: Batch) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(item_timeout=600.0))
    begin = batch.clock()
    batch.clock.on_sleep = lambda: finish_all(batch) if batch.clock() > begin + 300.0 else None
    run = batch.start(item_timeout=600.0)
    batch.execute(run)

    assert statuses(batch, run) == ["archived"]
    assert len(batch.api.posts) == 1


def test_the_timeout_of_the_try_leaves_requests_in_flight(batch: Batch) -> None:
    batch.add_rows(3)
    run = batch.build_run()
    run.start(batch.clock() + 50.0)
    batch.execute(run)

    assert statuses(batch, run) == ["timeout"] * 3
    assert "3 requests in flight" in str(run.stopped_by)


def test_a_request_that_is_sought_when_the_timeout_expires_is_counted_and_keeps_its_row(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.add_rows(1)
    batch.execute(batch.start(), deferrable=True)
    batch.api.hidden.update(["r1"])
    run = batch.build_run()
    assert run.resume()
    prepare = batch.preparer.prepare

    def prepare_late(item: Any) -> Any:
        batch.clock.now = run.end_time
        return prepare(item)

    monkeypatch.setattr(batch.preparer, "prepare", prepare_late)
    batch.execute(run)

    assert "1 requests in flight" in str(run.stopped_by)
    row = batch.results(run)[1]
    assert (row.status, row.request_id, row.cost, row.reused) == (ItemStatus.TIMEOUT, "r1", 0.5, False)
    assert (run.skipped, run.unclaimed, run.budget.spent) == (0, {}, 0.5)


def test_a_request_that_the_api_does_not_know_is_waited_for_and_never_paid_again(batch: Batch) -> None:
    batch.add_rows(1)
    batch.clock.on_sleep = lambda: batch.api.hidden.update(["r1"])
    run = batch.start()
    batch.execute(run)

    assert statuses(batch, run) == ["timeout"]
    assert len(batch.api.posts) == 1


def test_equal_clips_are_paid_for_once(batch: Batch) -> None:
    batch.rows = [
        {"image": "https://images.example.com/1.png", "name": "a"},
        {"image": "https://images.example.com/1.png", "name": "b"},
        {"image": "https://images.example.com/1.png", "name": "a"},
    ]
    batch.clock.on_sleep = lambda: finish_all(batch)
    run = batch.start()
    batch.execute(run)

    results = batch.results(run)
    assert [results[row].status for row in (1, 2, 3)] == [
        ItemStatus.ARCHIVED,
        ItemStatus.ARCHIVED,
        ItemStatus.DUPLICATE,
    ]
    assert sorted(results[row].cost or 0.0 for row in (1, 2)) == [0.0, 0.5]
    assert len(batch.api.posts) == 1


# --- polls --------------------------------------------------------------------------------------
@pytest.fixture
def api() -> Api:
    api = Api()
    for number in range(250):
        api.add({"n": number}, "success" if number % 2 else "queued", video_url="https://h/x.mp4")
    return api


def test_few_requests_are_polled_one_by_one(api: Api) -> None:
    scan = poll_requests(api, "m", ["r1", "r2"], max_polls=10)

    assert set(scan.records) == {"r1", "r2"}
    assert api.pages == []


def test_many_requests_are_polled_by_pages(api: Api) -> None:
    wanted = [f"r{number}" for number in range(100, 251)]

    scan = poll_requests(api, "m", wanted, max_polls=50)

    assert set(scan.records) == set(wanted)
    assert (len(api.pages), scan.polls) == (2, 2)


def test_requests_that_no_page_shows_are_polled_one_by_one_within_the_limit(api: Api) -> None:
    api.serve_page = lambda limit, offset: Api().list_requests()

    scan = poll_requests(api, "m", [f"r{number}" for number in range(1, 30)], max_polls=11)

    assert (len(scan.records), scan.polls) == (10, 11)


def test_an_error_of_the_list_does_not_end_the_scan(api: Api) -> None:
    api.list_error = WanLookupError("500")

    scan = poll_requests(api, "m", ["r1", "r2", "r3", "r4"], max_polls=10)

    assert len(scan.records) == 4
    assert isinstance(scan.error, WanLookupError)


def test_a_success_without_its_file_is_polled_again(api: Api) -> None:
    bare = api.add({}, "success")

    scan = poll_requests(api, "m", [bare.request_id, "r1", "r2", "r3"], max_polls=10)

    assert scan.polls > 1
    assert bare.request_id in scan.records


def test_an_unknown_request_is_reported(api: Api) -> None:
    assert poll_requests(api, "m", ["none", "r1"], max_polls=10).unknown == {"none"}


def test_a_key_that_may_not_list_but_look_up_polls_each_request(api: Api) -> None:
    records = [api.add({}) for _ in range(5)]
    api.list_error = WanAuthError("403")

    scan = poll_requests(api, "m", [record.request_id for record in records], max_polls=10)

    assert sorted(scan.records) == sorted(record.request_id for record in records)
    assert scan.error is None


def test_a_refused_poll_ends_the_scan_but_not_the_batch(batch: Batch) -> None:
    batch.add_rows(2)
    refusals = [WanAuthError("401")] * 5
    get_request = batch.api.get_request

    def refuse(request_id: str) -> Any:
        if refusals:
            raise refusals.pop()
        return get_request(request_id)

    batch.api.get_request = refuse  # type: ignore[method-assign]
    batch.clock.on_sleep = lambda: finish_all(batch) if not refusals else None
    run = batch.start()

    assert batch.execute(run) is None

    assert statuses(batch, run) == ["archived"] * 2
    assert run.stopped_by is None


def test_a_long_retry_after_for_one_item_does_not_idle_the_batch(batch: Batch) -> None:
    batch.add_rows(6)
    batch.api.answers = [WanRateLimitError("429", retry_after=600.0)]
    batch.clock.on_sleep = lambda: finish_all(batch)
    run, began = batch.start(), batch.clock()
    made_at: list[float] = []
    submit = batch.api.submit

    def note(request: Any) -> Any:
        record = submit(request)
        made_at.append(batch.clock() - began)
        return record

    batch.api.submit = note  # type: ignore[method-assign]

    assert batch.execute(run) is None

    assert statuses(batch, run) == ["archived"] * 6
    assert sum(moment < 120 for moment in made_at) == 5  # the others did not wait for the one that was refused
    assert max(made_at) >= 600


def test_each_clip_that_ends_has_one_line_with_its_row_and_image(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    batch.add_rows(2)

    with caplog.at_level("INFO", logger="airflow_provider_wan.batch.engine"):
        batch.clock.on_sleep = lambda: finish_all(batch)
        batch.execute(batch.start())

    lines = [record.getMessage() for record in caplog.records if "is archived" in record.getMessage()]
    assert [line.split(" is ")[0] for line in sorted(lines)] == [
        f"Row {row} (https://images.example.com/{row}.png)" for row in (1, 2)
    ]


class TestLedgerOutage:
    """The ledger is unavailable for some minutes."""

    def break_ledger(self, batch: Batch, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        read, until = batch.ledger_store.read, batch.clock() + seconds

        def fail(fingerprint: str) -> Any:
            if batch.clock() < until:
                raise LedgerUnavailableError("S3 is away")
            return read(fingerprint)

        monkeypatch.setattr(batch.ledger_store, "read", fail)

    @pytest.mark.parametrize("seconds", [30.0, 1200.0])
    def test_rows_wait_for_it_and_are_submitted_once(
        self, batch: Batch, monkeypatch: pytest.MonkeyPatch, seconds: float
    ) -> None:
        batch.add_rows(3)
        batch.clock.on_sleep = lambda: finish_all(batch)
        run = batch.start()
        self.break_ledger(batch, monkeypatch, seconds)

        batch.execute(run)

        assert statuses(batch, run) == ["archived"] * 3
        assert (len(batch.api.posts), run.budget.spent, run.stopped_by) == (3, 1.5, None)

    def test_requests_that_end_meanwhile_are_archived_afterwards(
        self, batch: Batch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch.add_rows(3)
        run = batch.start()
        batch.execute(run, deferrable=True)
        finish_all(batch)
        batch.api.turn("r2", "failed", "internal error")
        self.break_ledger(batch, monkeypatch, 600.0)
        batch.archiver.errors = [LedgerUnavailableError("S3 is away")] * 20
        batch.clock.on_sleep = lambda: finish_all(batch)

        batch.execute(run)

        assert statuses(batch, run) == ["archived"] * 3
        assert len(batch.api.posts) == 4

    def test_at_the_deadline_its_rows_are_left_to_the_next_try(
        self, batch: Batch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch.add_rows(2)
        run = batch.start()
        self.break_ledger(batch, monkeypatch, 10_000.0)

        batch.execute(run)

        assert (batch.api.posts, run.skipped) == ([], 2)
        assert isinstance(run.stopped_by, WanClipTimeoutError)


def test_a_checkpoint_that_can_not_be_written_for_a_while_does_not_stop_the_batch(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.add_rows(3)
    run = batch.start()
    store, write = run.context.store, run.context.store.write
    failures: list[Any] = []

    def fail(checkpoint: Any) -> None:
        if not checkpoint.clean and len(failures) < 5:
            failures.append(checkpoint)
            raise EndpointConnectionError(endpoint_url="http://s3")
        write(checkpoint)

    monkeypatch.setattr(store, "write", fail)
    batch.clock.on_sleep = lambda: finish_all(batch) if len(failures) == 5 else None

    batch.execute(run)

    assert statuses(batch, run) == ["archived"] * 3
    assert len(failures) == 5
