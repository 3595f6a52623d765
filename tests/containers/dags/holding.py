# SPDX-License-Identifier: Apache-2.0
"""Tasks that run for as long as a test needs them."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task


@dag(schedule=None, params={"seconds": Param(0, type="integer")})
def holding() -> None:
    @task(retries=2, retry_delay=timedelta(seconds=1))
    def hold(number: int) -> str:
        """Sleep in the first attempt."""
        context = get_current_context()
        attempt = context["ti"].try_number
        if attempt == 1:
            time.sleep(context["params"]["seconds"])
        return f"{number} at attempt {attempt}"

    hold.expand(number=list(range(4)))


holding()
