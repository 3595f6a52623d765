# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.batch.estimate import BatchEstimate, estimate_batch
from airflow_provider_wan.batch.manifest import ListManifest
from airflow_provider_wan.batch.rows import Item, parse_row
from airflow_provider_wan.ledger import EntryState, compute_fingerprint, open_store
from airflow_provider_wan.ledger.entry import Outcome
from dev.testkit.ledger import NOW, a_post

DEFAULTS = {"resolution": "720P"}
IMAGE = "https://images.example.com/1.png"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return open_store(f"file://{tmp_path}/ledger")


def estimate(store: Any, rows: list[Any], *, prices: dict[str, float] | None = None, **more: Any) -> BatchEstimate:
    given: dict[str, Any] = {"scope": "", "max_in_flight": 2, **more}
    return estimate_batch(
        ListManifest(rows).rows(), DEFAULTS, store=store, prices={"720P": 0.1} if prices is None else prices, **given
    )


def test_rows_are_counted_and_priced(store: Any) -> None:
    found = estimate(store, [IMAGE, IMAGE, {"image": IMAGE, "duration": 7}, {"image": IMAGE, "duration": 10}])

    assert (found.items, found.rejected, found.duplicates) == (4, 1, 1)
    assert (found.video_seconds, found.cost, found.to_pay) == (15, 1.5, 1.5)
    assert found.estimated_seconds == 85.0
    assert found.faults[0].startswith("row 3: ")


def test_a_name_that_two_rows_have_is_a_fault_as_in_the_batch(store: Any) -> None:
    found = estimate(store, [{"image": f"https://images.example.com/{n}.png", "name": "tom"} for n in (1, 2)])

    assert (found.rejected, found.cost) == (1, 0.5)
    assert found.faults == ("row 2: name='tom': is also the name of row 1. Use unique names",)


def test_a_model_with_other_durations_is_estimated_too(store: Any) -> None:
    found = estimate(store, [{"image": IMAGE, "model": "wan2.7-i2v", "duration": 7}], prices={})

    assert (found.rejected, found.video_seconds, found.estimated_seconds) == (0, 7, 40.2)


@pytest.mark.parametrize(
    ("state", "existing"),
    [
        (EntryState.SUBMITTED, 1),
        (EntryState.ARCHIVED, 1),
        (EntryState.IN_DOUBT, 1),
        (EntryState.FAILED, 0),
        (EntryState.CANCELLED, 0),
    ],
)
def test_clips_that_the_ledger_has_cost_nothing(store: Any, state: EntryState, existing: int) -> None:
    item = parse_row(next(ListManifest([IMAGE]).rows()), DEFAULTS)
    assert isinstance(item, Item)
    store.create(replace(a_post(), fingerprint=compute_fingerprint(item.request), state=state, request_id="r1"))

    found = estimate(store, [IMAGE])

    assert (found.existing, found.cost, found.to_pay) == (existing, 0.5, 0.5 * (1 - existing))


@pytest.mark.parametrize("cause", ["damaged", "newer version", "permanent"])
def test_a_row_for_which_a_batch_would_pay_nothing_by_its_entry_is_rejected(
    store: Any, tmp_path: Path, cause: str
) -> None:
    item = parse_row(next(ListManifest([IMAGE]).rows()), DEFAULTS)
    assert isinstance(item, Item)
    entry = replace(a_post(), fingerprint=compute_fingerprint(item.request))
    entry = replace(entry, state=EntryState.FAILED, outcome=Outcome("content refused", True, NOW))
    store.create(entry)
    (path,) = (tmp_path / "ledger").glob("*.json")
    if cause == "damaged":
        path.write_text(path.read_text()[:40])
    elif cause == "newer version":
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))

    found = estimate(store, [IMAGE, "https://images.example.com/2.png"])

    assert (found.items, found.rejected, found.existing) == (2, 1, 0)
    assert (found.video_seconds, found.cost, found.to_pay, found.estimated_seconds) == (5, 0.5, 0.5, 30.0)
    assert found.faults[0].startswith("row 1: ")


def test_images_that_only_their_content_identifies_are_reported(store: Any) -> None:
    assert estimate(store, ["s3://b/1.png", IMAGE]).unread == 1


def test_without_a_price_the_cost_is_unknown(store: Any) -> None:
    found = estimate(store, [IMAGE], prices={})

    assert (found.cost, found.to_pay) == (None, None)
    assert "unknown amount" in str(found)


def test_the_result_is_marked_as_a_dry_run(store: Any) -> None:
    result = estimate(store, [IMAGE]).as_result()

    assert (result["dry_run"], result["existing"], result["faults"]) == (True, 0, [])
