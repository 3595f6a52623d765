# SPDX-License-Identifier: Apache-2.0
"""Many clips as one job, independent of Airflow.

::

    manifest.py    reads rows lazily                  rows.py        a row, validated as an item
    preparer.py    ingest and fingerprint             submitter.py   submits one item through the ledger
    scheduler.py   what to do next (pure)             throttle.py    requests in flight, submissions per second (pure)
    archiver.py    archives a finished clip           budget.py      what was spent
    run.py         state of one run                   checkpoint.py  its files beside the results
    engine.py      executes the schedule              results.py     one result per row, and their counts
    report.py      results, contact sheet, summary    estimate.py    cost without paying

A *deferral cycle* is one round of a deferrable task: the worker does all that can be done now, defers to the trigger,
and is resumed when enough requests have ended.

Only the ledger decides about money. The checkpoint merely saves work: without it, a run reads the manifest again,
finds every clip in the ledger, and pays for nothing twice.
"""
