# SPDX-License-Identifier: Apache-2.0
"""A line in the log and a count for each change of a clip: the one place where both are made."""

from __future__ import annotations

import logging

from airflow_provider_wan import metrics
from airflow_provider_wan.ledger.entry import EntryState, LedgerEntry

log = logging.getLogger(__name__)


def tell(before: LedgerEntry | None, after: LedgerEntry) -> None:
    """
    Tell what has just been written to the ledger, where that is another state or another request.

    :param before: None for a new entry.
    """
    if before is not None and (before.state, before.request_id) == (after.state, after.request_id):
        return
    told = f", request {after.request_id}" if after.request_id else ""
    log.info("Clip %s is %s%s", after.fingerprint, after.state.value, told)
    metrics.count(f"wan.clips.{after.state.value}")
    if after.state is EntryState.SUCCEEDED and after.cost is not None:
        metrics.count("wan.cost_cents", round(after.cost * 100))
