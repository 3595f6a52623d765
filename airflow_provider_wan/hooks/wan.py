# SPDX-License-Identifier: Apache-2.0
"""The hook: an Airflow connection of type ``wan`` made into a client of the API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_wan.api.config import (
    DEFAULT_BASE_URL,
    DEFAULT_PRICES,
    DEFAULT_STATUS_REQUESTS_PER_SECOND,
    WanConfig,
)
from airflow_provider_wan.api.errors import WanError, WanNotFoundError, WanValidationError
from airflow_provider_wan.api.request import DEFAULT_MODEL
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.turns import turns_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from airflow_provider_wan.api.aio import AsyncWanClient
    from airflow_provider_wan.api.client import WanClient
    from airflow_provider_wan.api.record import ModelInfo, RequestPage, RequestRecord
    from airflow_provider_wan.api.request import I2VRequest
    from airflow_provider_wan.polling.hub import Hub
    from airflow_provider_wan.polling.schedule import Wait
    from airflow_provider_wan.polling.waiter import Ended


class WanHook(BaseHook):
    """
    Talks to the wan2.6-i2v request-queue API.

    The connection's password is the API key and its host the base URL; organization id, model, status
    requests per second, result hosts and prices are extras of it.

    :param wan_conn_id: id of a connection of type ``wan``.

    Source: GMI Cloud, request queue API.
    """

    conn_name_attr = "wan_conn_id"
    default_conn_name = "wan_default"
    conn_type = "wan"
    hook_name = "Wan (GMI Cloud)"

    def __init__(self, wan_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.wan_conn_id = wan_conn_id

    @cached_property
    def config(self) -> WanConfig:
        """
        The connection, checked. Airflow itself masks its password in logs.

        :raises WanValidationError: naming the field of the connection.
        """
        return config_of(self.get_connection(self.wan_conn_id))

    @cached_property
    def client(self) -> WanClient:
        """The synchronous client."""
        from airflow_provider_wan.api.client import WanClient

        turns, rate = turns_of(self.wan_conn_id), self.config.status_requests_per_second
        return WanClient(self.config, turn=lambda: turns.take(time.monotonic(), rate))

    def get_conn(self) -> WanClient:
        """Return the synchronous client."""
        return self.client

    def submit(self, request: I2VRequest) -> RequestRecord:
        """
        Send the paid POST, once. Operators don't call this: ``ledger.submission`` does.

        :raises WanRefusedError: nothing was accepted, nothing is paid.
        :raises WanInDoubtError: it may have been accepted.
        """
        return self.client.submit(request)

    def get_request(self, request_id: str) -> RequestRecord:
        """
        Look up one request.

        :raises WanNotFoundError: where the API knows no such request.
        :raises WanLookupError: where it does not answer.
        """
        return self.client.get_request(request_id)

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Look up one page of one's own requests of a model (default: the connection's)."""
        return self.client.list_requests(model_id=model_id, limit=limit, offset=offset)

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, best effort. :return: whether the API took the call."""
        return self.client.cancel(request_id)

    def upload(self, data: bytes, file_type: str) -> str:
        """Put a file where the API can fetch it. :return: its public URL."""
        return self.client.upload(data, file_type)

    def list_models(self) -> list[str]:
        """Return the ids of the models that the key may use."""
        return self.client.list_models()

    def get_model(self, model_id: str) -> ModelInfo:
        """Return what the API tells of a model. :raises WanNotFoundError: where it knows none of that id."""
        return self.client.get_model(model_id)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the list of models, which costs nothing. :return: whether it works, and words for a person."""
        try:
            models = self.list_models()
            model = self.config.model
            if model not in models:
                self.get_model(model)
        except WanNotFoundError:
            return False, f"The key works, but it may not use the model {model!r}. It may use: {', '.join(models)}"
        except WanError as error:
            return False, str(error)
        except Exception as error:
            return False, f"The connection can't be read: {type(error).__name__}: {error}"
        return True, f"The key works, and {model} can be used. Nothing was spent."

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """
        Enter the look-ups that all triggers of this connection in this process share.

        The connection is looked up once for all of them, not for each look.
        """
        return shared_hub(self.wan_conn_id, self._connect)

    def wait_here(self, wait: Wait, tell: Callable[[str], None]) -> Ended:
        """
        Wait in this thread until a request is done, or until its end time, as a trigger would.

        :param tell: called with the API's word for where it stands, each time that changes.
        """
        from airflow_provider_wan.polling.here import run_here

        async def waited() -> Ended:
            # The connection is read by this thread, as in the rest of the worker.
            async with shared_hub(self.wan_conn_id, self._connect_here) as hub:
                return await hub.wait(wait, tell)

        return run_here(waited)

    async def aget_request(self, request_id: str) -> RequestRecord:
        """Look up one request without blocking, within the rate that is shared. Errors as :meth:`get_request`."""
        async with self.hub() as hub:
            return await hub.look_up(request_id)

    async def acancel(self, request_id: str) -> bool:
        """Ask for a cancellation without blocking. :return: whether the API took the call."""
        async with self.hub() as hub:
            return await hub.cancel(request_id)

    async def _connect_here(self) -> AsyncWanClient:
        from airflow_provider_wan.api.aio import AsyncWanClient

        return AsyncWanClient(config_of(self.get_connection(self.wan_conn_id)))

    async def _connect(self) -> AsyncWanClient:
        from airflow_provider_wan.api.aio import AsyncWanClient

        return AsyncWanClient(config_of(await _connection(self, self.wan_conn_id)))

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's standard fields, for Airflow 3.1; later ones read them from the provider info."""
        declared = _declared_form()["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in declared.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow 3.1; later ones read them from the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import StringField

        def widget(field: dict[str, Any]) -> Any:
            default = field["schema"].get("default")
            return StringField(
                field["label"],
                widget=BS3TextFieldWidget(),
                description=field["description"],
                default=None if default is None else str(default),
            )

        return {name: widget(field) for name, field in _declared_form()["conn-fields"].items()}


def config_of(connection: Any) -> WanConfig:
    """
    Read a connection of type ``wan``.

    :raises WanValidationError: naming the field.
    """
    # BaseHook's own reading of a broken extra is an empty one: a lost allow list would go unnoticed.
    extra = _extra(connection.extra)
    rate = _given(extra, "status_requests_per_second", DEFAULT_STATUS_REQUESTS_PER_SECOND)
    return WanConfig(
        api_key=(connection.password or "").strip(),
        base_url=_base_url(connection),
        organization_id=_given(extra, "organization_id", None),
        model=_given(extra, "model", DEFAULT_MODEL),
        status_requests_per_second=_number("status_requests_per_second", rate),
        result_hosts=_hosts(_given(extra, "result_hosts", ())),
        prices=_prices(_given(extra, "prices", {})),
    )


def _declared_form() -> dict[str, Any]:
    from airflow_provider_wan.get_provider_info import get_provider_info

    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form


async def _connection(hook: BaseHook, conn_id: str) -> Any:
    if hasattr(hook, "aget_connection"):
        return await hook.aget_connection(conn_id)
    # Airflow 3.1 has no asynchronous look-up.
    from asgiref.sync import sync_to_async

    return await sync_to_async(hook.get_connection)(conn_id)


def _base_url(connection: Any) -> str:
    host = (connection.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    if "://" in host:
        return str(host)
    # What a connection URI was taken apart into: wan://:key@host:port/path?__extra__=…
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    port = f":{connection.port}" if connection.port else ""
    path = f"/{connection.schema.strip('/')}" if connection.schema else ""
    return f"{scheme}://{host}{port}{path}"


def _extra(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        extra = json.loads(text)
    except ValueError:
        raise WanValidationError("extra", "***", "is not JSON", "Correct the connection's extra") from None
    if not isinstance(extra, dict):
        raise WanValidationError("extra", "***", "must be a JSON object", "Correct the connection's extra")
    return extra


def _given(extra: Mapping[str, Any], name: str, default: Any) -> Any:
    value = extra.get(name)
    if isinstance(value, str):
        value = value.strip()
    return default if value is None or value == "" else value


def _number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise WanValidationError(name, value, "must be a number") from None


def _hosts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [host for host in value.replace(",", " ").split() if host]
    if not isinstance(value, list | tuple):
        raise WanValidationError("result_hosts", value, "must be host names, separated by commas")
    return tuple(str(host).lower() for host in value)


def _prices(value: object) -> Mapping[str, float]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise WanValidationError("prices", value, 'must be JSON such as {"720P": 0.10, "1080P": 0.15}') from None
    if not isinstance(value, Mapping):
        raise WanValidationError("prices", value, 'must be an object such as {"720P": 0.10, "1080P": 0.15}')
    return {**DEFAULT_PRICES, **{str(name): _number(f"prices[{name}]", price) for name, price in value.items()}}
