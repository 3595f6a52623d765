# SPDX-License-Identifier: Apache-2.0
"""``python -m dev.explore``: play random histories until the time is over or one fails."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter


def main() -> int:
    parser = argparse.ArgumentParser(prog="explore", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-"))
    from dev.explore.guard import nothing_real
    from dev.explore.plan import played_at_random
    from dev.explore.seams import logs_collected
    from dev.explore.task import Broken

    print(f"seed {options.seed}", flush=True)
    until, count, struck = time.monotonic() + options.seconds, 0, Counter[str]()
    try:
        with logs_collected(), nothing_real():
            for played in played_at_random(options.seed):
                count += 1
                struck.update(played.boundaries())
                if time.monotonic() > until:
                    break
    except Broken as broken:
        print(broken)
        return 1
    print(f"{count} histories, no promise was broken; faults and switches by boundary:")
    for name, number in sorted(struck.items()):
        print(f"  {number:7d}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
