# SPDX-License-Identifier: Apache-2.0
"""Budgets in a real S3: concurrent processes, and a worker that is taken for dead beside its retry."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_wan.api.errors import WanBudgetError
from airflow_provider_wan.ledger import Budget, Ledger, open_store
from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger.errors import AlreadyExistsError, ConflictError
from dev.seaweed import SeaweedFS
from dev.testkit.ledger import ME, MY_RETRY, NOW, a_claim, spend_budget
from dev.testkit.s3_folder import BUCKET, Folder


def spend(uri: str, client_arguments: dict[str, Any], name: str, count: int) -> int:
    store = open_store(uri, s3_client=lambda: boto3.client("s3", **client_arguments))
    return spend_budget(Budget(store, "task", 3.0), name, range(count))


def test_processes_at_once_never_pass_the_limit_and_use_all_of_it(folder: Folder, seaweed: SeaweedFS) -> None:
    uri = f"s3://{BUCKET}/{folder.key('ledger')}"
    arguments = {
        "endpoint_url": seaweed.endpoint_url,
        "aws_access_key_id": seaweed.access_key,
        "aws_secret_access_key": seaweed.secret_key,
        "region_name": seaweed.region,
    }
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paid = pool.starmap(spend, [(uri, arguments, name, 9) for name in "pqr"])
    budget = Budget(open_store(uri, s3_client=seaweed.client), "task", 3.0)
    budget.load()
    assert sum(paid) == 6
    assert budget.spent == 3.0


STEPS = st.lists(st.tuples(st.sampled_from(["zombie", "retry"]), st.sampled_from(["a", "b", "c"])), max_size=16)


class Actor:
    """One process of a task: each call is its next step with a clip, which is paid for at the third."""

    def __init__(self, store: Any, owner: Any, limit: float) -> None:
        self.ledger = Ledger(store, lambda: NOW)
        self.budget = Budget(store, "task", limit, sleep=lambda _: None)
        self.owner = owner
        self.claims: dict[str, Any] = {}
        self.reserved: set[str] = set()

    def step(self, name: str) -> str | None:
        """Return the clip's name if it is paid for now."""
        try:
            if name not in self.claims:
                self._claim(name)
            elif name not in self.reserved:
                self.budget.reserve(self.claims[name].entry)
                self.reserved.add(name)
            else:
                claim = self.claims.pop(name)
                self.reserved.discard(name)
                self.ledger.replace(claim, entries.record_intent(claim.entry, NOW))
                return name
        except (AlreadyExistsError, ConflictError):
            self.claims.pop(name, None)
            self.reserved.discard(name)
        except WanBudgetError:
            claim = self.claims.pop(name).entry
            self.ledger.update(
                name, lambda entry: entries.rejected(entry, "over the limit", NOW) if entry == claim else None
            )
        return None

    def _claim(self, name: str) -> None:
        stored = self.ledger.store.read(name)
        claim = replace(a_claim(self.owner), fingerprint=name)
        if stored is None:
            self.claims[name] = self.ledger.create(claim)
        elif stored.entry.intent_at is None and stored.entry.owner != str(self.owner):
            # A claim under which nothing was sent is superseded.
            self.claims[name] = self.ledger.replace(stored, entries.reclaim(stored.entry, claim))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.sampled_from([0.5, 1.0, 1.5]))
@pytest.mark.parametrize("place", ["file", "s3"])
def test_whatever_a_zombie_and_its_retry_do_together_they_stay_within_the_limit(
    place: str, steps: list[tuple[str, str]], limit: float, tmp_path_factory: Any, folder: Folder, seaweed: SeaweedFS
) -> None:
    where = tmp_path_factory.mktemp("ledger")
    uri = f"file://{where}" if place == "file" else f"s3://{BUCKET}/{folder.key(where.name)}"
    store = open_store(uri, s3_client=seaweed.client)
    actors = {"zombie": Actor(store, ME, limit), "retry": Actor(store, MY_RETRY, limit)}
    paid = [clip for actor, name in steps if (clip := actors[actor].step(name))]
    for actor in actors.values():
        actor.budget.flush()
    assert len(paid) == len(set(paid))
    assert 0.5 * len(paid) <= limit
    after = Budget(store, "task", limit)
    after.recover()
    assert 0.5 * len(paid) <= after.spent <= limit
