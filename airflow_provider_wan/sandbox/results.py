# SPDX-License-Identifier: Apache-2.0
"""The host of results and uploads: public, unsigned, and not the API's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import answers
from airflow_provider_wan.sandbox.answers import Answer
from airflow_provider_wan.sandbox.boxes import padded, skeleton
from airflow_provider_wan.sandbox.faults import Fault, Point
from airflow_provider_wan.sandbox.job import Job, Rendered, Status

if TYPE_CHECKING:
    from airflow_provider_wan.sandbox.core import SandboxCore

NOT_FOUND = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"
TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg"}


class Results:
    """Serves clips, posters and uploads."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core

    def handle(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Answer one call."""
        match (method, path.strip("/").split("/")):
            case ("PUT", ["uploads", name]):
                return self._core.uploads.put(name, params, headers, body)
            case ("GET" | "HEAD", ["uploads", name]):
                return self._upload(name)
            case ("GET" | "HEAD", ["huge", name]) if name.removesuffix(".mp4").isdigit():
                return self._huge(skeleton(5), int(name.removesuffix(".mp4")), {})
            case ("GET" | "HEAD", ["elsewhere", name]):
                return self._result(name, faulty=False)
            case ("GET" | "HEAD", [name]) if name:
                return self._result(name, faulty=True)
        return _missing()

    def _upload(self, name: str) -> Answer:
        content, content_type = self._core.blobs.get(name), self._core.uploads.type_of(name)
        if content is None or content_type is None:
            return _missing()
        return _content(content, content_type, {})

    def _result(self, name: str, faulty: bool) -> Answer:
        core = self._core
        job = core.jobs.get(Path(name).stem)
        if job is None or job.status is not Status.SUCCESS or not isinstance(job.render, Rendered):
            return _missing()
        more: dict[str, Any] = {"request_id": job.request_id}
        lifetime = core.config.result_seconds
        if lifetime is not None and core.now() > (job.ended_at or 0.0) + lifetime:
            return Answer(403, NOT_FOUND.replace(b"NoSuchKey", b"AccessDenied"), "application/xml", **more)
        content = self._content_of(job, name)
        if content is None:
            return _missing(**more)
        fault = None
        if faulty and name == job.render.video:
            fault = core.faults.take_injected(Point.RESULT, job.fields()) or job.result_fault
            more["fault"] = fault
        return self._spoiled(fault, name, content, more)

    def _content_of(self, job: Job, name: str) -> bytes | Path | None:
        kept = self._core.blobs.get(name)
        if kept is not None or self._core.renderer is not None:
            return kept
        return self._core.result_bytes(job) if name.endswith(".mp4") else None

    def _spoiled(self, fault: Fault | None, name: str, content: bytes | Path, more: dict[str, Any]) -> Answer:
        core, kind = self._core, TYPES.get(Path(name).suffix, "application/octet-stream")
        match fault:
            case Fault.RESULT_404:
                return _missing(**more)
            case Fault.RESULT_HTML:
                return Answer(200, PAGE, "text/html", **more)
            case Fault.RESULT_CUT:
                whole = _bytes(content)
                return Answer(200, whole[: len(whole) * 2 // 3], kind, **more)
            case Fault.RESULT_SHORT:
                whole = _bytes(content)
                return Answer(200, whole[: len(whole) // 2], kind, declared_length=len(whole), **more)
            case Fault.RESULT_NO_LENGTH:
                whole = _bytes(content)
                return Answer(200, content_type=kind, stream=lambda: iter((whole,)), **more)
            case Fault.RESULT_RESET:
                return answers.reset(**more)
            case Fault.RESULT_REDIRECT:
                return Answer(302, headers={"Location": f"{core.other_base}/elsewhere/{name}"}, **more)
            case Fault.RESULT_SLOW:
                pace = core.config.slow_bytes_per_second
                return Answer(200, _bytes(content), kind, bytes_per_second=pace, **more)
            case Fault.RESULT_HUGE:
                return self._huge(_bytes(content), core.config.huge_bytes, more)
        return _content(content, kind, more)

    def _huge(self, clip: bytes, size: int, more: dict[str, Any]) -> Answer:
        if size < len(clip) + 16:
            return _missing(**more)
        return Answer(200, content_type="video/mp4", stream=lambda: padded(clip, size), declared_length=size, **more)


def _missing(**more: Any) -> Answer:
    return Answer(404, NOT_FOUND, "application/xml", **more)


def _content(content: bytes | Path, kind: str, more: dict[str, Any]) -> Answer:
    if isinstance(content, Path):
        return Answer(200, content_type=kind, file=content, **more)
    return Answer(200, content, kind, **more)


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content
