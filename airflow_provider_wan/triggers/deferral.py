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


def deferral_timeout(end_time: float) -> timedelta:
    """Return the ``timeout`` of a deferral whose trigger has a deadline of its own.

    :param end_time: the trigger's deadline in Unix seconds.
    """
    return timedelta(seconds=max(0.0, end_time - time.time())) + DEFERRAL_TIMEOUT_GRACE
