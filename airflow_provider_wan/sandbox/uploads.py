# SPDX-License-Identifier: Apache-2.0
"""``POST /upload-url``, and the PUT to the address that it signs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import answers, checks
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.config import UPLOAD_SECONDS

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.core import SandboxCore

#: What each file type is signed as; ``jpg`` is signed as the literal ``image/jpg``.
SIGNED_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpg",
    "png": "image/png",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}


@dataclass
class Ticket:
    """One signed address."""

    name: str
    content_type: str
    signature: str
    expires_at: float


class Uploads:
    """Signed addresses, and what was put there."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._tickets: dict[str, Ticket] = {}

    def ticket(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Sign an address for one file."""
        value = checks.read_object(headers, body)
        if isinstance(value, Answer):
            return value
        file_type = value.get("file_type")
        if not isinstance(file_type, str) or file_type not in SIGNED_TYPES:
            return answers.error(400, f"invalid file_type (Must be one of: {', '.join(SIGNED_TYPES)})")
        core = self._core
        seed = f"upload:{core.config.seed}:{len(self._tickets)}:{core.config.api_key}".encode()
        digest = hashlib.sha256(seed).hexdigest()
        name = f"upload-{digest[:16]}.{file_type}"
        ticket = Ticket(name, SIGNED_TYPES[file_type], digest[16:48], core.now() + UPLOAD_SECONDS)
        self._tickets[name] = ticket
        core.keep({"event": "upload", "ticket": asdict(ticket)})
        url = f"{core.result_base}/uploads/{name}"
        query = f"X-Expires={UPLOAD_SECONDS}&X-Signature={ticket.signature}"
        return answers.as_json(200, {"upload_url": f"{url}?{query}", "public_url": url})

    def restore(self, event: Mapping[str, Any]) -> None:
        """Know a ticket of a former run again."""
        ticket = Ticket(**event["ticket"])
        self._tickets[ticket.name] = ticket

    def put(self, name: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Answer:
        """Take a file, where everything is as it was signed."""
        ticket = self._tickets.get(name)
        if ticket is None or params.get("X-Signature") != ticket.signature:
            return _denied("SignatureDoesNotMatch")
        if "authorization" in headers:
            return _denied("InvalidArgument: only one auth mechanism allowed", 400)
        if headers.get("content-type") != ticket.content_type:
            return _denied("SignatureDoesNotMatch: content-type")
        if self._core.now() > ticket.expires_at:
            return _denied("AccessDenied: request has expired")
        self._core.blobs.put(name, body)
        return Answer(200, content_type="text/plain")

    def type_of(self, name: str) -> str | None:
        """The content type of an upload."""
        ticket = self._tickets.get(name)
        return ticket.content_type if ticket else None


def _denied(code: str, status: int = 403) -> Answer:
    xml = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'
    return Answer(status, xml.encode(), "application/xml")
