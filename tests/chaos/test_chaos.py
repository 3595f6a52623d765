# SPDX-License-Identifier: Apache-2.0
"""The parts of the chaos that need no cluster."""

from __future__ import annotations

from airflow_provider_wan.ledger.entry import submitted
from dev.chaos.account import account
from dev.chaos.plan import DEATHS, PARTITIONS, Effect, draw
from dev.testkit.ledger import NOW, a_post

WANTED = {"a": "x/a.mp4", "b": "x/b.mp4"}


def accepted(*prompts: str) -> list[dict[str, object]]:
    return [{"request_id": f"r{number}", "payload": {"prompt": each}} for number, each in enumerate(prompts)]


def test_a_seed_always_draws_the_same_plan_and_another_another() -> None:
    assert draw(7, 240) == draw(7, 240) != draw(8, 240)


def test_every_plan_has_every_trouble_within_its_time() -> None:
    for seed in range(50):
        plan = draw(seed, 240)
        assert {each.service for each in plan if each.effect is Effect.KILLED} == {*DEATHS}
        assert {each.service for each in plan if each.effect is Effect.CUT_OFF} == {*PARTITIONS}
        assert {each.effect for each in plan} == {*Effect}
        assert all(each.at >= 0 and each.end <= 240.2 for each in plan)
        assert any(each.service == "s3" and each.seconds == 30 for each in plan)


def test_a_clip_that_was_charged_twice_is_found() -> None:
    found = account(WANTED, accepted("a", "a", "b"), [{"request_id": r} for r in ("r0", "r1", "r2")], WANTED.values())

    assert (found.twice, found.lost, found.good) == (("a",), (), False)


def test_a_clip_that_was_charged_and_is_not_there_is_lost() -> None:
    found = account(WANTED, accepted("a", "b"), [{"request_id": "r0"}, {"request_id": "r1"}], ["x/a.mp4"])

    assert (found.lost, found.missing, found.good) == (("b",), ("b",), False)


def test_a_charge_that_the_ledger_does_not_know_is_not_good() -> None:
    entry = submitted(a_post(), "r9", NOW)
    found = account(WANTED, accepted("a", "b"), [{"request_id": r} for r in ("r0", "r1")], WANTED.values(), [entry])

    assert any("r0" in each for each in found.violations)
    assert not found.good


def test_requests_that_were_not_charged_cost_nothing() -> None:
    found = account(WANTED, accepted("a", "a", "b"), [{"request_id": "r1"}, {"request_id": "r2"}], WANTED.values())

    assert (found.accepted, found.charged, found.good) == (3, 2, True)
