# SPDX-License-Identifier: Apache-2.0
"""``POST /upload-url``, and the PUT to the URL that it presigns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict

from airflow_provider_wan.sandbox import contract, responses
from airflow_provider_wan.sandbox.backend import SandboxBackend, UploadTicket
from airflow_provider_wan.sandbox.config import UPLOAD_SECONDS
from airflow_provider_wan.sandbox.responses import SandboxResponse

#: Signed content type by file type; ``jpg`` is signed as the literal ``image/jpg``.
SIGNED_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpg",
    "png": "image/png",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}


class UploadHandler:
    """Presigned upload URLs, and the files that are uploaded to them."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend

    def create_ticket(self, headers: Mapping[str, str], body: bytes) -> SandboxResponse:
        """Handle ``POST /upload-url``: presign the upload of one file."""
        value = contract.read_object(headers, body)
        if isinstance(value, SandboxResponse):
            return value
        file_type = value.get("file_type")
        if not isinstance(file_type, str) or file_type not in SIGNED_TYPES:
            return responses.error(400, f"invalid file_type (Must be one of: {', '.join(SIGNED_TYPES)})")
        backend = self._backend
        seed = f"upload:{backend.config.seed}:{len(self._backend.tickets)}:{backend.config.api_key}".encode()
        digest = hashlib.sha256(seed).hexdigest()
        name = f"upload-{digest[:16]}.{file_type}"
        ticket = UploadTicket(name, SIGNED_TYPES[file_type], digest[16:48], backend.now() + UPLOAD_SECONDS)
        self._backend.tickets[name] = ticket
        backend.persist({"event": "upload", "ticket": asdict(ticket)})
        url = f"{backend.result_base}/uploads/{name}"
        query = f"X-Expires={UPLOAD_SECONDS}&X-Signature={ticket.signature}"
        return responses.json_response(200, {"upload_url": f"{url}?{query}", "public_url": url})

    def put(self, name: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> SandboxResponse:
        """Handle the PUT of a file whose headers and signature match its ticket."""
        ticket = self._backend.tickets.get(name)
        if ticket is None or params.get("X-Signature") != ticket.signature:
            return _denied("SignatureDoesNotMatch")
        if "authorization" in headers:
            return _denied("InvalidArgument: only one auth mechanism allowed", 400)
        if headers.get("content-type") != ticket.content_type:
            return _denied("SignatureDoesNotMatch: content-type")
        if self._backend.now() > ticket.expires_at:
            return _denied("AccessDenied: request has expired")
        self._backend.blobs.put(name, body)
        return SandboxResponse(200, content_type="text/plain")

    def get_content_type(self, name: str) -> str | None:
        """Return the content type of an upload, or None if there is none."""
        ticket = self._backend.tickets.get(name)
        return ticket.content_type if ticket else None


def _denied(code: str, status: int = 403) -> SandboxResponse:
    xml = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'
    return SandboxResponse(status, xml.encode(), "application/xml")
