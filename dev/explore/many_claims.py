# SPDX-License-Identifier: Apache-2.0
"""
``python -m dev.explore.many_claims``: play histories of claims for that many steps, on any store.

A step is the way of one attempt from one boundary to the next: a read or write of the ledger, a response to it, a
connection, a POST, its response, a page of the list, a sleep. The rules of the machine choose them, and what the
service, the list and the clocks do meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_wan.ledger import open_store
from airflow_provider_wan.ledger.stores.base import LedgerStore
from dev.explore.machine import ClaimMachine, SeededClaimMachine, walk
from dev.explore.world import MemoryStore
from dev.seaweed import SeaweedFS

BUCKET = "claims"
LENGTH = 60


@contextmanager
def open_stores(kind: str) -> Iterator[Callable[[], LedgerStore]]:
    """
    Yield what makes an empty ledger.

    :param kind: ``memory``; ``file``, in a temporary folder; ``s3``, on a SeaweedFS of its own.
    """
    numbers = itertools.count()
    if kind == "memory":
        yield MemoryStore
    elif kind == "file":
        with tempfile.TemporaryDirectory() as folder:
            yield lambda: open_store(f"file://{Path(folder) / str(next(numbers))}")
    else:
        with SeaweedFS() as server:
            client = server.client()
            client.create_bucket(Bucket=BUCKET)
            yield lambda: open_store(f"s3://{BUCKET}/{next(numbers)}", s3_client=lambda: client)


def build_machine(base: type[ClaimMachine], make_store: Callable[[], LedgerStore]) -> type[ClaimMachine]:
    """Return a machine whose histories begin with a ledger of ``make_store``."""
    return type(base.__name__, (base,), {"make_store": lambda self: make_store()})


def report(histories: int) -> None:
    """Say how far it is."""
    steps, rules = ClaimMachine.steps, ClaimMachine.rules_applied
    print(f"{steps} steps by {rules} rules in {histories} histories: no promise was broken", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="many_claims", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--store", choices=("memory", "file", "s3"), default="memory")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {options.seed}, ledger: {options.store}", flush=True)
    with open_stores(options.store) as make_store:
        machines = [build_machine(base, make_store) for base in (ClaimMachine, SeededClaimMachine)]
        for number in itertools.count():
            if ClaimMachine.steps >= options.steps:
                break
            try:
                walk(machines[number % 2], random.Random(f"{options.seed} {number}"), LENGTH)
            except AssertionError as error:
                print(f"history {number}: {error}")
                return 1
            if number % 500 == 499:
                report(number + 1)
    report(number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
