# SPDX-License-Identifier: Apache-2.0
"""A small server of the API's lookups, in the test's own event loop; a test can replace each response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

KEY = "key-1"
Bend = Callable[[web.Request], Awaitable[web.StreamResponse | None] | web.StreamResponse | None]


@dataclass
class Clip:
    request_id: str
    created_at: float
    status: str = "processing"
    updated_at: float = 0.0
    by_id: bool = True
    listed: bool = True

    def to_json(self) -> dict[str, object]:
        return {
            "request_id": self.request_id,
            "status": self.status,
            "model": "wan2.6-i2v",
            "created_at": int(self.created_at),
            "updated_at": int(self.updated_at or self.created_at),
            "payload": {"resolution": "720P", "duration": 5},
            "outcome": {"video_url": "https://s.example.com/a.mp4"} if self.status == "success" else None,
        }


@dataclass
class ApiServer:
    """
    Requests, newest last; the list is served newest first.

    :param bend: called before each response; what it returns replaces the correct response.
    """

    clips: dict[str, Clip] = field(default_factory=dict)
    bend: Bend | None = None
    key: str = KEY
    largest_page: int = 1000
    totals: bool = True
    reverse: Callable[[], bool] = lambda: False
    seen: list[tuple[float, str]] = field(default_factory=list)
    url: str = ""

    def add(self, count: int, *, status: str = "processing", age: float = 60.0) -> list[str]:
        """Add requests. :return: their ids."""
        first = len(self.clips)
        made = [Clip(f"r{first + n}", time.time() - age + n / 1000, status) for n in range(count)]
        self.clips.update((clip.request_id, clip) for clip in made)
        return [clip.request_id for clip in made]

    def finish(self, request_id: str, status: str = "success") -> None:
        clip = self.clips[request_id]
        clip.status, clip.updated_at = status, time.time()

    @property
    def pages(self) -> int:
        return sum(what == "list" for _, what in self.seen)

    @property
    def singles(self) -> int:
        return len(self.seen) - self.pages

    def most_within(self, seconds: float) -> int:
        """Return the most requests that arrived within any span of this length."""
        times = [at for at, _ in self.seen]
        return max((sum(at <= other < at + seconds for other in times) for at in times), default=0)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((time.monotonic(), "list"))
        if (bent := await self._bent(request)) is not None:
            return bent
        rows = [clip for clip in self.clips.values() if clip.listed]
        if not self.reverse():
            rows.reverse()
        offset, limit = int(request.query["offset"]), min(self.largest_page, int(request.query["limit"]))
        page = rows[offset : offset + limit]
        answer: dict[str, object] = {"requests": [clip.to_json() for clip in page]}
        if self.totals:
            answer |= {"total": len(rows), "has_more": offset + len(page) < len(rows)}
        return web.json_response(answer)

    async def _one(self, request: web.Request) -> web.StreamResponse:
        request_id = request.match_info["id"]
        self.seen.append((time.monotonic(), request_id))
        if (bent := await self._bent(request)) is not None:
            return bent
        clip = self.clips.get(request_id)
        if clip is None or not clip.by_id:
            return web.json_response({"error": "request not found"}, status=404)
        return web.json_response(clip.to_json())

    async def _bent(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "no"}, status=401)
        if self.bend is None:
            return None
        bent = self.bend(request)
        return await bent if asyncio.iscoroutine(bent) else bent  # type: ignore[return-value]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[ApiServer]:
        app = web.Application()
        app.router.add_get("/api/requests", self._list)
        app.router.add_get("/api/requests/{id}", self._one)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api"
        try:
            yield self
        finally:
            await runner.cleanup()


def is_list(request: web.Request) -> bool:
    return request.path.endswith("/requests")


def reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
