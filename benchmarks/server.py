# SPDX-License-Identifier: Apache-2.0
"""
One light server for all contestants: the request queue's lookups, and the same jobs in the peers' APIs.

``python -m benchmarks.server --jobs N --port-file F``. Jobs run until ``POST /finish {"first", "count", "seconds"}``
ends them, evenly over those seconds. ``GET /figures`` returns the calls and when each job ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections import Counter
from pathlib import Path

from aiohttp import web

PROMPT = "A harbour at dawn; the camera glides over the water towards the boats, gulls cross the frame. " * 4


class Jobs:
    """N jobs, all running at first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.created = time.time()
        self.ended: dict[int, float] = {}
        self.asked: Counter[str] = Counter()
        self.seconds: Counter[int] = Counter()
        self.seen: set[int] = set()
        self.running = [self._record(number, "processing", self.created + 1) for number in range(count)]
        self.done: dict[int, bytes] = {}

    def _record(self, number: int, status: str, updated: float) -> bytes:
        record = {
            "request_id": f"r{number:06}",
            "model": "wan2.6-i2v",
            "status": status,
            "created_at": int(self.created - (self.count - number) / 50),
            "updated_at": int(updated),
            "queued_at": int(self.created),
            "org_id": "org-1",
            "user_id": "user-1",
            "is_public": False,
            "payload": {
                "img_url": f"https://images.example.com/{number:06}.jpg?X-Amz-Signature={'0' * 64}",
                "prompt": PROMPT,
                "resolution": "720P",
                "duration": 5,
                "seed": number,
            },
            "outcome": {"video_url": f"https://storage.example.com/{number:06}.mp4"} if status == "success" else None,
        }
        return json.dumps(record).encode()

    def end(self, number: int) -> None:
        self.ended[number] = now = time.time()
        self.done[number] = self._record(number, "success", now)

    def record(self, number: int) -> bytes:
        return self.done.get(number) or self.running[number]

    def most(self, seconds: int) -> int:
        """Return the most calls within so many consecutive seconds."""
        return max((sum(self.seconds[at + n] for n in range(seconds)) for at in list(self.seconds)), default=0)

    def count_call(self, kind: str) -> None:
        self.asked[kind] += 1
        self.seconds[int(time.time())] += 1


class Server:
    """The handlers."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.enders: set[asyncio.Task[None]] = set()

    async def page(self, request: web.Request) -> web.Response:
        jobs = self.jobs
        jobs.count_call("page")
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        numbers = range(max(0, jobs.count - offset - limit), max(0, jobs.count - offset))[::-1]
        jobs.seen.update(numbers)
        rows = b",".join(jobs.record(number) for number in numbers)
        more = b"true" if offset + limit < jobs.count else b"false"
        body = b'{"requests":[%s],"total":%d,"has_more":%s}' % (rows, jobs.count, more)
        return web.Response(body=body, content_type="application/json")

    async def wan(self, request: web.Request) -> web.Response:
        number = self._asked("single", request.match_info["id"][1:])
        return web.Response(body=self.jobs.record(number), content_type="application/json")

    async def dbt(self, request: web.Request) -> web.Response:
        number = self._asked("single", request.match_info["id"])
        return web.json_response({"data": {"id": number, "status": 10 if number in self.jobs.ended else 3}})

    async def anthropic(self, request: web.Request) -> web.Response:
        number = self._asked("single", request.match_info["id"])
        ended = number in self.jobs.ended
        counts = {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0}
        return web.json_response(
            {
                "id": str(number),
                "type": "message_batch",
                "processing_status": "ended" if ended else "in_progress",
                "request_counts": counts,
                "created_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-01-02T00:00:00Z",
                "ended_at": "2026-01-01T00:10:00Z" if ended else None,
                "cancel_initiated_at": None,
                "archived_at": None,
                "results_url": None,
            }
        )

    async def openai(self, request: web.Request) -> web.Response:
        number = self._asked("single", request.match_info["id"])
        return web.json_response(
            {
                "id": str(number),
                "object": "batch",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "input_file_id": "file-1",
                "created_at": 1,
                "status": "completed" if number in self.jobs.ended else "in_progress",
            }
        )

    async def http(self, request: web.Request) -> web.Response:
        number = self._asked("single", request.match_info["id"])
        return web.Response(status=200 if number in self.jobs.ended else 404)

    async def finish(self, request: web.Request) -> web.Response:
        body = await request.json()
        task = asyncio.create_task(self._end(body["first"], body["count"], body["seconds"]))
        self.enders.add(task)
        return web.json_response({})

    async def figures(self, request: web.Request) -> web.Response:
        jobs = self.jobs
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return web.json_response(
            {
                "asked": jobs.asked,
                "most_in_ten_seconds": jobs.most(10),
                "seen": len(jobs.seen),
                "ended": jobs.ended,
                "cpu": usage.ru_utime + usage.ru_stime,
            }
        )

    def _asked(self, kind: str, text: str) -> int:
        self.jobs.count_call(kind)
        number = int(text)
        self.jobs.seen.add(number)
        return number

    async def _end(self, first: int, count: int, seconds: float) -> None:
        began = time.monotonic()
        numbers = random.Random(1).sample(range(first, first + count), count)
        for place, number in enumerate(numbers):
            await asyncio.sleep(max(0.0, began + seconds * place / count - time.monotonic()))
            self.jobs.end(number)


async def serve(jobs: int, port_file: Path) -> None:
    server = Server(Jobs(jobs))
    app = web.Application()
    app.add_routes(
        [
            web.get("/wan/requests", server.page),
            web.get("/wan/requests/{id}", server.wan),
            web.get("/api/v2/accounts/1/runs/{id}/", server.dbt),
            web.get("/v1/messages/batches/{id}", server.anthropic),
            web.get("/openai/batches/{id}", server.openai),
            web.get("/http/{id}", server.http),
            web.post("/finish", server.finish),
            web.get("/figures", server.figures),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    port_file.write_text(str(runner.addresses[0][1]))  # noqa: ASYNC240
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.jobs, options.port_file))


if __name__ == "__main__":
    main()
