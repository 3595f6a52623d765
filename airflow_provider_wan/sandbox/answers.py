# SPDX-License-Identifier: Apache-2.0
"""Answers, as values: what is sent, how it travels, and the contract's own error bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
GARBAGE = b'{"request_id": "0f3c", "status": "proce\x00\xff<<<'
RETRY_AFTER_SECONDS = 2


class Wire(StrEnum):
    """What happens on the connection."""

    SEND = "send"
    """The answer is sent."""
    RESET = "reset"
    """Nothing is sent; the connection is reset. The body had been read."""
    HANG = "hang"
    """Nothing is sent until the client gives up."""


@dataclass(frozen=True)
class Answer:
    """One answer, with no socket in it.

    :param status: HTTP status; 0 where nothing is sent.
    :param wire: what happens on the connection.
    :param delay: seconds before the first byte.
    :param bytes_per_second: throughput of the body; None: as fast as it goes.
    :param declared_length: a Content-Length that is not the body's.
    :param file: the body is this file.
    :param stream: the body is made while it is sent; its length is ``declared_length``, or not told.
    :param wait_for: id of a request that must end before the answer is made (see ``SandboxCore.submitted``).
    :param request_id: for the journal.
    :param accepted: whether this very call created a request.
    :param fault: for the journal.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = Wire.SEND
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
        """The body, parsed."""
        return json.loads(self.body)


def as_json(status: int, value: object, **more: Any) -> Answer:
    """A JSON answer."""
    return Answer(status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), **more)


def error(status: int, message: str, **more: Any) -> Answer:
    """An error in the API's usual shape."""
    return as_json(status, {"error": message}, **more)


def unauthorized() -> Answer:
    """401."""
    return error(401, "Invalid or missing API key")


def forbidden(message: str = "You do not have permission to access this resource") -> Answer:
    """403."""
    return error(403, message)


def no_credit(**more: Any) -> Answer:
    """402."""
    return error(402, "Insufficient credits. Please add more credits to your account.", **more)


def no_model(model: str, **more: Any) -> Answer:
    """404 for a model id."""
    return error(404, f"model {model} does not exist", **more)


def no_request(request_id: str, **more: Any) -> Answer:
    """404 for a request id."""
    return error(404, f"request {request_id} not found", request_id=request_id, **more)


def rate_limited(retry_after: float | None, **more: Any) -> Answer:
    """429; nothing was accepted."""
    return error(429, "Rate limit exceeded for this organization", headers=_after(retry_after), **more)


def no_capacity(retry_after: float | None, **more: Any) -> Answer:
    """503; nothing was accepted."""
    return error(503, "Upstream capacity temporarily exhausted", headers=_after(retry_after), **more)


def internal_error(**more: Any) -> Answer:
    """500 that says nothing."""
    return error(500, "Internal server error", **more)


def gateway_page(**more: Any) -> Answer:
    """502 of a gateway, in HTML."""
    return Answer(502, GATEWAY_PAGE, "text/html", **more)


def garbage(**more: Any) -> Answer:
    """200 whose body is not JSON."""
    return Answer(200, GARBAGE, **more)


def reset(**more: Any) -> Answer:
    """The connection dies."""
    return Answer(0, wire=Wire.RESET, **more)


def hang(**more: Any) -> Answer:
    """The connection stays silent."""
    return Answer(0, wire=Wire.HANG, **more)


def _after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, round(seconds)))}
