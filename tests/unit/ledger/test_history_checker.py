# SPDX-License-Identifier: Apache-2.0
"""The checker of histories finds each promise that a history breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_wan.ledger.entry import LedgerEntry, in_doubt, record_duplicate, submitted
from dev.testkit.history import SentPost, ViolationKind, find_violations
from dev.testkit.ledger import NOW, REQUEST, a_post

PAYLOAD = REQUEST.with_seed(7).to_payload()
PAID = submitted(a_post(), "r1", NOW)


def accepted(*names: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"request_id": name, "payload": {**PAYLOAD, **changes}} for name in names]


def charges(*names: str) -> list[dict[str, Any]]:
    return [{"request_id": name} for name in names]


def kinds(*args: Any, **more: Any) -> set[ViolationKind]:
    return {violation.kind for violation in find_violations(*args, **more)}


def test_a_history_in_which_all_is_well_breaks_nothing() -> None:
    posts = [SentPost(PAID.fingerprint, "a#1", refused=True), SentPost(PAID.fingerprint, "a#1")]
    found = find_violations(accepted("r1"), charges("r1"), [PAID], delivered={"r1": REQUEST.to_payload()}, posts=posts)

    assert found == []


@pytest.mark.parametrize(
    ("paid", "entry", "kind"),
    [
        (("r1", "r1"), PAID, ViolationKind.PAID_TWICE),
        (("r1", "r2"), record_duplicate(PAID, "r2", 7, NOW), ViolationKind.PAID_TWICE),
        (("r1", "r2"), PAID, ViolationKind.FORGOTTEN),
        (("r2",), in_doubt(a_post(), "lost", NOW), ViolationKind.FORGOTTEN),
        (("r1", "r9"), PAID, ViolationKind.UNKNOWN_REQUEST),
    ],
)
def test_a_charge_beside_the_one_for_the_clip_is_found(
    paid: tuple[str, ...], entry: LedgerEntry, kind: ViolationKind
) -> None:
    assert kind in kinds(accepted("r1", "r2"), charges(*paid), [entry])


def test_an_entry_in_doubt_accounts_for_a_payment_until_all_is_over() -> None:
    doubt = in_doubt(a_post(), "lost", NOW)

    assert kinds(accepted("r1"), charges("r1"), [doubt], finished=False) == set()
    assert kinds(accepted("r1"), charges("r1"), [replace(doubt, seed=8)], finished=False) == {ViolationKind.FORGOTTEN}


def test_a_request_that_two_entries_claim_is_found() -> None:
    other = replace(PAID, fingerprint="another")

    assert kinds(accepted("r1"), charges("r1"), [PAID, other]) == {ViolationKind.SHARED}


def test_an_entry_that_names_a_request_of_nobody_is_found() -> None:
    assert kinds([], [], [PAID]) == {ViolationKind.UNKNOWN_REQUEST}


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"duration": 10}, {"img_url": "https://x.example/dog.png"}])
def test_a_clip_that_was_not_asked_for_is_found(change: dict[str, Any]) -> None:
    found = kinds(accepted("r1", **change), [], [], delivered={"r1": REQUEST.to_payload()})

    assert found == {ViolationKind.WRONG_PAYLOAD}
    assert ViolationKind.WRONG_PAYLOAD in kinds(accepted("r1", **change), charges("r1"), [PAID])


def test_a_seed_counts_only_if_it_was_asked_for() -> None:
    assert kinds(accepted("r1"), [], [], delivered={"r1": PAYLOAD}) == set()
    assert kinds(accepted("r1"), [], [], delivered={"r1": {**PAYLOAD, "seed": 8}}) == {ViolationKind.WRONG_PAYLOAD}


def test_an_attempt_that_sends_a_third_post_is_found() -> None:
    posts = [SentPost(PAID.fingerprint, "a#1")] * 3

    assert kinds(accepted("r1"), charges("r1"), [PAID], posts=posts[:2]) == set()
    assert kinds(accepted("r1"), charges("r1"), [PAID], posts=posts) == {ViolationKind.TOO_MANY_POSTS}


def test_attempts_that_together_send_more_than_one_further_post_each_are_found() -> None:
    posts = [SentPost(PAID.fingerprint, attempt) for attempt in ("a#1", "a#1", "a#2", "a#2")]

    assert kinds(accepted("r1"), charges("r1"), [PAID], posts=posts[:3]) == set()
    assert kinds(accepted("r1"), charges("r1"), [PAID], posts=posts) == {ViolationKind.TOO_MANY_POSTS}


def test_an_attempt_that_repeats_after_two_absences_is_found() -> None:
    repeated = replace(PAID, repeats_after_absence=("a#1", "a#1"))

    assert kinds(accepted("r1"), charges("r1"), [repeated]) == {ViolationKind.TOO_MANY_POSTS}


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        ("all is well with r1", []),
        ("the prompt was: a cat", ["prompt 1 in a log"]),
        ("Authorization: Bearer key-0123", ["key 1 in a log"]),
        ("GET https://x.example/cat.png?X-Amz-Signature=5d1c0ffee", ["a signed URL in a log"]),
    ],
)
def test_a_secret_where_people_read_is_found_and_not_repeated(text: str, leak: list[str]) -> None:
    found = find_violations(accepted("r1"), charges("r1"), [PAID], dump={"a log": text}, keys=["key-0123"])
    assert [(violation.kind, violation.detail) for violation in found] == [(ViolationKind.LEAK, each) for each in leak]


def test_an_entry_that_holds_a_prompt_is_found() -> None:
    leaky = replace(PAID, task_id="a cat")
    found = find_violations(accepted("r1"), charges("r1"), [leaky], dump={})
    assert [violation.detail for violation in found] == [f"prompt 1 in entry {PAID.fingerprint}"]
