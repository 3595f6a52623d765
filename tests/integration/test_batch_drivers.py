# SPDX-License-Identifier: Apache-2.0
"""A batch against a sandbox with faults: in the worker, in deferral cycles, and killed repeatedly."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_provider_wan.operators import wan_batch
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask, charges_by_request, check_clip, manifest, paid_images, upload
from dev.testkit.s3_folder import Folder

ROOT = Path(__file__).resolve().parents[2]
#: Transient faults, in a few of a hundred calls.
TROUBLE = {
    "reset_after_accept": 0.01,
    "error_500_accepted": 0.005,
    "get_500": 0.02,
    "list_500": 0.02,
    "list_garbage": 0.02,
    "empty_echo": 0.01,
    "bare_media_urls": 0.02,
}


@pytest.fixture
def busy(wan_connection: Callable[..., None]) -> Iterator[SandboxServer]:
    """Start a sandbox that runs 20 requests at once, with faults."""
    with SandboxServer(
        api_key="batch-key", speed=60, seed=7, render="tiny", concurrency=20, queue_seconds=0.5, rates=TROUBLE
    ) as server:
        wan_connection(server.base_url, server.api_key, status_requests_per_second=50)
        for fault in ("result_reset", "result_cut", "rate_limit_record"):
            server.inject(fault, 2)
        yield server


def test_every_good_image_is_archived_once_and_every_bad_one_is_named(folder: Folder, busy: SandboxServer) -> None:
    items: list[dict[str, Any]] = [{"image": uri, "prompt": f"clip {n}"} for n, uri in enumerate(upload(folder, 80))]
    bad = {17: folder.put("images/torn.png", b"\x89PNG\r\n\x1a\n torn"), 40: folder.put("images/none.jpg", b"none")}
    small = io.BytesIO()
    Image.new("RGB", (900, 60)).save(small, "PNG")
    bad |= {61: folder.put("images/flat.png", small.getvalue()), 84: folder.uri("images/missing.png")}
    for at, uri in bad.items():
        items.insert(at - 1, {"image": uri})
    job = BatchTask(folder, {"manifest": manifest(folder, items), "max_failed_fraction": 0.05})

    result = job.try_()

    rows = job.rows()
    assert [row["row"] for row in rows] == list(range(1, 85))
    assert Counter(row["status"] for row in rows) == {"archived": 80, "rejected": 4}
    assert {row["row"] for row in job.rows(name="rejected")} == set(bad)
    assert all(str(row["row"]) in row["error"] for row in rows if row["row"] in bad)
    charges = charges_by_request(busy)
    assert {row["request_id"] for row in rows if row["status"] == "archived"} == set(charges)
    assert len(set(paid_images(busy))) == len(charges) == 80
    for row in rows:
        if row["status"] == "archived":
            check_clip(folder, row)
    assert result["cost"] == pytest.approx(sum(charges.values())) == pytest.approx(40.0)
    assert (result["archived"], result["rejected"], result["skipped"]) == (80, 4, 0)


def test_deferral_cycles_make_the_same_as_the_loop_and_store_no_secret(
    folder: Folder, busy: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wan_batch, "MIN_DEFERRAL_SECONDS", 0.0)
    job = BatchTask(folder, {"manifest": upload(folder, 36), "deferrable": True, "prompt": "a secret prompt"})

    result = job.try_(max_in_flight=16)

    assert result["archived"] == 36
    assert len(charges_by_request(busy)) == 36
    assert job.deferrals
    for deferral in job.deferrals:
        path, arguments = deferral.trigger.serialize()
        assert path == "airflow_provider_wan.triggers.wan_batch.WanI2VBatchTrigger"
        assert len(arguments["request_ids"]) <= 16
        stored = json.dumps(arguments)
        assert not any(secret in stored for secret in ("secret", "Signature", busy.api_key, "images/"))
    assert len(json.dumps(job.events)) < 200 * len(job.events)


@pytest.mark.nightly
def test_a_batch_that_is_killed_again_and_again_pays_once_for_each_clip(
    folder: Folder, busy: SandboxServer, tmp_path: Path
) -> None:
    images = upload(folder, 40)
    batch: dict[str, Any] = {
        "prefix": folder.prefix,
        "arguments": {"manifest": manifest(folder, [{"image": uri} for uri in images])},
    }
    charged = 0
    for try_number in range(1, 12):
        batch["try_number"] = try_number
        with (tmp_path / f"{try_number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dev.testkit.batch_process", json.dumps(batch)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            if try_number <= 2:
                until = charged + 14
                while process.poll() is None and len(busy.accepted()) < until:
                    time.sleep(0.02)
                os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=120)
        charged = len(busy.accepted())
        if process.returncode == 0:
            break

    result = json.loads((tmp_path / f"{try_number}.log").read_text().splitlines()[-1])
    assert try_number == 3, (tmp_path / f"{try_number}.log").read_text()[-3000:]
    assert result["archived"] == 40
    charges = charges_by_request(busy)
    assert len(set(paid_images(busy))) == len(charges) == 40
    assert result["cost"] == pytest.approx(sum(charges.values()))
    for row in BatchTask(folder, {}).rows():
        check_clip(folder, row)
