# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client, on aiohttp: lookups and cancellations only, never a submission.

It sends each request once and does not retry: the caller polls again anyway.
"""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from airflow_provider_wan import metrics
from airflow_provider_wan.api.client import validate_request_id
from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.record import RequestPage, RequestRecord
from airflow_provider_wan.api.wire import (
    CONNECT_TIMEOUT,
    MAX_BODY,
    HttpRequest,
    HttpResponse,
    TransportError,
    build_list_request,
    build_request_by_id,
    parse_lookup_response,
)

if TYPE_CHECKING:
    import aiohttp

    from airflow_provider_wan.api.config import WanConfig


# A late response costs a trigger nothing; a slow service that is asked again earlier would never respond in time.
POLL_TIMEOUT = 120.0


class AsyncTransport(Protocol):
    """Sends one HTTP request and returns its response, without blocking."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request exactly once.

        :raises TransportError: if no complete response was received.
        """

    async def close(self) -> None:
        """Release all resources."""


class AiohttpTransport:
    """An :class:`AsyncTransport` on one aiohttp session, which the first request opens."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        """See :meth:`AsyncTransport.send`."""
        import aiohttp

        if self._closed:
            raise TransportError("the session is closed", sent=False)
        if self._session is None:
            # No trust_env: aiohttp would read ~/.netrc for each request, and reject our header if that has an entry.
            self._session = aiohttp.ClientSession(proxy=_find_proxy(self._config.base_url))
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        if request.authorized:
            headers["Authorization"] = f"Bearer {self._config.api_key}"
            if self._config.organization_id:
                headers["X-Organization-ID"] = self._config.organization_id
        timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=CONNECT_TIMEOUT)
        status = None
        try:
            async with self._session.request(
                request.method,
                request.url,
                params=request.params or None,
                data=request.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise TransportError(f"a response of over {MAX_BODY} bytes", sent=True)
                status = response.status
                names = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status, names, bytes(body))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            # The messages of aiohttp can contain whole URLs, so only the class of the error is used.
            raise TransportError(type(error).__name__, sent=not unsent) from None
        finally:
            metrics.count_response(request.method, request.url, status)

    async def close(self) -> None:
        """Close the session; later requests fail without being sent."""
        self._closed = True
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


class AsyncWanClient:
    """The asynchronous API client, for triggers.

    :param config: account and deployment.
    :param transport: the HTTP transport; by default :class:`AiohttpTransport`.
    """

    def __init__(self, config: WanConfig, transport: AsyncTransport | None = None) -> None:
        self.config = config
        self._transport = transport if transport is not None else AiohttpTransport(config)

    async def get_request(self, request_id: str) -> RequestRecord:
        """Get one request, with one attempt. Errors are those of :meth:`WanClient.get_request`."""
        request = build_request_by_id(self.config.base_url, validate_request_id(request_id))
        return RequestRecord.parse(await self._get_json(request, f"Request {request_id}"))

    async def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Get one page of the list, with one attempt. Errors are those of :meth:`WanClient.list_requests`."""
        request = build_list_request(self.config.base_url, model_id or self.config.model, limit, offset)
        return RequestPage.parse(await self._get_json(request, "The list of requests"))

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once.

        :returns: whether the API accepted the call.
        """
        try:
            response = await self._transport.send(
                build_request_by_id(self.config.base_url, validate_request_id(request_id), "DELETE")
            )
        except TransportError:
            return False
        return 200 <= response.status < 300

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _get_json(self, request: HttpRequest, what: str) -> object:
        try:
            response = await self._transport.send(replace(request, timeout=POLL_TIMEOUT))
        except TransportError as error:
            raise WanLookupError(f"{what}: no response ({error})") from None
        return parse_lookup_response(response, what)


def _find_proxy(url: str) -> str | None:
    """Return the proxy that the environment sets for a URL, by the same rules as requests."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
