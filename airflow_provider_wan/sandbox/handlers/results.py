# SPDX-License-Identifier: Apache-2.0
"""The host of results and uploads: public and unsigned, separate from the API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_wan.sandbox import responses
from airflow_provider_wan.sandbox.backend import SandboxBackend
from airflow_provider_wan.sandbox.faults import Fault, InjectionPoint
from airflow_provider_wan.sandbox.handlers.uploads import UploadHandler
from airflow_provider_wan.sandbox.job import JobStatus, RenderedFiles, SandboxJob
from airflow_provider_wan.sandbox.rendering.mp4_boxes import padded, skeleton
from airflow_provider_wan.sandbox.responses import SandboxResponse

NOT_FOUND = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"
TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg"}


class ResultHandler:
    """Handler of clips, posters and uploads."""

    def __init__(self, backend: SandboxBackend, uploads: UploadHandler) -> None:
        self._backend = backend
        self._uploads = uploads

    def handle(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> SandboxResponse:
        """Handle one call."""
        match (method, path.strip("/").split("/")):
            case ("PUT", ["uploads", name]):
                return self._uploads.put(name, params, headers, body)
            case ("GET" | "HEAD", ["uploads", name]):
                return self._upload(name)
            case ("GET" | "HEAD", ["huge", name]) if name.removesuffix(".mp4").isdigit():
                return self._huge(skeleton(5), int(name.removesuffix(".mp4")), {})
            case ("GET" | "HEAD", ["elsewhere", name]):
                return self._result(name, inject_fault=False)
            case ("GET" | "HEAD", [name]) if name:
                return self._result(name, inject_fault=True)
        return _not_found()

    def _upload(self, name: str) -> SandboxResponse:
        content, content_type = self._backend.blobs.get(name), self._uploads.get_content_type(name)
        if content is None or content_type is None:
            return _not_found()
        return _content(content, content_type, {})

    def _result(self, name: str, inject_fault: bool) -> SandboxResponse:
        backend = self._backend
        job = backend.jobs.get(Path(name).stem)
        if job is None or job.status is not JobStatus.SUCCESS or not isinstance(job.render, RenderedFiles):
            return _not_found()
        more: dict[str, Any] = {"request_id": job.request_id}
        lifetime = backend.config.result_seconds
        if lifetime is not None and backend.now() > (job.ended_at or 0.0) + lifetime:
            return SandboxResponse(403, NOT_FOUND.replace(b"NoSuchKey", b"AccessDenied"), "application/xml", **more)
        content = self._read_content(job, name)
        if content is None:
            return _not_found(**more)
        fault = None
        if inject_fault and name == job.render.video:
            fault = backend.faults.take_injected(InjectionPoint.RESULT, job.fields()) or job.result_fault
            more["fault"] = fault
        return self._apply_result_fault(fault, name, content, more)

    def _read_content(self, job: SandboxJob, name: str) -> bytes | Path | None:
        stored = self._backend.blobs.get(name)
        if stored is not None or self._backend.renderer is not None:
            return stored
        return self._backend.result_bytes(job) if name.endswith(".mp4") else None

    def _apply_result_fault(
        self, fault: Fault | None, name: str, content: bytes | Path, more: dict[str, Any]
    ) -> SandboxResponse:
        backend, kind = self._backend, TYPES.get(Path(name).suffix, "application/octet-stream")
        match fault:
            case Fault.RESULT_404:
                return _not_found(**more)
            case Fault.RESULT_403:
                return SandboxResponse(403, PAGE, "text/html", **more)
            case Fault.RESULT_HTML:
                return SandboxResponse(200, PAGE, "text/html", **more)
            case Fault.RESULT_CUT:
                whole = _bytes(content)
                return SandboxResponse(200, whole[: len(whole) * 2 // 3], kind, **more)
            case Fault.RESULT_SHORT:
                whole = _bytes(content)
                return SandboxResponse(200, whole[: len(whole) // 2], kind, declared_length=len(whole), **more)
            case Fault.RESULT_NO_LENGTH:
                whole = _bytes(content)
                return SandboxResponse(200, content_type=kind, stream=lambda: iter((whole,)), **more)
            case Fault.RESULT_RESET:
                return responses.reset(**more)
            case Fault.RESULT_REDIRECT:
                return SandboxResponse(302, headers={"Location": f"{backend.other_base}/elsewhere/{name}"}, **more)
            case Fault.RESULT_SLOW:
                rate = backend.config.slow_bytes_per_second
                return SandboxResponse(200, _bytes(content), kind, bytes_per_second=rate, **more)
            case Fault.RESULT_HUGE:
                return self._huge(_bytes(content), backend.config.huge_bytes, more)
        return _content(content, kind, more)

    def _huge(self, clip: bytes, size: int, more: dict[str, Any]) -> SandboxResponse:
        if size < len(clip) + 16:
            return _not_found(**more)
        return SandboxResponse(
            200, content_type="video/mp4", stream=lambda: padded(clip, size), declared_length=size, **more
        )


def _not_found(**more: Any) -> SandboxResponse:
    return SandboxResponse(404, NOT_FOUND, "application/xml", **more)


def _content(content: bytes | Path, kind: str, more: dict[str, Any]) -> SandboxResponse:
    if isinstance(content, Path):
        return SandboxResponse(200, content_type=kind, file=content, **more)
    return SandboxResponse(200, content, kind, **more)


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content
