# SPDX-License-Identifier: Apache-2.0
"""
The asynchronous client, on aiohttp: look-ups and cancellations only, never a submission.

It asks once and does not repeat: whoever polls, repeats by polling.
"""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from airflow_provider_wan import metrics
from airflow_provider_wan.api.client import checked_id
from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.record import RequestPage, RequestRecord
from airflow_provider_wan.api.wire import (
    CONNECT_TIMEOUT,
    MAX_BODY,
    HttpAnswer,
    HttpCall,
    TransportError,
    list_call,
    read_json,
    request_call,
)

if TYPE_CHECKING:
    import aiohttp

    from airflow_provider_wan.api.config import WanConfig


# A look that is answered late costs a trigger nothing but patience; asked again, it would never be answered.
PATIENCE = 120.0


class AsyncTransport(Protocol):
    """What carries one HTTP request and brings its response, without blocking."""

    async def send(self, call: HttpCall) -> HttpAnswer:
        """Carry it exactly once. :raises TransportError: where no whole response came back."""

    async def close(self) -> None:
        """Give back what it holds."""


class AiohttpTransport:
    """:class:`AsyncTransport` on one aiohttp session, opened with the first call."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, call: HttpCall) -> HttpAnswer:
        """See :meth:`AsyncTransport.send`."""
        import aiohttp

        if self._closed:
            raise TransportError("the session is closed", sent=False)
        if self._session is None:
            # Not trust_env: it would read ~/.netrc at each call, and refuse our header where that has an entry.
            self._session = aiohttp.ClientSession(proxy=_proxy(self._config.base_url))
        headers = {"Content-Type": call.content_type} if call.content_type else {}
        if call.authorized:
            headers["Authorization"] = f"Bearer {self._config.api_key}"
            if self._config.organization_id:
                headers["X-Organization-ID"] = self._config.organization_id
        timeout = aiohttp.ClientTimeout(total=call.timeout, sock_connect=CONNECT_TIMEOUT)
        status = None
        try:
            async with self._session.request(
                call.method,
                call.url,
                params=call.params or None,
                data=call.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise TransportError(f"an answer of over {MAX_BODY} bytes", sent=True)
                status = response.status
                names = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status, names, bytes(body))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            never = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            # The texts of aiohttp can hold whole URLs: the kind of error is enough.
            raise TransportError(type(error).__name__, sent=not never) from None
        finally:
            metrics.answered(call.method, call.url, status)

    async def close(self) -> None:
        """Close the session; what is sent afterwards does not leave."""
        self._closed = True
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


class AsyncWanClient:
    """
    The look-ups of the API, for triggers.

    :param config: account and deployment.
    :param transport: what speaks HTTP; by default :class:`AiohttpTransport`.
    """

    def __init__(self, config: WanConfig, transport: AsyncTransport | None = None) -> None:
        self.config = config
        self._transport = transport if transport is not None else AiohttpTransport(config)

    async def get_request(self, request_id: str) -> RequestRecord:
        """Look up one request, once. Errors as :meth:`WanClient.get_request`."""
        call = request_call(self.config.base_url, checked_id(request_id))
        return RequestRecord.parse(await self._look_up(call, f"Request {request_id}"))

    async def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Look up one page of the list, once. Errors as :meth:`WanClient.list_requests`."""
        call = list_call(self.config.base_url, model_id or self.config.model, limit, offset)
        return RequestPage.parse(await self._look_up(call, "The list of requests"))

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once. :return: whether the API took the call."""
        try:
            answer = await self._transport.send(request_call(self.config.base_url, checked_id(request_id), "DELETE"))
        except TransportError:
            return False
        return 200 <= answer.status < 300

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _look_up(self, call: HttpCall, what: str) -> object:
        try:
            answer = await self._transport.send(replace(call, timeout=PATIENCE))
        except TransportError as error:
            raise WanLookupError(f"{what}: no answer ({error})") from None
        return read_json(answer, what)


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment sets for a URL, as requests would find it."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
