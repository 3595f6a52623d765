# SPDX-License-Identifier: Apache-2.0
"""The hook: it turns an Airflow connection of type ``wan`` into a client of the API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_wan.api.config import (
    DEFAULT_BASE_URL,
    DEFAULT_STATUS_REQUESTS_PER_SECOND,
    WanConfig,
)
from airflow_provider_wan.api.errors import WanError, WanNotFoundError, WanValidationError
from airflow_provider_wan.api.network import NetworkSettings
from airflow_provider_wan.api.request import DEFAULT_MODEL
from airflow_provider_wan.hooks.limits import (
    Limits,
    apply_limits,
    parse_hosts,
    parse_prices,
    read_limits,
    warn_of_ignored,
)
from airflow_provider_wan.polling.hub import shared_hub
from airflow_provider_wan.polling.throttle import shared_rate_limiter

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from airflow_provider_wan.api.async_client import AsyncWanClient
    from airflow_provider_wan.api.client import WanClient
    from airflow_provider_wan.api.pricing import Prices
    from airflow_provider_wan.api.record import ModelInfo, RequestPage, RequestRecord
    from airflow_provider_wan.api.request import WanRequest
    from airflow_provider_wan.polling.decision import PollTarget
    from airflow_provider_wan.polling.hub import Hub
    from airflow_provider_wan.polling.subscription import ErrorCallback, StatusCallback, WaitOutcome
    from airflow_provider_wan.polling.throttle import RateLimiter

T = TypeVar("T")


class WanHook(BaseHook):
    """Interact with the request-queue API.

    The connection's password is the API key and its host the base URL. Everything else is in its extra. The arguments
    of a task and ``[wan]`` of Airflow's configuration take precedence for prices, result hosts, model and rate:
    :mod:`airflow_provider_wan.hooks.limits`.

    :param wan_conn_id: id of a connection of type ``wan``.
    :param prices: the task's prices: US dollars per second of video.
    :param result_hosts: the task's list of hosts from which clips may be downloaded.

    Source: GMI Cloud, request queue API.
    """

    conn_name_attr = "wan_conn_id"
    default_conn_name = "wan_default"
    conn_type = "wan"
    hook_name = "Wan (GMI Cloud)"

    def __init__(
        self,
        wan_conn_id: str = default_conn_name,
        *,
        prices: Mapping[str, Any] | str | None = None,
        result_hosts: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        self.wan_conn_id = wan_conn_id
        self._prices = prices
        self._result_hosts = result_hosts

    @cached_property
    def config(self) -> WanConfig:
        """The validated connection, within the limits of task and deployment. Airflow masks its password in logs.

        :raises WanValidationError: naming the invalid field of the connection, argument or option.
        """
        connection = self.get_connection(self.wan_conn_id)
        config = parse_connection(connection, read_limits(self._prices, self._result_hosts))
        warn_of_ignored(config, _parse_given_prices(_parse_extra(connection.extra)), self.wan_conn_id)
        return config

    @cached_property
    def client(self) -> WanClient:
        """The synchronous client."""
        from airflow_provider_wan.api.client import WanClient

        config, rate_limiter = self.config, shared_rate_limiter(self.wan_conn_id)
        share_rate(rate_limiter, config)
        rate = config.status_requests_per_second
        return WanClient(config, acquire_slot=lambda: rate_limiter.acquire(time.monotonic(), rate))

    def get_conn(self) -> WanClient:
        """Return the synchronous client."""
        return self.client

    def submit(self, request: WanRequest) -> RequestRecord:
        """Send the paid POST, once. Operators don't call this: :mod:`airflow_provider_wan.ledger.submitter` does.

        :param request: the clip to make.
        :raises WanRefusedError: if nothing was accepted and nothing is paid.
        :raises WanInDoubtError: if the request may have been accepted.
        """
        return self.client.submit(request)

    def get_request(self, request_id: str) -> RequestRecord:
        """Get one request.

        :param request_id: id of the request.
        :raises WanNotFoundError: if the API knows no such request.
        :raises WanLookupError: if there is no usable response.
        """
        return self.client.get_request(request_id)

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Get one page of the account's requests of a model, by default the connection's model."""
        return self.client.list_requests(model_id=model_id, limit=limit, offset=offset)

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, best effort.

        :returns: whether the API accepted the call.
        """
        return self.client.cancel(request_id)

    def upload(self, data: bytes, file_type: str) -> str:
        """Upload a file to a location from which the API can download it.

        :param data: the content.
        :param file_type: ``jpeg``, ``jpg``, ``png``, ``mp4``, ``mp3`` or ``wav``.
        :returns: its public URL.
        """
        return self.client.upload(data, file_type)

    def list_models(self) -> list[str]:
        """List the ids of the models that the key may use."""
        return self.client.list_models()

    def get_model(self, model_id: str) -> ModelInfo:
        """Get the API's description of a model.

        :raises WanNotFoundError: if the API knows no such model.
        """
        return self.client.get_model(model_id)

    def test_connection(self) -> tuple[bool, str]:
        """Get the list of models, which costs nothing.

        :returns: whether the connection works, and a message for a person.
        """
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
        """Enter the hub that all triggers of this connection in this process share.

        The connection is loaded once for all of them, not for each poll.
        """
        return shared_hub(self.wan_conn_id, self._connect)

    def wait_sync(
        self, target: PollTarget, status_callback: StatusCallback, error_callback: ErrorCallback | None = None
    ) -> WaitOutcome:
        """Wait in this thread until a request ends, or until its deadline, as a trigger would.

        :param target: what to wait for.
        :param status_callback: called with the API's own word for the status each time that it changes.
        :param error_callback: called with the error of a poll each time that its kind changes; the wait goes on.
        :returns: how the wait ended.
        """

        async def wait() -> WaitOutcome:
            # The connection is loaded by this thread, as in the rest of the worker.
            async with shared_hub(self.wan_conn_id, self._connect_sync) as hub:
                return await hub.wait(target, status_callback, error_callback)

        return run_sync(wait)

    async def aget_request(self, request_id: str) -> RequestRecord:
        """Get one request without blocking, within the shared rate. Errors are those of :meth:`get_request`."""
        async with self.hub() as hub:
            return await hub.get_request(request_id)

    async def acancel(self, request_id: str) -> bool:
        """Ask for a cancellation without blocking.

        :returns: whether the API accepted the call.
        """
        async with self.hub() as hub:
            return await hub.cancel(request_id)

    async def _connect_sync(self) -> AsyncWanClient:
        from airflow_provider_wan.api.async_client import AsyncWanClient

        config = parse_connection(self.get_connection(self.wan_conn_id))
        share_rate(shared_rate_limiter(self.wan_conn_id), config)
        return AsyncWanClient(config)

    async def _connect(self) -> AsyncWanClient:
        from airflow_provider_wan.api.async_client import AsyncWanClient

        config = parse_connection(await _load_connection(self, self.wan_conn_id))
        rate_limiter = shared_rate_limiter(self.wan_conn_id)
        if not rate_limiter.is_shared_by(_build_limits_key(config)):
            from asgiref.sync import sync_to_async

            # In a thread from which Airflow can load the AWS connection.
            await sync_to_async(share_rate)(rate_limiter, config)
        # A triggerer knows no prompts, so it can't take them out of what the API says.
        return AsyncWanClient(config, include_reasons=False)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's standard fields for Airflow 3.1; later versions read them from the provider info."""
        declared = _load_form()["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in declared.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow 3.1; later versions read them from the provider info."""
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

        return {name: widget(field) for name, field in _load_form()["conn-fields"].items()}


def parse_connection(connection: Any, limits: Limits | None = None) -> WanConfig:
    """Parse a connection of type ``wan``, and apply the limits of task and deployment.

    :param connection: the Airflow connection.
    :param limits: the limits; default: those of the deployment.
    :raises WanValidationError: naming the invalid field.
    """
    # BaseHook parses an invalid extra as an empty one: a lost allow list would go unnoticed.
    extra = _parse_extra(connection.extra)
    rate = _get_extra(extra, "status_requests_per_second", DEFAULT_STATUS_REQUESTS_PER_SECOND)
    config = WanConfig(
        api_key=(connection.password or "").strip(),
        base_url=_build_base_url(connection),
        organization_id=_parse_text(extra, "organization_id"),
        model=_get_extra(extra, "model", DEFAULT_MODEL),
        status_requests_per_second=_parse_number("status_requests_per_second", rate),
        limits_uri=_parse_text(extra, "limits_uri"),
        result_hosts=parse_hosts(_get_extra(extra, "result_hosts", ()), "result_hosts"),
        prices=_parse_given_prices(extra),
        network=NetworkSettings(**{f.name: _parse_text(extra, f.name) for f in fields(NetworkSettings)}),
    )
    given = {name for name in extra if _get_extra(extra, name, None) is not None}
    return apply_limits(config, given, read_limits() if limits is None else limits)


def _parse_given_prices(extra: Mapping[str, Any]) -> Prices:
    return parse_prices(_get_extra(extra, "prices", None), "prices")


def share_rate(rate_limiter: RateLimiter, config: WanConfig) -> None:
    """Let a process share the rate of its account, if the connection says where; else end that.

    :param rate_limiter: the connection's.
    :param config: the connection.
    :raises WanValidationError: if ``limits_uri`` is not the location of a store.
    """
    key = _build_limits_key(config)
    if rate_limiter.is_shared_by(key):
        return
    if config.limits_uri is None:
        rate_limiter.share(None, None)
        return
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.ledger.shared_rate import SharedRate
    from airflow_provider_wan.ledger.stores import open_store

    scheme, _, rest = config.limits_uri.partition("://")
    conn_id, separator, location = rest.rpartition("@")
    client: Any = None
    if scheme == "s3":
        # Only this thread can load the AWS connection.
        client = create_s3_client(conn_id if separator else "aws_default")
    store = open_store(f"{scheme}://{location}", s3_client=lambda: client)
    rate_limiter.share(key, SharedRate(store, f"limits/{config.account.id}"))


def _build_limits_key(config: WanConfig) -> tuple[str, str] | None:
    return None if config.limits_uri is None else (config.limits_uri, config.account.id)


def _load_form() -> dict[str, Any]:
    from airflow_provider_wan.get_provider_info import get_provider_info

    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form


async def _load_connection(hook: BaseHook, conn_id: str) -> Any:
    if hasattr(hook, "aget_connection"):
        return await hook.aget_connection(conn_id)
    # Airflow 3.1 can't load connections asynchronously.
    from asgiref.sync import sync_to_async

    return await sync_to_async(hook.get_connection)(conn_id)


def _build_base_url(connection: Any) -> str:
    host = (connection.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    if "://" in host:
        return str(host)
    # The parts of a connection URI: wan://:key@host:port/path?__extra__=…
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"  # an address of IPv6, which Airflow takes out of its brackets
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") or host.startswith("[::1]") else "https"
    port = f":{connection.port}" if connection.port else ""
    path = f"/{connection.schema.strip('/')}" if connection.schema else ""
    return f"{scheme}://{host}{port}{path}"


def _parse_extra(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        extra = json.loads(text)
    except ValueError:
        raise WanValidationError("extra", "***", "is not JSON", "Correct the connection's extra") from None
    if not isinstance(extra, dict):
        raise WanValidationError("extra", "***", "must be a JSON object", "Correct the connection's extra")
    return extra


def _get_extra(extra: Mapping[str, Any], name: str, default: Any) -> Any:
    value = extra.get(name)
    if isinstance(value, str):
        value = value.strip()
    return default if value is None or value == "" else value


def _parse_text(extra: Mapping[str, Any], name: str) -> str | None:
    value = _get_extra(extra, name, None)
    if value is not None and not isinstance(value, str):
        raise WanValidationError(name, value, "must be text")
    return value


def _parse_number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise WanValidationError(name, value, "must be a number") from None


def run_sync(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end. If a loop runs in this thread already (a notebook), another thread runs it.

    :param start: creates the coroutine.
    :returns: its result.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, start()).result()
