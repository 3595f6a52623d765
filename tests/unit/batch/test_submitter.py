# SPDX-License-Identifier: Apache-2.0
"""Each result of the ledger's submitter, as the batch's submitter returns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_wan.api.errors import (
    WanAuthError,
    WanBadRequestError,
    WanBudgetError,
    WanCapacityError,
    WanClipFailedError,
    WanConnectError,
    WanCreditError,
    WanError,
    WanInDoubtError,
    WanLookupError,
    WanNotFoundError,
    WanRateLimitError,
    WanUnknownPriceError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemStatus
from airflow_provider_wan.batch.submitter import (
    RETRY_DELAY,
    Accepted,
    AlreadyArchived,
    Deferred,
    Finished,
    ItemSubmission,
    ItemSubmitter,
    NeedsPreparing,
    OverBudget,
    Refused,
    RetryItem,
    StopBatch,
)
from airflow_provider_wan.ledger import (
    Budget,
    EntryState,
    Ledger,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
    RetryLater,
    SubmitResult,
    WaitReason,
)
from airflow_provider_wan.ledger.entry import TaskReference, record_duplicate
from airflow_provider_wan.ledger.stores.base import StoredDocument, StoredEntry
from dev.testkit.ledger import ME, MY_RETRY, NOW, OTHER, a_claim, a_post

RECORD = RequestRecord(request_id="r1", status=RequestStatus.QUEUED, status_text="queued", created_at=NOW)
MakeItem = Callable[..., PreparedItem]


class FakeSubmitter:
    """Reserves, leaves an entry, and returns a result or raises it."""

    def __init__(self, result: Any, *, pays: bool = False, stored: Any = None) -> None:
        self.result = result
        self.pays = pays
        self.requests: list[Any] = []
        store: Any = MemoryStore(stored)
        self.ledger = Ledger(store)

    def try_submit(self, request: Any) -> Any:
        self.requests.append(request)
        if self.pays:
            request.before_pay(a_claim(ME))
            request.reserve(a_claim(ME))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class FreeKeys:
    def check_free(self, item: PreparedItem, claim: Any) -> None:
        pass


class MemoryStore:
    """A ledger of one entry and one budget."""

    def __init__(self, stored: Any = None) -> None:
        self.stored = stored
        self.document: Any = None
        self.was_read: list[str] = []

    def read(self, fingerprint: str) -> Any:
        self.was_read.append(fingerprint)
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored and StoredEntry(self.stored, "1")

    def replace(self, entry: Any, version: str) -> str:
        self.stored = entry
        return version

    def read_document(self, name: str) -> Any:
        return self.document

    def write_document(self, name: str, content: bytes, version: Any) -> str:
        self.document = StoredDocument(content, str(len(content)))
        return str(len(content))


def submit(
    item: PreparedItem,
    result: Any,
    *,
    first_row: bool = True,
    pays: bool = False,
    budget: Any = None,
    stored: Any = None,
) -> ItemSubmission:
    fake: Any = FakeSubmitter(result, pays=pays, stored=stored)
    return build_submitter(fake).submit(item, budget=budget or new_budget(), first_row=first_row)


def build_submitter(fake: Any, *, archiver: Any = None, **more: Any) -> ItemSubmitter:
    return ItemSubmitter(
        fake,
        archiver or FreeKeys(),
        owner=ME,
        scope="run:a",
        prices={"720P": 0.1},
        model="wan2.6-i2v",
        clock=lambda: NOW,
        **more,
    )


def new_budget() -> Budget:
    store: Any = MemoryStore()
    return Budget(store, "task")


def entry(state: EntryState, owner: Any = ME) -> Any:
    return replace(a_post(owner), state=state, request_id="r1", submitted_at=NOW - 5.0)


def test_an_item_without_a_request_or_with_expired_urls_is_prepared_again(make_item: MakeItem) -> None:
    for item in (replace(make_item(), request=None), replace(make_item(), expires_at=NOW + 299.0)):
        assert submit(item, None) == ItemSubmission(item, NeedsPreparing())


def test_a_submission_that_is_paid_is_reserved(make_item: MakeItem) -> None:
    budget = new_budget()
    submission = submit(make_item(), SubmitResult(entry(EntryState.SUBMITTED), RECORD, True), pays=True, budget=budget)

    assert submission.outcome == Accepted(RECORD.request_id, RECORD, NOW - 5.0)
    assert (submission.sent, submission.found, budget.spent) == (True, False, 0.5)
    assert submission.item.paid_here


@pytest.mark.parametrize(
    ("owner", "first_row", "paid_here"),
    [
        (ME, True, True),  # its response was lost, and this process found it in the list
        (MY_RETRY, True, True),  # an earlier process of this task
        (ME, False, False),  # another row of this batch
        (OTHER, True, False),
    ],
)
def test_an_existing_request_is_not_paid_now(make_item: MakeItem, owner: Any, first_row: bool, paid_here: bool) -> None:
    budget = new_budget()
    result = SubmitResult(entry(EntryState.SUBMITTED, owner), RECORD, False)
    submission = submit(make_item(), result, first_row=first_row, budget=budget)

    assert submission.item.paid_here == paid_here
    assert (submission.found, submission.sent, budget.spent) == (True, False, 0.0)


def test_a_duplicate_charge_is_counted(make_item: MakeItem) -> None:
    budget = new_budget()
    charged_twice = record_duplicate(entry(EntryState.SUBMITTED), "r2", 7, NOW)
    submit(make_item(), SubmitResult(charged_twice, RECORD, True), pays=True, budget=budget)

    assert budget.spent == 1.0


def test_an_archived_clip_is_reused(make_item: MakeItem) -> None:
    archived = entry(EntryState.ARCHIVED, OTHER)

    assert submit(make_item(), SubmitResult(archived, None, False)).outcome == AlreadyArchived(archived)


def test_a_clip_that_was_paid_for_and_is_unknown_to_the_api_is_lost(make_item: MakeItem) -> None:
    item = make_item()
    outcome = submit(item, SubmitResult(entry(EntryState.SUCCEEDED), None, False)).outcome

    assert isinstance(outcome, Finished)
    result = outcome.result
    assert (result.status, result.cost, result.request_id, outcome.transient) == (ItemStatus.LOST, 0.5, "r1", False)
    assert "request r1 succeeded and was paid for" in str(result.error)


def test_a_request_that_runs_and_can_not_be_polled_now_is_accepted_since_now_if_nobody_knows_when(
    make_item: MakeItem,
) -> None:
    timeless = replace(entry(EntryState.SUBMITTED), submitted_at=None)

    assert submit(make_item(), SubmitResult(timeless, None, False)).outcome == Accepted("r1", None, NOW)


def test_a_made_clip_whose_record_is_there_is_accepted(make_item: MakeItem) -> None:
    made = SubmitResult(entry(EntryState.SUCCEEDED), RECORD, False)

    assert submit(make_item(), made).outcome == Accepted("r1", RECORD, NOW - 5.0)


def test_a_clip_that_was_not_paid_for_here_is_recorded_as_reused_by_the_task(make_item: MakeItem) -> None:
    given, paid = entry(EntryState.SUBMITTED, OTHER), entry(EntryState.SUBMITTED, ME)
    for stored, paid_now, reuses in ((given, False, [ME.task]), (paid, True, []), (given, True, [])):
        fake: Any = FakeSubmitter(SubmitResult(stored, RECORD, paid_now), stored=stored)
        build_submitter(fake, reference=TaskReference("dag", "run")).submit(
            make_item(), budget=new_budget(), first_row=True
        )
        found = fake.ledger.store.stored.reuses
        assert [each.task for each in found] == reuses
        assert all((each.dag_id, each.run_id) == ("dag", "run") for each in found)


def test_the_ledger_is_asked_for_the_item_with_what_is_left_of_the_budget(make_item: MakeItem) -> None:
    fake: Any = FakeSubmitter(SubmitResult(entry(EntryState.SUBMITTED), RECORD, True))
    budget = Budget(fake.ledger.store, "task", 2.0)
    item = make_item()
    submitter = build_submitter(fake, reference=TaskReference("dag", "run"))
    submitter.submit(item, budget=budget, first_row=True, deadline=NOW + 60.0)

    (asked,) = fake.requests
    assert (asked.request, asked.fingerprint, asked.owner, asked.scope) == (item.request, item.fingerprint, ME, "run:a")
    assert (asked.prices, asked.max_cost, asked.deadline) == ({"720P": 0.1}, 2.0, NOW + 60.0)
    assert asked.reference == TaskReference("dag", "run", source_uri="https://images.example.com/1.png")


def test_a_key_that_is_occupied_is_named_before_anything_is_sent(make_item: MakeItem) -> None:
    class Occupied(FreeKeys):
        def check_free(self, item: PreparedItem, claim: Any) -> None:
            raise WanBadRequestError(f"the key of row {item.row} holds another clip than {claim.fingerprint}")

    fake: Any = FakeSubmitter(None, pays=True)
    item = make_item(row=3)
    submission = build_submitter(fake, archiver=Occupied()).submit(item, budget=new_budget(), first_row=True)

    message = f"WanBadRequestError: the key of row 3 holds another clip than {a_claim(ME).fingerprint}"
    rejected = item.build_result(ItemStatus.REJECTED, cost=0.0, error=message)
    assert submission == ItemSubmission(item, Finished(rejected, False))


@pytest.mark.parametrize(
    ("error", "is_limit"), [(WanRateLimitError("429"), True), (WanCapacityError("503"), True), (None, False)]
)
def test_a_refusal_pauses_and_costs_nothing(make_item: MakeItem, error: WanError | None, is_limit: bool) -> None:
    budget = new_budget()
    later = RetryLater(WaitReason.REFUSED, 5.0, a_claim(ME), error)
    item = make_item()

    submission = submit(item, later, pays=True, budget=budget)
    assert submission == ItemSubmission(item, Refused(5.0, is_limit, error), sent=True)
    assert budget.spent == 0.0


def test_a_doubt_stays_reserved_and_keeps_its_slot(make_item: MakeItem) -> None:
    budget = new_budget()
    item = make_item()
    submission = submit(item, RetryLater(WaitReason.IN_DOUBT, 90.0, a_post(ME)), pays=True, budget=budget)

    assert submission == ItemSubmission(item, Deferred(90.0, in_doubt=True), sent=True)
    assert budget.spent == 0.5


def test_the_claim_of_another_task_is_waited_for(make_item: MakeItem) -> None:
    submission = submit(make_item(), RetryLater(WaitReason.CLAIMED, 3.0, a_claim(OTHER)))

    assert submission.outcome == Deferred(3.0, in_doubt=False)


def test_what_another_task_s_claim_may_cost_is_not_given_back(make_item: MakeItem) -> None:
    # This process reserved under a claim that the other one has stolen, and may be about to pay for.
    budget = new_budget()
    submit(make_item(), RetryLater(WaitReason.CLAIMED, 3.0, a_claim(OTHER)), pays=True, budget=budget)

    assert budget.spent == 0.5


def test_the_budget_refuses_an_item(make_item: MakeItem) -> None:
    item = make_item()
    assert submit(item, WanBudgetError("too much")) == ItemSubmission(item, OverBudget(), sent=False)
    assert submit(item, WanBudgetError("too much"), pays=True) == ItemSubmission(item, OverBudget(), sent=True)


def test_what_is_reserved_for_an_item_is_left_for_it(make_item: MakeItem) -> None:
    fake: Any = FakeSubmitter(SubmitResult(entry(EntryState.SUBMITTED), RECORD, True))
    budget = Budget(fake.ledger.store, "task", 2.0)
    item = make_item()
    budget.reserve(replace(a_claim(ME), fingerprint=item.fingerprint))
    build_submitter(fake).submit(item, budget=budget, first_row=True)

    (asked,) = fake.requests
    assert (budget.spent, asked.max_cost) == (0.5, 2.0)


def test_only_the_items_own_entry_gives_its_reservation_back(make_item: MakeItem) -> None:
    fake: Any = FakeSubmitter(WanConnectError("no route"), pays=True)
    item = make_item()
    build_submitter(fake).submit(item, budget=new_budget(), first_row=True)

    assert fake.ledger.store.was_read == [item.fingerprint]


def test_a_row_whose_price_nobody_vouches_for_is_rejected_with_the_remedy(make_item: MakeItem) -> None:
    outcome = submit(make_item(), WanUnknownPriceError("max_cost=1: there is no price")).outcome
    assert isinstance(outcome, Finished)
    assert outcome.result.status is ItemStatus.REJECTED
    assert "there is no price" in (outcome.result.error or "")


@pytest.mark.parametrize(
    "error", [WanAuthError("401"), WanCreditError("402"), WanNotFoundError("no such model"), LedgerUnsafeError("no")]
)
def test_what_concerns_all_rows_stops_the_batch(make_item: MakeItem, error: WanError) -> None:
    item = make_item()
    assert submit(item, error) == ItemSubmission(item, StopBatch(error))


def test_an_unknown_model_of_one_row_concerns_that_row_only(make_item: MakeItem) -> None:
    outcome = submit(make_item(model="wan2.7-i2v"), WanNotFoundError("no such model")).outcome

    assert isinstance(outcome, Finished | RetryItem)


def test_an_unusable_output_stops_the_batch_and_a_retry_can_help(make_item: MakeItem) -> None:
    item = make_item()
    submission = submit(item, ClientError({"Error": {"Code": "NoSuchBucket"}}, "HeadObject"))

    assert (submission.item, submission.sent) == (item, False)
    assert isinstance(submission.outcome, StopBatch)
    assert submission.outcome.error.retryable
    assert "S3 refuses HeadObject at the output: NoSuchBucket" in str(submission.outcome.error)


@pytest.mark.parametrize(
    ("error", "status", "message", "transient", "left", "spent"),
    [
        (WanClipFailedError("no", True), ItemStatus.FAILED, "no", False, EntryState.FAILED, 0.0),
        (WanInDoubtError("?"), ItemStatus.IN_DOUBT, "?", True, EntryState.IN_DOUBT, 0.5),
        (
            WanBadRequestError("bad image"),
            ItemStatus.REJECTED,
            "WanBadRequestError: bad image",
            False,
            EntryState.FAILED,
            0.0,
        ),
    ],
)
def test_an_error_of_one_row_is_its_result_and_costs_what_its_entry_says(
    make_item: MakeItem,
    error: WanError,
    status: ItemStatus,
    message: str,
    transient: bool,
    left: EntryState,
    spent: float,
) -> None:
    budget = new_budget()
    item = make_item()
    submission = submit(item, error, pays=True, budget=budget, stored=replace(a_post(ME), state=left))

    result = item.build_result(status, cost=spent, error=message)
    assert submission == ItemSubmission(item, Finished(result, transient), sent=True)
    assert budget.spent == spent


@pytest.mark.parametrize(
    ("error", "fallback", "stored", "spent"),
    [
        (WanLookupError("500"), ItemStatus.TIMEOUT, replace(a_post(ME), state=EntryState.SUBMITTED), 0.5),
        (WanConnectError("no route"), ItemStatus.REJECTED, replace(a_claim(ME), state=EntryState.FAILED), 0.0),
        (LedgerUnavailableError("slow"), None, a_post(ME), 0.5),
        (LedgerUnavailableError("slow"), None, a_claim(ME), 0.0),
        (LedgerUnavailableError("away"), None, LedgerUnavailableError("away"), 0.5),
        (LedgerUnavailableError("odd"), None, None, 0.5),
    ],
)
def test_a_transient_error_is_retried(
    make_item: MakeItem, error: WanError, fallback: ItemStatus | None, stored: Any, spent: float
) -> None:
    budget = new_budget()
    item = make_item()
    submission = submit(item, error, pays=True, budget=budget, stored=stored)

    result = None
    if fallback is not None:
        cost = {"cost": 0.0} if fallback is ItemStatus.REJECTED else {}
        result = item.build_result(fallback, error=f"{type(error).__name__}: {error}", **cost)
    assert submission == ItemSubmission(item, RetryItem(RETRY_DELAY, error, result), sent=True)
    assert budget.spent == spent


def test_a_submission_counts_as_sent_from_the_moment_at_which_it_may_have_been(make_item: MakeItem) -> None:
    adopted = SubmitResult(entry(EntryState.SUBMITTED), RECORD, False)
    for result in (WanInDoubtError("?"), WanUnknownPriceError("no price"), adopted):
        assert submit(make_item(), result, pays=True).sent
        assert submit(make_item(), result).sent is False


@pytest.mark.parametrize("error", [LedgerCorruptError("not JSON"), LedgerVersionError("version 99")])
def test_an_entry_that_can_not_be_read_concerns_its_row_only_and_pays_nothing(
    make_item: MakeItem, error: WanError
) -> None:
    budget = new_budget()
    outcome = submit(make_item(), error, budget=budget).outcome

    assert isinstance(outcome, Finished)
    assert (outcome.result.status, outcome.result.cost, outcome.transient) == (ItemStatus.IN_DOUBT, None, False)
    assert (outcome.result.error, budget.spent) == (f"{type(error).__name__}: {error}", 0.0)
