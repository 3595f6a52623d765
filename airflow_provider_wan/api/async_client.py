# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client, on aiohttp: lookups and cancellations only, never a submission.

It sends each request once and does not retry: the caller polls again anyway.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from airflow_provider_wan import metrics
from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.api.network import describe_connection_error
from airflow_provider_wan.api.record import RequestPage, RequestRecord
from airflow_provider_wan.api.stepwise import run_cooperatively
from airflow_provider_wan.api.wire import (
    CONNECT_TIMEOUT,
    MAX_BODY,
    MAX_HEAD,
    HttpRequest,
    HttpResponse,
    TransportError,
    build_list_request,
    build_request_by_id,
    no_response_message,
    parse_lookup_response,
    parse_request,
    validate_request_id,
)

if TYPE_CHECKING:
    import aiohttp

    from airflow_provider_wan.api.config import WanConfig


# A late response costs a trigger nothing; a slow service that is asked again earlier would never respond in time.
POLL_TIMEOUT = 120.0


class AsyncTransport(Protocol):
    """Sends one HTTP request and returns its response, without blocking."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request; a POST exactly once.

        :raises TransportError: if no complete response was received.
        """

    async def close(self) -> None:
        """Release all resources."""


class AiohttpTransport:
    """An :class:`AsyncTransport` on one aiohttp session, which the first request opens."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None
        self._closed = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        """See :meth:`AsyncTransport.send`."""
        import aiohttp
        from yarl import URL

        text = f"{request.url}?{urlencode(request.params)}" if request.params else request.url
        # Quoting it anew would break the signature of an upload URL.
        url = URL(text, encoded=text.isascii())
        proxy = self._config.network.find_proxy(request.url)
        session, context = await self._open_session()
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        if request.authorized:
            headers["Authorization"] = f"Bearer {self._config.api_key}"
            if self._config.organization_id:
                headers["X-Organization-ID"] = self._config.organization_id
        status = None
        try:
            async with session.request(
                request.method,
                url,
                data=request.body,
                headers=headers,
                proxy=proxy,
                ssl=context,
                timeout=aiohttp.ClientTimeout(total=request.timeout, sock_connect=CONNECT_TIMEOUT),
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
            # A certificate may have been replaced: the next request reads a changed file again.
            self._context = None
            unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            reason = describe_connection_error(error)
            if isinstance(error, TimeoutError) and not unsent:
                reason += f", {request.timeout:.0f} s at most"
        finally:
            metrics.count_response(request.method, request.url, status)
        # Not in the except clause: the chained error may hold the URL or headers.
        raise TransportError(reason, sent=not unsent)

    async def _open_session(self) -> tuple[aiohttp.ClientSession, ssl.SSLContext]:
        import aiohttp

        if (context := self._context) is None:
            # It reads files, which would block the loop.
            context = self._context = await asyncio.to_thread(self._config.network.ssl_context)
        if self._session is None and not self._closed:
            # No trust_env: aiohttp would read ~/.netrc for each request, and reject our header if that has an entry.
            self._session = aiohttp.ClientSession(max_line_size=MAX_HEAD, max_field_size=MAX_HEAD)
        if self._session is None or self._closed:
            raise TransportError("the session is closed", sent=False)
        return self._session, context

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
    :param include_reasons: whether errors quote the API's reasons, which may repeat a prompt: only for processes that
        know the prompts, and so take them out.
    """

    def __init__(
        self, config: WanConfig, transport: AsyncTransport | None = None, *, include_reasons: bool = True
    ) -> None:
        self.config = config
        self._include_reasons = include_reasons
        self._transport = transport if transport is not None else AiohttpTransport(config)

    async def get_request(self, request_id: str) -> RequestRecord:
        """Get one request, with one attempt. Errors are those of :meth:`WanClient.get_request`."""
        request = build_request_by_id(self.config.base_url, validate_request_id(request_id))
        return parse_request(
            await self._send(request, f"Request {request_id}"), request_id, include_reason=self._include_reasons
        )

    async def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Get one page of the list, with one attempt. Errors are those of :meth:`WanClient.list_requests`."""
        request = build_list_request(self.config.base_url, model_id or self.config.model, limit, offset)
        what = "The list of requests"
        response = await self._send(request, what)
        page = parse_lookup_response(response, what, include_reason=self._include_reasons)
        return await run_cooperatively(RequestPage.parse_stepwise(page))

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

    async def _send(self, request: HttpRequest, what: str) -> HttpResponse:
        try:
            return await self._transport.send(replace(request, timeout=POLL_TIMEOUT))
        except TransportError as error:
            reason = str(error)
        raise WanLookupError(no_response_message(what, reason))
