# SPDX-License-Identifier: Apache-2.0
"""Responses as values: what is sent, how it is delivered, and the error bodies of the contract."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
FIREWALL_PAGE = b"<html><head><title>Request blocked</title></head><body>Request blocked</body></html>"
GARBAGE = b'{"request_id": "0f3c", "status": "proce\x00\xff<<<'
RETRY_AFTER_SECONDS = 2


class WireBehavior(StrEnum):
    """What happens on the connection instead of, or with, the response."""

    SEND = "send"
    """The response is sent."""
    RESET = "reset"
    """Nothing is sent; the connection is reset after the request body was read."""
    HANG = "hang"
    """Nothing is sent until the client gives up."""


@dataclass(frozen=True)
class SandboxResponse:
    """One response, independent of sockets.

    :param status: HTTP status; 0 where nothing is sent.
    :param wire: what happens on the connection.
    :param delay: seconds before the first byte.
    :param bytes_per_second: throughput of the body; None: unlimited.
    :param declared_length: a Content-Length that differs from the body's.
    :param file: file that holds the body.
    :param stream: produces the body while it is sent; its length is ``declared_length``, or unknown.
    :param wait_for: id of a request that must end before the response is built
        (see ``SandboxCore.build_submission_response``).
    :param request_id: for the journal.
    :param accepted: whether this call created a request.
    :param fault: for the journal.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: WireBehavior = WireBehavior.SEND
    delay: float = 0.0
    bytes_per_second: int | None = None
    declared_length: int | None = None
    file: Path | None = None
    stream: Callable[[], Iterator[bytes]] | None = None
    wait_for: str | None = None
    request_id: str | None = None
    accepted: bool = False
    fault: str | None = None

    def json(self) -> Any:
        """Parse the body as JSON."""
        return json.loads(self.body)


def json_response(status: int, value: object, **fields: Any) -> SandboxResponse:
    """Build a JSON response."""
    return SandboxResponse(status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), **fields)


def error(status: int, message: str, **fields: Any) -> SandboxResponse:
    """Build an error of the API's usual form."""
    return json_response(status, {"error": message}, **fields)


def unauthorized() -> SandboxResponse:
    """Build the 401 of a missing or invalid key."""
    return error(401, "Invalid or missing API key")


def forbidden(message: str = "You do not have permission to access this resource") -> SandboxResponse:
    """Build the 403 of a missing permission."""
    return error(403, message)


def no_credit(**fields: Any) -> SandboxResponse:
    """Build the 402 of an account without credit."""
    return error(402, "Insufficient credits. Please add more credits to your account.", **fields)


def no_model(model: str, **fields: Any) -> SandboxResponse:
    """Build the 404 of an unknown model."""
    return error(404, f"model {model} does not exist", **fields)


def no_request(request_id: str, **fields: Any) -> SandboxResponse:
    """Build the 404 of an unknown request."""
    return error(404, f"request {request_id} not found", request_id=request_id, **fields)


def rate_limited(retry_after: float | None, **fields: Any) -> SandboxResponse:
    """Build the 429 of a rate limit; nothing was accepted."""
    return error(429, "Rate limit exceeded for this organization", headers=_after(retry_after), **fields)


def no_capacity(retry_after: float | None, **fields: Any) -> SandboxResponse:
    """Build the 503 of exhausted capacity; nothing was accepted."""
    return error(503, "Upstream capacity temporarily exhausted", headers=_after(retry_after), **fields)


def redirect(**fields: Any) -> SandboxResponse:
    """Build the redirect of a login page before the service."""
    return SandboxResponse(302, headers={"Location": "https://login.example.com/"}, content_type="text/html", **fields)


def firewall_page(**fields: Any) -> SandboxResponse:
    """Build the HTML page of a firewall with status 403."""
    return SandboxResponse(403, FIREWALL_PAGE, "text/html", **fields)


def echo(status: int, key: str, sent: object, **fields: Any) -> SandboxResponse:
    """Build an error that repeats all that was sent to it: the key and the payload, plain and encoded."""
    text = json.dumps(sent, ensure_ascii=False)
    encoded = base64.b64encode(json.dumps({"key": key, "sent": sent}).encode()).decode()
    message = f"invalid API key Bearer {key} for {text} ({quote(text, safe='')}; {json.dumps(text)}; {encoded})"
    return error(status, message, **fields)


def internal_error(**fields: Any) -> SandboxResponse:
    """Build a 500 without details."""
    return error(500, "Internal server error", **fields)


def gateway_page(**fields: Any) -> SandboxResponse:
    """Build the HTML page of a gateway with status 502."""
    return SandboxResponse(502, GATEWAY_PAGE, "text/html", **fields)


def gateway_error(status: int, **fields: Any) -> SandboxResponse:
    """Build the error of something that stands before the service: a firewall, an ingress, a gateway or a proxy."""
    match status:
        case 403:
            return SandboxResponse(403, b"<html><h1>Request blocked by policy</h1></html>", "text/html", **fields)
        case 404:
            return json_response(404, {"message": "no Route matched with those values"}, **fields)
        case 429:
            return json_response(429, {"message": "API rate limit exceeded"}, **fields)
    body = b"upstream connect error or disconnect/reset before headers"
    return SandboxResponse(status, body, "text/plain", **fields)


def garbage(**fields: Any) -> SandboxResponse:
    """Build a 200 whose body is not valid JSON."""
    return SandboxResponse(200, GARBAGE, **fields)


def reset(**fields: Any) -> SandboxResponse:
    """Build a connection reset."""
    return SandboxResponse(0, wire=WireBehavior.RESET, **fields)


def hang(**fields: Any) -> SandboxResponse:
    """Build a call that is never answered."""
    return SandboxResponse(0, wire=WireBehavior.HANG, **fields)


def _after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, round(seconds)))}
