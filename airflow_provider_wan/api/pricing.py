# SPDX-License-Identifier: Apache-2.0
"""The one place that computes what a clip costs, and that compares it with a limit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from airflow_provider_wan.api.errors import WanBudgetError
from airflow_provider_wan.api.request import I2VRequest, Resolution

#: US dollars per second of video, by resolution: the model vendor's list prices. A connection overrides them.
DEFAULT_PRICES: Mapping[str, float] = MappingProxyType({Resolution.P720.value: 0.10, Resolution.P1080.value: 0.15})


def compute_cost(resolution: str, seconds: float, prices: Mapping[str, float] | None) -> float | None:
    """Return the price of a clip.

    :param resolution: size class of the clip, such as ``720P``.
    :param seconds: length of the clip in seconds of video.
    :param prices: US dollars per second of video, by resolution.
    :returns: US dollars; ``None`` if ``prices`` has none for the resolution.
    """
    price = (prices or {}).get(str(resolution))
    return None if price is None else round(price * seconds, 6)


def estimate_cost(request: I2VRequest, prices: Mapping[str, float] | None) -> float | None:
    """Return the price of a requested clip in US dollars; see :func:`compute_cost`."""
    return compute_cost(request.resolution, request.duration, prices)


def estimate_cost_within_budget(
    request: I2VRequest, prices: Mapping[str, float] | None, max_cost: float | None
) -> float | None:
    """Return the price of a requested clip after comparing it with a limit.

    :param request: the clip.
    :param prices: US dollars per second of video, by resolution.
    :param max_cost: limit in US dollars; ``None`` for no limit.
    :returns: US dollars; ``None`` if the price is unknown and there is no limit.
    :raises WanBudgetError: if the price exceeds the limit, or is unknown.
    """
    cost = estimate_cost(request, prices)
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
