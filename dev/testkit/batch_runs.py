# SPDX-License-Identifier: Apache-2.0
"""Images, manifests and runs of a batch operator, as Airflow would run it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from PIL import Image

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.s3_folder import Folder
from dev.testkit.triggers import run_trigger

PHOTOS = Path(__file__).resolve().parents[2] / "dev" / "photos"


def crops(count: int, seed: int = 1, size: tuple[int, int] = (400, 400)) -> Iterator[bytes]:
    """Crops of the photographs, all different."""
    draw = random.Random(seed)
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    for number in range(count):
        photo = photos[number % len(photos)]
        width, height = min(size[0], photo.width), min(size[1], photo.height)
        left = draw.randrange(photo.width - width + 1)
        top = draw.randrange(photo.height - height + 1)
        crop = photo.crop((left, top, left + width, top + height)).resize(size)
        # All differ, even if a photograph is no larger than the crop.
        crop.paste((number % 16 * 16, number // 16 % 16 * 16, number // 256 * 16 % 256), (0, 0, 16, 16))
        written = io.BytesIO()
        crop.save(written, "JPEG", quality=85)
        yield written.getvalue()


@dataclass
class BatchTask:
    """One task instance of a batch operator, with the state that Airflow keeps for it."""

    folder: Folder
    arguments: dict[str, Any]
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "clips"
    map_index: int = -1
    try_number: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    deferrals: list[TaskDeferred] = field(default_factory=list)
    outlet_events: OutletEventAccessors = field(default_factory=OutletEventAccessors)
    last: WanI2VBatchOperator | None = None

    def context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="batch",
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=self.try_number,
            xcom_push=lambda key, value: self.xcoms.__setitem__(key, value),
        )
        run = SimpleNamespace(conf={}, run_id=self.run_id)
        return {"ti": ti, "dag_run": run, "outlet_events": self.outlet_events}

    def operator(self, **changes: Any) -> WanI2VBatchOperator:
        given = {
            "output_prefix": self.folder.uri("clips/"),
            "resolution": "720P",
            "poll_interval": 0.5,
            "submits_per_second": 50,
            "max_in_flight": 40,
            "deferrable": False,
        }
        self.last = WanI2VBatchOperator(task_id=self.task_id, **{**given, **self.arguments, **changes})
        return self.last

    def try_(self, **changes: Any) -> dict[str, Any]:
        """Run one try to its end, with all its deferral cycles."""
        self.try_number += 1
        step: Any = lambda: self.operator(**changes).execute(self.context())  # noqa: E731
        while True:
            try:
                result: dict[str, Any] = step()
                return result
            except TaskDeferred as deferred:
                self.deferrals.append(deferred)
                event = asyncio.run(run_trigger(deferred.trigger))
                self.events.append(event)
                resumed = self.operator(**changes)
                step = lambda r=resumed, e=event: r.execute_complete(self.context(), e)  # noqa: E731

    @property
    def results_folder(self) -> str:
        """Where the checkpoint and the results are, below the test's folder."""
        (found,) = {
            name.rpartition("/")[0]
            for name in self.folder.names()
            if name.endswith("/checkpoint.json")
            and f"batch.{self.task_id}/" in name
            and self.run_id.partition("__")[0].replace(":", "_").replace("+", "_").replace(" ", "_") in name
            and (self.map_index < 0 or name.endswith(f"/{self.map_index}/checkpoint.json"))
        }
        return found

    def rows(self, result: dict[str, Any] | None = None, name: str = "results") -> list[dict[str, Any]]:
        body = self.folder.get(f"{self.results_folder}/{name}.jsonl")
        return [json.loads(line) for line in body.splitlines()]


def charges_by_request(sandbox: SandboxServer) -> dict[str, float]:
    """US dollars by request. :raises AssertionError: when one was charged twice."""
    charges = sandbox.charges()
    found = {each["request_id"]: each["usd"] for each in charges}
    assert len(found) == len(charges), "a request was charged twice"
    return found


def paid_images(sandbox: SandboxServer) -> list[str]:
    """The image of each charge, without its signature."""
    by_id = {each["request_id"]: each["payload"]["img_url"].split("?")[0] for each in sandbox.accepted()}
    return [by_id[request_id] for request_id in charges_by_request(sandbox)]


def upload(folder: Folder, count: int, seed: int = 1) -> list[str]:
    return [folder.put(f"images/{number:04d}.jpg", data) for number, data in enumerate(crops(count, seed))]


def manifest(folder: Folder, items: list[dict[str, Any]]) -> str:
    return folder.put("manifest.jsonl", b"".join(json.dumps(item).encode() + b"\n" for item in items))


def check_clip(folder: Folder, row: dict[str, Any]) -> None:
    key = row["archive_uri"].split(folder.prefix + "/", 1)[1]
    assert hashlib.sha256(folder.get(key)).hexdigest() == row["sha256"]
    record = json.loads(folder.get(key.removesuffix(".mp4") + ".json"))
    assert (record["sha256"], record["request_id"]) == (row["sha256"], row["request_id"])
