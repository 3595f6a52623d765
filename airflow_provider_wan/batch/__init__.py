# SPDX-License-Identifier: Apache-2.0
"""
Many clips as one job. No Airflow here.

::

    manifest.py   rows, lazily                          item.py      a row made into a checked wish
    window.py     how many at once, how fast            plan.py      what to do next; pure, the time passed in
    budget.py     what was spent                        prepare.py   ingest, fingerprint
    journal.py    the checkpoint beside the results     results.py   a row an item, the summary
    engine.py     carries the plan out                  quote.py     what it would cost

The ledger is the memory in which money counts. The journal only saves looking at what is settled: without it, a run
walks the manifest anew, finds everything in the ledger, and pays for nothing twice.
"""
