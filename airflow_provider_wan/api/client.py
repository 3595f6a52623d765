# SPDX-License-Identifier: Apache-2.0
"""
The synchronous client, on requests.

:class:`Transport` is the one seam: what speaks HTTP can be exchanged, and all that decides stays.
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
from airflow_provider_wan.api.record import ModelInfo, RequestPage, RequestRecord, model_ids
from airflow_provider_wan.api.wire import (
    CONNECT_TIMEOUT,
    MAX_BODY,
    HttpAnswer,
    HttpCall,
    TransportError,
    list_call,
    read_json,
    read_submission,
    request_call,
    submission_lost,
    submit_call,
)

if TYPE_CHECKING:
    import requests

    from airflow_provider_wan.api.request import I2VRequest

__all__ = ["RequestsTransport", "Transport", "WanClient", "WanConfig"]

T = TypeVar("T")

LOOKUP_ATTEMPTS = 5
MAX_WAIT = 60.0

# The type with which the API signs an upload, where it is not the registered one.
UPLOAD_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpg",
    "png": "image/png",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}


class Transport(Protocol):
    """What carries one HTTP request and brings its response."""

    def send(self, call: HttpCall) -> HttpAnswer:
        """
        Carry it exactly once.

        :raises TransportError: where no whole response came back.
        """

    def close(self) -> None:
        """Give back what it holds."""


class RequestsTransport:
    """:class:`Transport` on a requests session. Redirects are not followed, nothing is repeated."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._session: requests.Session | None = None

    def send(self, call: HttpCall) -> HttpAnswer:
        """See :meth:`Transport.send`."""
        import requests

        status = None
        try:
            if call.fresh:
                with requests.Session() as session:
                    answer = self._send(session, call)
            else:
                if self._session is None:
                    self._session = requests.Session()
                answer = self._send(self._session, call)
            status = answer.status
            return answer
        finally:
            metrics.answered(call.method, call.url, status)

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _send(self, session: requests.Session, call: HttpCall) -> HttpAnswer:
        import requests

        try:
            with session.request(
                call.method,
                call.url,
                params=call.params or None,
                data=call.body,
                headers={"Content-Type": call.content_type} if call.content_type else None,
                # An auth object, since without one requests would look into ~/.netrc.
                auth=self._authorize if call.authorized else _no_credentials,
                timeout=(CONNECT_TIMEOUT, call.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = bytearray()
                for chunk in response.iter_content(64 * 1024):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise TransportError(f"an answer of over {MAX_BODY} bytes", sent=True)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status_code, headers, bytes(body))
        except requests.RequestException as error:
            raise TransportError(_told(error), sent=not _never_connected(error)) from None

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._config.api_key}"
        if self._config.organization_id:
            request.headers["X-Organization-ID"] = self._config.organization_id
        return request


class WanClient:
    """
    The calls of the API.

    :param config: account and deployment.
    :param transport: what speaks HTTP; by default :class:`RequestsTransport`.
    :param sleep: waits the given seconds between the tries of a look-up.
    :param turn: asked before each try of a look-up: the seconds after which to ask again, 0 to go ahead.

    The submission is sent exactly once and never repeated here. Everything else is repeated, up to
    5 times with jitter, where the error is a passing one; ``Retry-After`` is obeyed up to a minute.
    """

    def __init__(
        self,
        config: WanConfig,
        transport: Transport | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        turn: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.config = config
        self._transport = transport if transport is not None else RequestsTransport(config)
        self._sleep = sleep
        self._turn = turn

    def submit(self, request: I2VRequest) -> RequestRecord:
        """
        Send the paid POST, once.

        :raises WanRefusedError: nothing was accepted, nothing is paid.
        :raises WanInDoubtError: it may have been accepted.
        """
        try:
            answer = self._transport.send(submit_call(self.config.base_url, request))
        except TransportError as error:
            raise submission_lost(error) from None
        return read_submission(answer)

    def get_request(self, request_id: str) -> RequestRecord:
        """
        Look up one request.

        :raises WanNotFoundError: where the API knows no such request.
        :raises WanLookupError: where it does not answer.
        """
        call = request_call(self.config.base_url, checked_id(request_id))
        return RequestRecord.parse(self._look_up(call, f"Request {request_id}"))

    def list_requests(self, *, model_id: str | None = None, limit: int = 100, offset: int = 0) -> RequestPage:
        """Look up one page of one's own requests of a model (default: the connection's)."""
        call = list_call(self.config.base_url, model_id or self.config.model, limit, offset)
        return RequestPage.parse(self._look_up(call, "The list of requests"))

    def cancel(self, request_id: str) -> bool:
        """
        Ask for a cancellation, once; the API documents none, so this is best effort.

        :return: whether the API took the call. Only a later look-up tells whether it is cancelled.
        """
        try:
            answer = self._transport.send(request_call(self.config.base_url, checked_id(request_id), "DELETE"))
        except TransportError:
            return False
        return 200 <= answer.status < 300

    def upload(self, data: bytes, file_type: str) -> str:
        """
        Put a file where the API can fetch it.

        :param file_type: ``jpeg``, ``jpg``, ``png``, ``mp4``, ``mp3`` or ``wav``.
        :return: its public URL.
        """
        if file_type not in UPLOAD_TYPES:
            raise WanValidationError("file_type", file_type, f"must be one of {', '.join(UPLOAD_TYPES)}")
        import json

        call = HttpCall(
            "POST",
            self.config.url("/upload-url"),
            body=json.dumps({"file_type": file_type}).encode(),
            content_type="application/json",
        )
        answer = self._look_up(call, "The upload address")
        urls = answer if isinstance(answer, dict) else {}
        upload_url, public_url = urls.get("upload_url"), urls.get("public_url")
        if not isinstance(upload_url, str) or not isinstance(public_url, str):
            raise WanProtocolError("The API's answer has no upload_url and public_url")
        put = HttpCall(
            "PUT",
            upload_url,
            body=data,
            content_type=UPLOAD_TYPES[file_type],
            authorized=False,
            timeout=120.0,
        )
        self._repeat(lambda: self._put(put))
        return public_url

    def list_models(self) -> list[str]:
        """Return the ids of the models that the key may use."""
        return model_ids(self._look_up(HttpCall("GET", self.config.url("/models")), "The list of models"))

    def get_model(self, model_id: str) -> ModelInfo:
        """Return what the API tells of a model. :raises WanNotFoundError: where it knows none of that id."""
        from urllib.parse import quote

        call = HttpCall("GET", self.config.url(f"/models/{quote(model_id, safe='')}"))
        return ModelInfo.parse(model_id, self._look_up(call, f"Model {model_id}"))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _put(self, call: HttpCall) -> None:
        try:
            answer = self._transport.send(call)
        except TransportError as error:
            raise WanLookupError(f"The upload: {error}") from None
        if not 200 <= answer.status < 300:
            raise WanLookupError(f"The upload: HTTP {answer.status}")

    def _look_up(self, call: HttpCall, what: str) -> object:
        def once() -> object:
            while call.method == "GET" and (wait := self._turn()) > 0:
                self._sleep(wait)
            try:
                answer = self._transport.send(call)
            except TransportError as error:
                raise WanLookupError(f"{what}: no answer ({error})") from None
            return read_json(answer, what)

        return self._repeat(once)

    def _repeat(self, once: Callable[[], T]) -> T:
        return Retrying(
            stop=stop_after_attempt(LOOKUP_ATTEMPTS),
            retry=retry_if_exception(lambda error: isinstance(error, WanError) and error.retryable),
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
        )(once)


def checked_id(request_id: str) -> str:
    """Refuse what can't be a request id, and would turn into another path."""
    if not isinstance(request_id, str) or not request_id.strip() or request_id in (".", ".."):
        raise WanValidationError("request_id", request_id, "must be the id of a request")
    return request_id


_backoff = wait_random_exponential(multiplier=1, max=20)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    jittered = _backoff(state)
    return jittered if asked is None else min(float(asked), MAX_WAIT) + jittered / 10


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _never_connected(error: requests.RequestException) -> bool:
    """Whether it is certain that no byte of the request left."""
    import ssl

    import requests
    from urllib3.exceptions import NewConnectionError

    # urllib3 says ProxyError only before the proxy, or the tunnel through it, stands.
    never: tuple[type[BaseException], ...] = (
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
    seen: object = error
    for _ in range(6):
        if isinstance(seen, never):
            return True
        if isinstance(seen, BaseException):
            seen = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
    return False


def _told(error: requests.RequestException) -> str:
    """Name the kind of error only: the texts of requests hold whole URLs."""
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
