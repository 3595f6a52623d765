# SPDX-License-Identifier: Apache-2.0
"""``python -m dev.explore.many_claims [--steps N] [--seed N]``: play histories of claims for that many steps."""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from dev.explore.machine import ClaimMachine, SeededClaimMachine


def main() -> int:
    parser = argparse.ArgumentParser(prog="many_claims", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {options.seed}", flush=True)
    chosen = settings(
        max_examples=50,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for number in itertools.count():
        machine = (ClaimMachine, SeededClaimMachine)[number % 2]
        run_state_machine_as_test(seed(options.seed + number)(machine), settings=chosen)
        print(f"{ClaimMachine.steps} steps, no promise was broken", flush=True)
        if ClaimMachine.steps >= options.steps:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
