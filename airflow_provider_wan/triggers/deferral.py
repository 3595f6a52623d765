# SPDX-License-Identifier: Apache-2.0
"""The timing of deferrals, shared by all deferrable operators and sensors."""

from __future__ import annotations

import time
from datetime import timedelta

#: Seconds after a deferral before which no trigger fires: Airflow's scheduler can take an earlier event for a
#: "state mismatch" and fail the task.
MIN_DEFERRAL_SECONDS = 8.0
#: How much later than the trigger's own deadline Airflow's timeout comes, as a safety net.
DEFERRAL_TIMEOUT_GRACE = timedelta(minutes=5)


def compute_end_time(timeout: float, execution_timeout: timedelta | None = None) -> float:
    """Return the deadline of an attempt that begins now, in Unix seconds.

    Airflow does not enforce ``execution_timeout`` while a task is deferred, so it shortens the operator's own timeout.

    :param timeout: seconds that the operator may take.
    :param execution_timeout: the task's ``execution_timeout``.
    """
    if execution_timeout is not None:
        timeout = min(timeout, execution_timeout.total_seconds())
    return time.time() + timeout


def may_defer(end_time: float) -> bool:
    """Return whether there is time for a deferral, which takes :data:`MIN_DEFERRAL_SECONDS` at least.

    :param end_time: the deadline in Unix seconds.
    """
    return end_time - time.time() > MIN_DEFERRAL_SECONDS


def deferral_timeout(end_time: float) -> timedelta:
    """Return the ``timeout`` of a deferral whose trigger has a deadline of its own.

    :param end_time: the trigger's deadline in Unix seconds.
    """
    return timedelta(seconds=max(0.0, end_time - time.time())) + DEFERRAL_TIMEOUT_GRACE
