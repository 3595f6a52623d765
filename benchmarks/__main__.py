# SPDX-License-Identifier: Apache-2.0
"""
``make bench``: all benchmarks, then their plots and their page.

Name some of ``imports archive lag waiting loop shared_rate growth scale job`` to run only these; ``--quick`` runs each
in a short form and writes nothing into the documentation.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from benchmarks.report import ROOT

PARTS = ("imports", "archive", "lag", "waiting", "loop", "shared_rate", "growth", "scale", "job")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), help="default: all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draw", action="store_true", help="only the plots and the page, from the figures there are")
    options = parser.parse_args()
    (ROOT / ".run").mkdir(exist_ok=True)
    if not options.draw:
        for part in options.parts or PARTS:
            began = time.monotonic()
            run(f"benchmarks.{part}", *(["--quick"] if options.quick else []))
            print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    if not options.quick:
        run("benchmarks.plots")
        run("benchmarks.page")


def run(module: str, *options: str) -> None:
    """Run one benchmark in its own process. :raises SystemExit: if it fails."""
    done = subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, env=dict(os.environ), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
