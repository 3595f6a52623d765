# SPDX-License-Identifier: Apache-2.0
"""What a clip costs, as far as the connection's prices tell."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_wan.api.errors import WanBudgetError
from airflow_provider_wan.api.request import I2VRequest


def cost_of(request: I2VRequest, prices: Mapping[str, float] | None) -> float | None:
    """
    Return the price of a clip in US dollars, or None where there is no price for its resolution.

    :param prices: US dollars per second of video, by resolution.
    """
    price = (prices or {}).get(str(request.resolution))
    return None if price is None else round(price * request.duration, 6)


def checked_cost(request: I2VRequest, prices: Mapping[str, float] | None, max_cost: float | None) -> float | None:
    """
    Return the price of a clip, once it is known to be within the budget.

    :param max_cost: US dollars; None for no limit.
    :raises WanBudgetError: it is more, or there is no price to compare.
    """
    cost = cost_of(request, prices)
    if max_cost is None:
        return cost
    if cost is None:
        raise WanBudgetError(
            f"max_cost={max_cost}: the connection has no price for {request.resolution}, so it can't be checked. "
            "Set prices in the connection's extra."
        )
    if cost > max_cost:
        raise WanBudgetError(
            f"The clip ({request.duration} s at {request.resolution}) would cost ${cost:.2f}, which is more than "
            f"max_cost=${max_cost:.2f}. Nothing was paid. Shorten it, lower its resolution, or raise max_cost."
        )
    return cost
