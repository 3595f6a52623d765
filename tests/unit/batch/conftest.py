# SPDX-License-Identifier: Apache-2.0
"""A batch in memory: the ledger and its submitter are real, the API and S3 are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.batch.checkpoint import CheckpointStore
from airflow_provider_wan.batch.engine import BatchEngine, EndOfCycle
from airflow_provider_wan.batch.manifest import ListManifest
from airflow_provider_wan.batch.preparer import PreparedItem
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.batch.rows import InvalidRow, Item, RawRow, parse_row
from airflow_provider_wan.batch.run import BatchContext, BatchRun
from airflow_provider_wan.batch.submitter import ItemSubmitter
from airflow_provider_wan.ledger import Budget, Ledger, LedgerEntry, Owner, Submitter, compute_fingerprint, open_store
from dev.testkit.ledger import ME, Api, Clock
from dev.testkit.memory_s3 import MemoryS3

DEFAULTS = {"resolution": "720P", "model": "wan2.6-i2v"}
PRICES = {"720P": 0.1}


class FakePreparer:
    """Prepares web images without a network; ``invalid`` names rows that fail."""

    def __init__(self) -> None:
        self.invalid: set[int] = set()
        self.prepared: list[int] = []

    def prepare(self, item: Item) -> PreparedItem | InvalidRow:
        self.prepared.append(item.row)
        if item.row in self.invalid:
            return InvalidRow(item.row, item.image.public_uri, f"row {item.row}: not an image")
        return PreparedItem(item, compute_fingerprint(item.request), item.request)


class FakeArchiver:
    """Archives nothing; ``errors`` are raised by the next calls."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.occupied: Exception | None = None
        self.archived: list[int] = []
        self.missing: set[int] = set()

    def find_missing(self, results: Iterable[ItemResult]) -> set[int]:
        return self.missing

    def check_free(self, item: PreparedItem, claim: LedgerEntry) -> None:
        if self.occupied is not None:
            raise self.occupied

    def archive(self, item: PreparedItem, record: Any) -> ItemResult:
        if self.errors:
            raise self.errors.pop(0)
        self.archived.append(item.row)
        cost = item.cost if item.paid_here else 0.0
        return item.build_result(
            ItemStatus.ARCHIVED, request_id=record.request_id, cost=cost, reused=not item.paid_here
        )

    def reuse_archived(self, item: PreparedItem, entry: LedgerEntry) -> ItemResult:
        return item.build_result(ItemStatus.ARCHIVED, request_id=entry.request_id, cost=0.0, reused=True)


class Batch:
    """One batch and its fakes."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.api = Api(self.clock)
        self.s3 = MemoryS3()
        self.ledger_store = open_store(f"file://{folder}/ledger")
        self.preparer = FakePreparer()
        self.archiver = FakeArchiver()
        self.rows: Sequence[Any] = ()
        self.settings: dict[str, Any] = {}

    def add_rows(self, count: int) -> None:
        self.rows = [f"https://images.example.com/{number}.png" for number in range(1, count + 1)]

    def build_run(self, owner: Owner = ME, max_cost: float | None = None, **settings: Any) -> BatchRun:
        archiver: Any = self.archiver
        preparer: Any = self.preparer
        submitter = Submitter(
            self.api, self.ledger_store, clock=self.clock, monotonic=self.clock, sleep=self.clock.sleep
        )
        given: dict[str, Any] = {
            "manifest": ListManifest(self.rows),
            "rows": None,
            "defaults": DEFAULTS,
            "arguments_id": "a",
            "api": self.api,
            "ledger": Ledger(self.ledger_store, self.clock),
            "submitter": ItemSubmitter(
                submitter, archiver, owner=owner, scope="", prices=PRICES, model="wan2.6-i2v", clock=self.clock
            ),
            "preparer": preparer,
            "archiver": archiver,
            "store": CheckpointStore(self.s3, "b", "out/_batch/x/"),
            "owner": owner,
            "model": "wan2.6-i2v",
            "budget": Budget(self.ledger_store, "dag/run/task", max_cost, sleep=self.clock.sleep),
            "max_in_flight": 4,
            "submits_per_second": 1000.0,
            "poll_interval": 10.0,
            "max_polls_per_second": 10.0,
            "item_timeout": 3600.0,
            "fail_fast": False,
            "sleep": self.clock.sleep,
        }
        return BatchRun(BatchContext(**given | self.settings | settings), self.clock())

    def start(self, owner: Owner = ME, **settings: Any) -> BatchRun:
        run = self.build_run(owner, **settings)
        run.start(self.clock() + 7200.0)
        return run

    def execute(self, run: BatchRun, *, deferrable: bool = False) -> EndOfCycle | None:
        with BatchEngine(run, clock=self.clock) as engine:
            return engine.run(deferrable=deferrable)

    def results(self, run: BatchRun) -> dict[int, ItemResult]:
        return {result.row: result for result in run.read_results(10_000)}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.fixture
def make_item() -> Callable[..., PreparedItem]:
    def make(row: int = 1, **values: Any) -> PreparedItem:
        raw = RawRow(row, {"image": f"https://images.example.com/{row}.png", **values})
        item = parse_row(raw, DEFAULTS)
        assert isinstance(item, Item)
        return PreparedItem(item, compute_fingerprint(item.request), item.request)

    return make
