# SPDX-License-Identifier: Apache-2.0
"""The synchronous client, on requests.

:class:`Transport` is the only seam: the HTTP library can be replaced, while all decisions stay here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_wan import metrics
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
    MAX_BODY,
    SUBMIT_TIMEOUT,
    HttpRequest,
    HttpResponse,
    TransportError,
    build_list_request,
    build_request_by_id,
    build_submit_request,
    classify_lost_submission,
    parse_lookup_response,
    parse_submit_response,
)

if TYPE_CHECKING:
    import requests

    from airflow_provider_wan.api.config import Account
    from airflow_provider_wan.api.request import I2VRequest

__all__ = ["RequestsTransport", "Transport", "WanClient", "WanConfig"]

T = TypeVar("T")

LOOKUP_ATTEMPTS = 5
MAX_RETRY_WAIT = 60.0

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
        """Send a request exactly once.

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


class RequestsTransport:
    """A :class:`Transport` on a requests session. It neither follows redirects nor retries."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._session: requests.Session | None = None

    def send(self, request: HttpRequest) -> HttpResponse:
        """See :meth:`Transport.send`."""
        import requests

        status = None
        try:
            if self._session is None:
                self._session = requests.Session()
            response = self._send(self._session, request)
            status = response.status
            return response
        finally:
            metrics.count_response(request.method, request.url, status)

    def connect(self, request: HttpRequest) -> OpenRequest:
        """See :meth:`Transport.connect`."""
        import requests

        from airflow_provider_wan.api.single_use import SingleUseConnection

        try:
            with requests.Session() as session:
                opened = SingleUseConnection.open(session, request, self._authorize, CONNECT_TIMEOUT)
        except TransportError:
            metrics.count_response(request.method, request.url, None)
            raise
        return _CountedRequest(opened, request)

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _send(self, session: requests.Session, request: HttpRequest) -> HttpResponse:
        import requests

        try:
            with session.request(
                request.method,
                request.url,
                params=request.params or None,
                data=request.body,
                headers={"Content-Type": request.content_type} if request.content_type else None,
                # An auth object, since without one requests would look into ~/.netrc.
                auth=self._authorize if request.authorized else _no_credentials,
                timeout=(CONNECT_TIMEOUT, request.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = bytearray()
                for chunk in response.iter_content(64 * 1024):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise TransportError(f"a response of over {MAX_BODY} bytes", sent=True)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status_code, headers, bytes(body))
        except requests.RequestException as error:
            raise TransportError(_describe(error), sent=not _is_unsent(error)) from None

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
    :param transport: the HTTP transport; by default :class:`RequestsTransport`.
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
        self._transport = transport if transport is not None else RequestsTransport(config)
        self._sleep = sleep
        self._acquire_slot = acquire_slot

    @property
    def account(self) -> Account:
        """The account that this client reaches."""
        return self.config.account

    def submit(self, request: I2VRequest) -> RequestRecord:
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

    def prepare_submission(self, request: I2VRequest) -> PreparedSubmission:
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
        return RequestRecord.parse(self._get_json(http_request, f"Request {request_id}"))

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Get one page of the account's requests of a model, by default the connection's model."""
        http_request = build_list_request(self.config.base_url, model_id or self.config.model, limit, offset)
        return RequestPage.parse(self._get_json(http_request, "The list of requests"))

    def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation, once. The API does not document it, so this is best effort.

        :param request_id: id of the request.
        :returns: whether the API accepted the call. Only a later lookup shows whether the request is cancelled.
        """
        try:
            response = self._transport.send(
                build_request_by_id(self.config.base_url, validate_request_id(request_id), "DELETE")
            )
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
            response = self._transport.send(request)
        except TransportError as error:
            raise WanLookupError(f"The upload: {error}") from None
        if not 200 <= response.status < 300:
            raise WanLookupError(f"The upload: HTTP {response.status}")

    def _get_json(self, request: HttpRequest, what: str) -> object:
        def attempt() -> object:
            while request.method == "GET" and (delay := self._acquire_slot()) > 0:
                self._sleep(delay)
            try:
                response = self._transport.send(request)
            except TransportError as error:
                raise WanLookupError(f"{what}: no response ({error})") from None
            return parse_lookup_response(response, what)

        return self._retry(attempt)

    def _retry(self, attempt: Callable[[], T]) -> T:
        return Retrying(
            stop=stop_after_attempt(LOOKUP_ATTEMPTS),
            retry=retry_if_exception(lambda error: isinstance(error, WanError) and error.retryable),
            wait=_retry_wait,
            sleep=self._sleep,
            reraise=True,
        )(attempt)


def validate_request_id(request_id: str) -> str:
    """Return a request id unchanged.

    :raises WanValidationError: if it can't be a request id, and would change the path of the URL.
    """
    if not isinstance(request_id, str) or not request_id.strip() or request_id in (".", ".."):
        raise WanValidationError("request_id", request_id, "must be the id of a request")
    return request_id


_backoff = wait_random_exponential(multiplier=1, max=20)


def _retry_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = getattr(error, "retry_after", None)
    jittered = _backoff(state)
    return jittered if retry_after is None else min(float(retry_after), MAX_RETRY_WAIT) + jittered / 10


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_unsent(error: requests.RequestException) -> bool:
    """Return whether it is certain that no byte of the request was sent."""
    import ssl

    import requests
    from urllib3.exceptions import NewConnectionError

    # urllib3 raises ProxyError only before the connection to the proxy, or the tunnel through it, is established.
    unsent_errors: tuple[type[BaseException], ...] = (
        requests.exceptions.ConnectTimeout,
        requests.exceptions.ProxyError,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidHeader,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidProxyURL,
        NewConnectionError,
        ssl.SSLCertVerificationError,
    )
    cause: object = error
    for _ in range(6):
        if isinstance(cause, unsent_errors):
            return True
        if isinstance(cause, BaseException):
            cause = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
    return False


def _describe(error: requests.RequestException) -> str:
    """Return the classes of an error and its cause only: the messages of requests contain whole URLs."""
    inner: object = error
    for _ in range(6):
        nested = getattr(inner, "reason", None) or (
            inner.args[0] if isinstance(inner, BaseException) and inner.args else None
        )
        if not isinstance(nested, BaseException):
            break
        inner = nested
    names = dict.fromkeys((type(error).__name__, type(inner).__name__))
    return " / ".join(names)
