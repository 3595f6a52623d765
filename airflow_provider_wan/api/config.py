# SPDX-License-Identifier: Apache-2.0
"""The configuration of a client: an account and its service, validated on construction."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.network import NetworkSettings
from airflow_provider_wan.api.pricing import DEFAULT_PRICES, Prices, compute_cost, find_price
from airflow_provider_wan.api.redaction import register_secret
from airflow_provider_wan.api.request import DEFAULT_MODEL, Resolution

DEFAULT_BASE_URL = "https://console.gmicloud.ai/api/v1/ie/requestqueue/apikey"
DEFAULT_STATUS_REQUESTS_PER_SECOND = 5.0
_LIMITS_URI = re.compile(r"file:///.+|s3://([^@/:]+@)?[^@/:]+(/[^@]*)?")


@dataclass(frozen=True)
class Account:
    """Who pays: an account at one deployment of the API.

    Two connections with one id reach the same requests, unless their keys belong to different accounts, which only
    ``key_id`` shows. A key may be replaced by another of the same account, so it is no part of ``id``.

    :param id: 16 hex digits: a hash of the service's normalized address and the organization id.
    :param name: address and organization, for people.
    :param key_id: 8 hex digits: a hash of the API key. It is only compared.
    """

    id: str
    name: str
    key_id: str


@dataclass(frozen=True)
class WanConfig:
    """One account at one deployment of the API.

    :param api_key: the key; it is excluded from the representation of this object.
    :param base_url: http(s) URL of the request queue, to which ``/requests`` is added.
    :param organization_id: sent as ``X-Organization-ID``, for accounts in several organizations.
    :param model: model id for tasks that name none.
    :param status_requests_per_second: maximum number of status requests per second: of each process, or of all that
        share it.
    :param limits_uri: location by which processes share that rate; None: each process has it by itself.
    :param result_hosts: hosts from which clips may be downloaded; empty allows the one that the API names.
    :param prices: US dollars per second of video: by resolution for ``wan2.6-i2v``, by model and resolution for others.
    :param network: TLS, proxy and bypass.
    :param required_hosts: lists of a task or the deployment, each of which a clip's host has to be in as well.
    :param unconfirmed_prices: models and resolutions whose price nobody but the connection says; no limit in US
        dollars may rely on them.
    :raises WanValidationError: naming the invalid field as the connection calls it.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    organization_id: str | None = None
    model: str = DEFAULT_MODEL
    status_requests_per_second: float = DEFAULT_STATUS_REQUESTS_PER_SECOND
    limits_uri: str | None = None
    result_hosts: tuple[str, ...] = ()
    prices: Prices = field(default_factory=lambda: dict(DEFAULT_PRICES))
    network: NetworkSettings = field(default_factory=NetworkSettings)
    required_hosts: tuple[tuple[str, ...], ...] = ()
    unconfirmed_prices: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        # The value is not included: it is the secret.
        if not isinstance(self.api_key, str) or not self.api_key:
            raise WanValidationError("api_key", "", "is empty", "Put the API key into the connection's password field")
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise WanValidationError(
                "api_key",
                "***",
                "contains a space, a line break or another character that no key has",
                "Copy it again",
            )
        organization = self.organization_id
        if organization is not None and not (organization.isascii() and organization.isprintable()):
            raise WanValidationError(
                "organization_id", organization, "must be ASCII without line breaks", "Copy it again"
            )
        register_secret(self.api_key)
        if not _is_base_url(self.base_url):
            # What precedes the @ may be a password.
            _, at, display = self.base_url.rpartition("@")
            raise WanValidationError(
                "base_url",
                f"{'***@' if at else ''}{display}".partition("?")[0],
                "must be an http or https URL without user, password, query and fragment",
                f"The service's own is {DEFAULT_BASE_URL}",
            )
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        rate = self.status_requests_per_second
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate) or rate <= 0:
            raise WanValidationError("status_requests_per_second", rate, "must be a number above 0")
        if self.limits_uri is not None:
            validate_limits_uri("limits_uri", self.limits_uri)
        for host in self.result_hosts:
            if not isinstance(host, str) or not host or "/" in host or "@" in host:
                raise WanValidationError(
                    "result_hosts",
                    host,
                    "must be host names such as storage.example.com, without scheme and path",
                )
        for name, value in self.prices.items():
            by_resolution = value if isinstance(value, Mapping) else {name: value}
            for resolution, price in by_resolution.items():
                if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
                    label = name if by_resolution is not value else f"{name}][{resolution}"
                    raise WanValidationError(f"prices[{label}]", price, "must be US dollars per second of video")

    @property
    def account(self) -> Account:
        """The account that this configuration reaches."""
        parts = urlsplit(self.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}{parts.path.rstrip('/')}"
        organization = f", organization {self.organization_id}" if self.organization_id else ""
        return Account(
            hashlib.sha256(f"{address}\n{self.organization_id or ''}".encode()).hexdigest()[:16],
            f"{self.base_url}{organization}",
            hashlib.sha256(self.api_key.encode()).hexdigest()[:8],
        )

    def url(self, path: str) -> str:
        """Return the absolute URL of an API path."""
        return self.base_url + path

    def get_limit_prices(self, limit: float | None) -> Prices:
        """Return the prices for a payment: under a limit, only those that not only the connection says.

        :param limit: limit in US dollars; ``None`` for no limit.
        """
        if limit is None or not self.unconfirmed_prices:
            return self.prices
        confirmed: dict[str, float | Mapping[str, float]] = {}
        for name, value in self.prices.items():
            if isinstance(value, Mapping):
                own = {key: price for key, price in value.items() if (name, key) not in self.unconfirmed_prices}
                confirmed[name] = own
            elif (DEFAULT_MODEL, name) not in self.unconfirmed_prices:
                confirmed[name] = value
        return confirmed

    def get_prices(self, model: str) -> dict[str, float]:
        """Return the prices of a model by resolution, in US dollars per second of video."""
        found = {name: find_price(model, name, self.prices) for name in Resolution}
        return {str(name): price for name, price in found.items() if price is not None}

    def cost(self, resolution: str, seconds: float, model: str = DEFAULT_MODEL) -> float | None:
        """Return the price of a clip in US dollars; see :func:`~airflow_provider_wan.api.pricing.compute_cost`."""
        return compute_cost(resolution, seconds, self.prices, model)


def _is_base_url(text: str) -> bool:
    """Return whether a text is an http or https URL to which a path can be added."""
    try:
        parts = urlsplit(text)
        is_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    has_more = any((parts.query, parts.fragment, parts.username, parts.password)) or " " in text
    return parts.scheme in ("http", "https") and is_host and not has_more


def validate_limits_uri(name: str, uri: str) -> None:
    """Refuse a text that is not the location of shared limits.

    :param name: name of the field, for the error.
    :param uri: the location.
    :raises WanValidationError: if it is not one.
    """
    if not _LIMITS_URI.fullmatch(uri):
        raise WanValidationError(
            name, uri, "must be s3://bucket/prefix, s3://aws_conn_id@bucket/prefix or file:///absolute/folder"
        )
