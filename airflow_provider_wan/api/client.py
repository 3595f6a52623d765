# SPDX-License-Identifier: Apache-2.0
"""The synchronous client.

:class:`Transport` is the only seam: the HTTP library can be replaced, while all decisions stay here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from airflow_provider_wan import metrics
from airflow_provider_wan.api.blocking_transport import BlockingTransport
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import (
    WanError,
    WanLookupError,
    WanProtocolError,
    WanValidationError,
)
from airflow_provider_wan.api.record import ModelInfo, RequestPage, RequestRecord, parse_model_ids
from airflow_provider_wan.api.wire import (
    CONNECT_TIMEOUT,
    SUBMIT_TIMEOUT,
    HttpRequest,
    HttpResponse,
    TransportError,
    build_list_request,
    build_request_by_id,
    build_submit_request,
    classify_lost_submission,
    no_response_message,
    parse_lookup_response,
    parse_request,
    parse_submit_response,
    validate_request_id,
)

if TYPE_CHECKING:
    import requests

    from airflow_provider_wan.api.config import Account
    from airflow_provider_wan.api.request import WanRequest

__all__ = ["HttpTransport", "Transport", "WanClient", "WanConfig"]

T = TypeVar("T")

LOOKUP_ATTEMPTS = 5
MAX_RETRY_WAIT = 60.0
# A call that begins near the deadline may go on for this long after it; one that begins later gets a short time.
LAST_CALL_SECONDS = 4.0
_LATE_CALL_SECONDS = 2.0

# The content types with which the API signs uploads; not all of them are the registered ones.
UPLOAD_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpg",
    "png": "image/png",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}


class Transport(Protocol):
    """Sends one HTTP request and returns its response."""

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request; a POST exactly once.

        :raises TransportError: if no complete response was received.
        """

    def connect(self, request: HttpRequest) -> OpenRequest:
        """Connect for a request that is sent later, over this connection and no other.

        :raises TransportError: if there is no connection; nothing was sent.
        """

    def close(self) -> None:
        """Release all resources."""


class OpenRequest(Protocol):
    """A request whose connection is open."""

    def send(self, timeout: float) -> HttpResponse:
        """Send the request exactly once.

        :param timeout: seconds until the last byte of the response.
        :raises TransportError: if no complete response was received.
        """

    def close(self) -> None:
        """Close the connection."""


class HttpTransport:
    """The :class:`Transport` over sockets. It neither follows redirects nor retries."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._lookups = BlockingTransport(config)

    def send(self, request: HttpRequest) -> HttpResponse:
        """See :meth:`Transport.send`."""
        return self._lookups.send(request)

    def connect(self, request: HttpRequest) -> OpenRequest:
        """See :meth:`Transport.connect`."""
        from airflow_provider_wan.api.single_use import SingleUseConnection

        try:
            with self._config.network.open_session(request.url) as session:
                opened = SingleUseConnection.open(session, request, self._authorize, CONNECT_TIMEOUT)
        except TransportError:
            metrics.count_response(request.method, request.url, None)
            raise
        return _CountedRequest(opened, request)

    def close(self) -> None:
        """Close the connections."""
        self._lookups.close()

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._config.api_key}"
        if self._config.organization_id:
            request.headers["X-Organization-ID"] = self._config.organization_id
        return request


class _CountedRequest:
    """An :class:`OpenRequest` whose response is counted."""

    def __init__(self, opened: OpenRequest, request: HttpRequest) -> None:
        self._opened = opened
        self._request = request

    def send(self, timeout: float) -> HttpResponse:
        status = None
        try:
            response = self._opened.send(timeout)
            status = response.status
            return response
        finally:
            metrics.count_response(self._request.method, self._request.url, status)

    def close(self) -> None:
        self._opened.close()


class PreparedSubmission:
    """A paid POST whose connection is open, and which has not been sent.

    :param opened: the request and its connection.
    """

    def __init__(self, opened: OpenRequest) -> None:
        self._opened = opened

    def send(self, timeout: float) -> RequestRecord:
        """Send the paid POST, once.

        :param timeout: seconds until the last byte of the response.
        :returns: the accepted request.
        :raises WanRefusedError: if nothing was accepted and nothing is paid.
        :raises WanInDoubtError: if the request may have been accepted.
        """
        try:
            response = self._opened.send(timeout)
        except TransportError as error:
            raise classify_lost_submission(error) from None
        return parse_submit_response(response)

    def close(self) -> None:
        """Close the connection."""
        self._opened.close()


class WanClient:
    """The synchronous API client.

    A submission is sent exactly once and never retried here. Everything else is attempted up to 5 times with jittered
    backoff if the error is retryable; ``Retry-After`` is respected up to a minute.

    :param config: account and deployment.
    :param transport: the HTTP transport; by default :class:`HttpTransport`.
    :param sleep: waits the given number of seconds between the attempts of a lookup.
    :param acquire_slot: asked before each attempt of a lookup; returns the seconds after which to ask again, 0 to
        proceed.
    """

    def __init__(
        self,
        config: WanConfig,
        transport: Transport | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        acquire_slot: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.config = config
        self._transport = transport if transport is not None else HttpTransport(config)
        self._sleep = sleep
        self._acquire_slot = acquire_slot
        #: Unix seconds after which no call and no pause goes on for more than a few seconds; ``None`` for no limit.
        self.deadline: float | None = None

    @property
    def account(self) -> Account:
        """The account that this client reaches."""
        return self.config.account

    def submit(self, request: WanRequest) -> RequestRecord:
        """Send the paid POST, once, over a connection of its own.

        :param request: the clip to make.
        :returns: the accepted request.
        :raises WanRefusedError: if nothing was accepted and nothing is paid.
        :raises WanInDoubtError: if the request may have been accepted.
        """
        prepared = self.prepare_submission(request)
        try:
            return prepared.send(SUBMIT_TIMEOUT)
        finally:
            prepared.close()

    def prepare_submission(self, request: WanRequest) -> PreparedSubmission:
        """Connect for the paid POST, without sending it.

        :param request: the clip to make.
        :raises WanConnectError: if there is no connection; nothing was sent.
        """
        try:
            return PreparedSubmission(self._transport.connect(build_submit_request(self.config.base_url, request)))
        except TransportError as error:
            raise classify_lost_submission(error) from None

    def get_request(self, request_id: str) -> RequestRecord:
        """Get one request.

        :param request_id: id of the request.
        :raises WanNotFoundError: if the API knows no such request.
        :raises WanLookupError: if there is no usable response.
        """
        http_request = build_request_by_id(self.config.base_url, validate_request_id(request_id))
        return self._get(http_request, f"Request {request_id}", lambda response: parse_request(response, request_id))

    def list_requests(
        self, *, model_id: str | None = None, limit: int = 100, offset: int = 0, all_models: bool = False
    ) -> RequestPage:
        """Get one page of the account's requests.

        :param model_id: id of a model; by default the connection's.
        :param limit: number of requests.
        :param offset: number of requests to skip.
        :param all_models: list the requests of all models.
        """
        model = None if all_models else model_id or self.config.model
        http_request = build_list_request(self.config.base_url, model, limit, offset)
        return RequestPage.parse(self._get_json(http_request, "The list of requests"))

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once. The API does not document it, so this is best effort.

        :param request_id: id of the request.
        :returns: whether the API accepted the call. Only a later lookup shows whether the request is cancelled.
        """
        http_request = build_request_by_id(self.config.base_url, validate_request_id(request_id), "DELETE")
        try:
            response = self._transport.send(self._limit(http_request))
        except TransportError:
            return False
        return 200 <= response.status < 300

    def upload(self, data: bytes, file_type: str) -> str:
        """Upload a file to a location from which the API can download it.

        :param data: the content.
        :param file_type: ``jpeg``, ``jpg``, ``png``, ``mp4``, ``mp3`` or ``wav``.
        :returns: its public URL.
        """
        if file_type not in UPLOAD_TYPES:
            raise WanValidationError("file_type", file_type, f"must be one of {', '.join(UPLOAD_TYPES)}")
        import json

        http_request = HttpRequest(
            "POST",
            self.config.url("/upload-url"),
            body=json.dumps({"file_type": file_type}).encode(),
            content_type="application/json",
        )
        response = self._get_json(http_request, "The upload address")
        urls = response if isinstance(response, dict) else {}
        upload_url, public_url = urls.get("upload_url"), urls.get("public_url")
        if not isinstance(upload_url, str) or not isinstance(public_url, str):
            raise WanProtocolError("The API's response has no upload_url and public_url")
        put = HttpRequest(
            "PUT",
            upload_url,
            body=data,
            content_type=UPLOAD_TYPES[file_type],
            authorized=False,
            timeout=120.0,
        )
        self._retry(lambda: self._put(put))
        return public_url

    def list_models(self) -> list[str]:
        """List the ids of the models that the key may use."""
        return parse_model_ids(self._get_json(HttpRequest("GET", self.config.url("/models")), "The list of models"))

    def get_model(self, model_id: str) -> ModelInfo:
        """Get the API's description of a model.

        :param model_id: id of the model.
        :raises WanNotFoundError: if the API knows no such model.
        """
        from urllib.parse import quote

        http_request = HttpRequest("GET", self.config.url(f"/models/{quote(model_id, safe='')}"))
        return ModelInfo.parse(model_id, self._get_json(http_request, f"Model {model_id}"))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _put(self, request: HttpRequest) -> None:
        try:
            response = self._transport.send(self._limit(request))
        except TransportError as error:
            raise WanLookupError(no_response_message("The upload", str(error))) from None
        if not 200 <= response.status < 300:
            raise WanLookupError(
                f"The upload failed with HTTP {response.status}. Nothing was paid; a retry uploads again."
            )

    def _get_json(self, request: HttpRequest, what: str) -> object:
        return self._get(request, what, lambda response: parse_lookup_response(response, what))

    def _get(self, request: HttpRequest, what: str, parse: Callable[[HttpResponse], T]) -> T:
        def attempt() -> T:
            while request.method == "GET" and (delay := self._acquire_slot()) > 0:
                self._sleep(delay)
            try:
                response = self._transport.send(self._limit(request))
            except TransportError as error:
                reason = str(error)
            else:
                return parse(response)
            raise WanLookupError(no_response_message(what, reason))

        return self._retry(attempt)

    def _retry(self, attempt: Callable[[], T]) -> T:
        return Retrying(
            stop=self._is_over,
            retry=retry_if_exception(lambda error: isinstance(error, WanError) and error.retryable),
            wait=_retry_wait,
            sleep=self._sleep,
            reraise=True,
        )(attempt)

    def _limit(self, request: HttpRequest) -> HttpRequest:
        """Shorten a call so that it ends soon after the deadline."""
        if self.deadline is None:
            return request
        remaining = self.deadline - time.time()
        if remaining < LAST_CALL_SECONDS:
            remaining = min(LAST_CALL_SECONDS, max(_LATE_CALL_SECONDS, remaining + LAST_CALL_SECONDS))
        return replace(request, timeout=min(request.timeout, remaining))

    def _is_over(self, state: RetryCallState) -> bool:
        """Return whether there were enough attempts, or the next one would begin after the deadline."""
        if state.attempt_number >= LOOKUP_ATTEMPTS:
            return True
        return self.deadline is not None and time.time() + state.upcoming_sleep >= self.deadline


_backoff = wait_random_exponential(multiplier=1, max=20)


def _retry_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = getattr(error, "retry_after", None)
    jittered = _backoff(state)
    # A hint only lengthens the growing pause: an API that always asks for a second gets no request per second.
    return jittered if retry_after is None else max(jittered, min(float(retry_after), MAX_RETRY_WAIT) + jittered / 10)
