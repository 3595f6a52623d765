# SPDX-License-Identifier: Apache-2.0
"""Precedence of the settings for prices, result hosts, model and rate: the only place that decides.

The arguments of a task and the section ``[wan]`` of Airflow's configuration are written by Dag authors and by those
who run the deployment. A connection may be edited by others. So it supplies a default where nobody else says anything;
apart from that, it can only make a limit tighter.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.api.config import WanConfig, validate_limits_uri
from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.pricing import DEFAULT_PRICES, Prices
from airflow_provider_wan.api.request import DEFAULT_MODEL

log = logging.getLogger(__name__)

_PRICES_RULE = 'must be an object such as {"720P": 0.10, "1080P": 0.15, "wan2.7-i2v": {"720P": 0.10}}'
_FlatPrices = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Limits:
    """What a task or the deployment says.

    :param prices: US dollars per second of video, by resolution for ``wan2.6-i2v``, and by model and resolution.
    :param result_hosts: lists of hosts, each of which a result's host has to be in.
    :param model: model id for tasks that name none; None: the connection's.
    :param status_requests_per_second: maximum; None: the connection's.
    :param limits_uri: location by which processes share that rate; None: the connection's.
    """

    prices: Prices = field(default_factory=dict)
    result_hosts: tuple[tuple[str, ...], ...] = ()
    model: str | None = None
    status_requests_per_second: float | None = None
    limits_uri: str | None = None


def read_limits(prices: object = None, result_hosts: object = None) -> Limits:
    """Return what a task says, and beyond that ``[wan]`` of Airflow's configuration.

    :param prices: argument of the task; None for none.
    :param result_hosts: likewise.
    :raises WanValidationError: naming the argument or the option that is invalid.
    """
    names = ("prices", "result_hosts", "model", "status_requests_per_second", "limits_uri")
    deployed = {name: _get_option(name) for name in names}
    rate, limits_uri = deployed["status_requests_per_second"], deployed["limits_uri"]
    if limits_uri is not None:
        validate_limits_uri("[wan] limits_uri", limits_uri)
    hosts = (
        parse_hosts(result_hosts, "result_hosts"),
        parse_hosts(deployed["result_hosts"], "[wan] result_hosts"),
    )
    merged = _flatten(parse_prices(deployed["prices"], "[wan] prices")) | _flatten(parse_prices(prices, "prices"))
    return Limits(
        prices=_unflatten(merged),
        result_hosts=tuple(each for each in hosts if each),
        model=deployed["model"],
        status_requests_per_second=None if rate is None else _parse_rate(rate),
        limits_uri=limits_uri,
    )


def apply_limits(config: WanConfig, given: Collection[str], limits: Limits) -> WanConfig:
    """Return the configuration of a connection within limits.

    A price counts as the higher one of the connection's and what the limits or the list prices say.

    :param config: the connection's configuration.
    :param given: names of what its extra sets.
    :param limits: from :func:`read_limits`.
    """
    known = _flatten(DEFAULT_PRICES) | _flatten(limits.prices)
    own = _flatten(config.prices)
    effective = known | {key: max(price, known.get(key, price)) for key, price in own.items()}
    rate = limits.status_requests_per_second
    if rate is not None and "status_requests_per_second" in given:
        rate = min(rate, config.status_requests_per_second)
    return replace(
        config,
        prices=_unflatten(effective),
        unconfirmed_prices=frozenset(effective.keys() - known.keys()),
        model=limits.model or config.model,
        status_requests_per_second=config.status_requests_per_second if rate is None else rate,
        limits_uri=limits.limits_uri or config.limits_uri,
        required_hosts=limits.result_hosts,
    )


def warn_of_ignored(config: WanConfig, given: Prices, conn_id: str) -> None:
    """Log which prices of a connection are not used because they are lower than known ones.

    :param config: the configuration within limits.
    :param given: the connection's prices.
    :param conn_id: id of the connection.
    """
    effective = _flatten(config.prices)
    lower = [key for key, price in _flatten(given).items() if price < effective[key]]
    if lower:
        log.warning(
            "Connection %s: its prices for %s are lower than known ones, which are used instead. A connection can only "
            "raise a price: set lower ones as [wan] prices, or as prices of the task.",
            conn_id,
            ", ".join(f"{model} at {resolution}" for model, resolution in sorted(lower)),
        )


def parse_hosts(value: object, name: str) -> tuple[str, ...]:
    """Parse a list of hosts.

    :param value: a list, or text with commas or spaces; None and an empty text are no hosts.
    :param name: name of the field, for the error.
    :raises WanValidationError: if it is not such a list.
    """
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if value is None:
        value = ()
    if not isinstance(value, list | tuple):
        raise WanValidationError(name, value, "must be host names, separated by commas")
    hosts = tuple(str(host).lower() for host in value)
    for host in hosts:
        if not host or "/" in host or "@" in host:
            raise WanValidationError(
                name, host, "must be host names such as storage.example.com, without scheme and path"
            )
    return hosts


def parse_prices(value: object, name: str) -> Prices:
    """Parse prices.

    :param value: a mapping, or its JSON; None and an empty text are no prices.
    :param name: name of the field, for the error.
    :raises WanValidationError: naming the price that is not US dollars per second of video.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none")):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise WanValidationError(name, value, f"is not JSON: it {_PRICES_RULE}") from None
    if not isinstance(value, Mapping):
        raise WanValidationError(name, value, _PRICES_RULE)
    prices: dict[str, float | Mapping[str, float]] = {}
    for key, price in value.items():
        if isinstance(price, Mapping):
            prices[str(key)] = {str(k): _parse_price(f"{name}[{key}][{k}]", each) for k, each in price.items()}
        else:
            prices[str(key)] = _parse_price(f"{name}[{key}]", price)
    return prices


def _parse_price(name: str, value: object) -> float:
    try:
        price = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        price = math.nan
    if not 0 <= price < math.inf:
        raise WanValidationError(name, value, "must be US dollars per second of video")
    return price


def _parse_rate(value: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise WanValidationError("[wan] status_requests_per_second", value, "must be a number above 0")
    return rate


def _get_option(name: str) -> str | None:
    return (conf.get("wan", name, fallback=None) or "").strip() or None


def _flatten(prices: Prices) -> _FlatPrices:
    """Return prices by model and resolution."""
    bare = {(DEFAULT_MODEL, name): each for name, each in prices.items() if not isinstance(each, Mapping)}
    named = {
        (model, resolution): price
        for model, each in prices.items()
        if isinstance(each, Mapping)
        for resolution, price in each.items()
    }
    return bare | named


def _unflatten(prices: _FlatPrices) -> Prices:
    nested: dict[str, float | Mapping[str, float]] = {}
    models: Iterable[str] = dict.fromkeys(model for model, _ in prices)
    for model in models:
        own = {resolution: price for (name, resolution), price in prices.items() if name == model}
        if model == DEFAULT_MODEL:
            nested.update(own)
        else:
            nested[model] = own
    return nested
