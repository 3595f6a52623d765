# SPDX-License-Identifier: Apache-2.0
"""The one place that computes what a clip costs, and that compares it with a limit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from airflow_provider_wan.api.errors import WanBudgetError, WanUnknownPriceError
from airflow_provider_wan.api.request import DEFAULT_MODEL, RawRequest, Resolution, WanRequest

#: US dollars per second of video: by resolution for ``wan2.6-i2v``, and by model id and resolution for other models.
Prices = Mapping[str, float | Mapping[str, float]]

#: US dollars per second of video, by resolution: the model vendor's list prices.
DEFAULT_PRICES: Mapping[str, float] = MappingProxyType({Resolution.P720.value: 0.10, Resolution.P1080.value: 0.15})


def find_price(model: str, resolution: str, prices: Prices | None) -> float | None:
    """Return the price of a second of video in US dollars.

    A price without a model is that of ``wan2.6-i2v``: what another model costs can't be guessed.

    :param model: the model id.
    :param resolution: size class of the clip, such as ``720P``.
    :param prices: the prices.
    :returns: US dollars; ``None`` if ``prices`` has none.
    """
    own = (prices or {}).get(model)
    price: object = own.get(str(resolution)) if isinstance(own, Mapping) else None
    if price is None and model == DEFAULT_MODEL:
        price = (prices or {}).get(str(resolution))
    return price if isinstance(price, int | float) else None


def compute_cost(resolution: str, seconds: float, prices: Prices | None, model: str = DEFAULT_MODEL) -> float | None:
    """Return the price of a clip.

    :param resolution: size class of the clip, such as ``720P``.
    :param seconds: length of the clip in seconds of video.
    :param prices: the prices.
    :param model: the model id.
    :returns: US dollars; ``None`` if ``prices`` has none for the model and resolution.
    """
    price = find_price(model, resolution, prices)
    return None if price is None else round(price * seconds, 6)


def estimate_cost(request: WanRequest, prices: Prices | None) -> float | None:
    """Return the price of a requested clip in US dollars; see :func:`compute_cost`."""
    if isinstance(request, RawRequest):
        if request.cost is not None:
            return request.cost
        if not request.duration:
            return None
    return compute_cost(request.resolution, request.duration, prices, request.model)


def estimate_cost_within_budget(request: WanRequest, prices: Prices | None, max_cost: float | None) -> float | None:
    """Return the price of a requested clip after comparing it with a limit.

    :param request: the clip.
    :param prices: the prices.
    :param max_cost: limit in US dollars; ``None`` for no limit.
    :returns: US dollars; ``None`` if the price is unknown and there is no limit.
    :raises WanBudgetError: if the price exceeds the limit.
    :raises WanUnknownPriceError: if the price is unknown.
    """
    cost = estimate_cost(request, prices)
    if max_cost is None:
        return cost
    if cost is None:
        raise WanUnknownPriceError(
            f"max_cost={max_cost}: there is no price for {request.model} at "
            f"{request.resolution or 'an unnamed resolution'} that a limit may rely on, so it can't be checked. "
            f'Nothing was paid. Set prices of the task, or [wan] prices, such as {{"{request.model}": '
            '{"720P": 0.10}} (those of a connection only raise known prices); WanRequestOperator also has the argument '
            "request_cost."
        )
    if cost > max_cost:
        raise WanBudgetError(
            f"The clip ({request.duration} s at {request.resolution}) would cost ${cost:.2f}, which is more than "
            f"max_cost=${max_cost:.2f}. Nothing was paid. Shorten it, lower its resolution, or raise max_cost."
        )
    return cost
