# SPDX-License-Identifier: Apache-2.0
"""``timeout`` is kept by whole operators while the service is silent, drips or asks for absurd pauses.

The scenarios of one operator run side by side, each with its own address of the API, so that each test takes about as
long as one of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.sensors.wan import WanRequestSensor
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
from dev.component import wait_for
from dev.testkit.batch_runs import BatchTask, crops, upload
from dev.testkit.faulty_front import Fault, FaultyFront, drip_body, drip_head, hint, silent
from dev.testkit.s3_folder import Folder
from dev.testkit.triggers import run_trigger

TIMEOUT = 4.0
BATCH_TIMEOUT = 8.0  # its images are read, checked and presigned first
# The most by which an operator may exceed its timeout.
GRACE = 5.0
IMAGE = "https://images.example.com/cat.jpg"
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
SILENCE: dict[str, Fault] = {"silent": silent, "drips its head": drip_head, "drips its body": drip_body}
HINTS: dict[str, Fault] = {
    "asks for a year": hint(429, "31536000"),
    "asks for no pause": hint(503, "0"),
    "asks for a pause until the past": hint(429, PAST),
}
FAULTS = SILENCE | HINTS
Run = Callable[[str, str], Any]
ENDS = (WanError, AirflowException)


@dataclass
class Played:
    """How an operator ended."""

    seconds: float
    message: str
    front: FaultyFront


@pytest.fixture(scope="module")
def service() -> Iterator[SandboxServer]:
    """Run a service that takes longer for a clip than any test lasts."""
    with SandboxServer(api_key="deadline-key-123", speed=1, run_sigma=0, queue_sigma=0, render="tiny") as server:
        yield server


@pytest.fixture
def play(
    service: SandboxServer, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Run, str, dict[str, Fault]], dict[str, Played]]]:
    """Run an operator once for each fault of a kind of request, side by side."""
    for module in ("operators.wan", "operators.wan_batch", "sensors.wan", "triggers.deferral"):
        monkeypatch.setattr(f"airflow_provider_wan.{module}.MIN_DEFERRAL_SECONDS", 0.0)
    parts = urlsplit(service.base_url)
    results = urlsplit(service.result_url).port or 0
    with ExitStack() as fronts:

        def play_all(run: Run, kind: str, faults: dict[str, Fault]) -> dict[str, Played]:
            opened = {}
            for number, (name, fault) in enumerate(faults.items()):
                front = FaultyFront(upstream=parts.port or 0, results=results, faults={kind: fault})
                opened[name] = fronts.enter_context(front)
                value = {
                    "conn_type": "wan",
                    "host": f"http://127.0.0.1:{front.port}{parts.path}",
                    "password": service.api_key,
                    "extra": {"status_requests_per_second": 20},
                }
                monkeypatch.setenv(f"AIRFLOW_CONN_WAN_{number}", json.dumps(value))

            def measure(number: int, name: str) -> Played:
                began = time.monotonic()
                with pytest.raises(ENDS) as raised:
                    run(f"wan_{number}", name)
                return Played(time.monotonic() - began, str(raised.value), opened[name])

            with ThreadPoolExecutor(len(faults)) as pool:
                return dict(zip(faults, pool.map(measure, range(len(faults)), faults), strict=True))

        yield play_all


def check(found: dict[str, Played], kind: str, timeout: float = TIMEOUT) -> None:
    for name, each in found.items():
        assert each.seconds <= timeout + GRACE, f"{name}: {each}"
        # No pause, or one until the past, does not make a request a second for ever.
        assert 1 <= each.front.seen.count(kind) <= 3 * timeout, f"{name}: {each}"


def elapsed(task: BatchTask) -> float:
    """Return the seconds from the start of the try to its report."""
    summary = json.loads(task.folder.get(f"{task.results_folder}/summary.json"))
    return float(summary["elapsed"])


def context() -> Any:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, xcom_push=lambda **_: None)
    return {"ti": ti, "dag_run": SimpleNamespace(conf={}, run_id="r")}


def carry_on(build: Callable[[], Any]) -> Any:
    """Execute an operator with its deferrals."""
    step, event = build().execute, None
    while True:
        try:
            return step(context()) if event is None else step(context(), event)
        except TaskDeferred as deferred:
            event = asyncio.run(run_trigger(deferred.trigger))
            step = getattr(build(), deferred.method_name)


@pytest.mark.parametrize("kind", ["submit", "poll"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.timeout(90)
def test_a_clip_keeps_its_timeout(play: Any, tmp_path: Path, kind: str, deferrable: bool) -> None:
    def run(conn_id: str, name: str) -> Any:
        return carry_on(
            lambda: WanI2VOperator(
                task_id="t",
                img_url=IMAGE,
                probe_urls=False,
                wan_conn_id=conn_id,
                ledger_uri=f"file://{tmp_path}/{conn_id}",
                timeout=TIMEOUT,
                poll_interval=0.5,
                deferrable=deferrable,
            )
        )

    check(play(run, kind, FAULTS), kind)


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.timeout(90)
def test_a_sensor_keeps_its_timeout(play: Any, deferrable: bool) -> None:
    def run(conn_id: str, name: str) -> Any:
        return carry_on(
            lambda: WanRequestSensor(
                task_id="t",
                request_id="00000000-0000-0000-0000-000000000001",
                wan_conn_id=conn_id,
                timeout=TIMEOUT,
                poke_interval=0.5,
                deferrable=deferrable,
            )
        )

    check(play(run, "poll", FAULTS), "poll")


@pytest.mark.parametrize("kind", ["submit", "poll"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["in a loop", "in waves"])
@pytest.mark.timeout(120)
def test_a_batch_keeps_its_timeout(play: Any, folder: Folder, kind: str, deferrable: bool) -> None:
    images = upload(folder, 2)

    def run(conn_id: str, name: str) -> Any:
        task = BatchTask(folder, {"manifest": images, "output_prefix": folder.uri(f"{conn_id}/")}, task_id=conn_id)
        tasks[name] = task
        return task.try_(wan_conn_id=conn_id, timeout=BATCH_TIMEOUT, deferrable=deferrable)

    tasks: dict[str, BatchTask] = {}
    found = play(run, kind, {name: FAULTS[name] for name in ("drips its body", "asks for no pause")})
    # To the report, as a busy machine takes its time for the files.
    check({name: replace(each, seconds=elapsed(tasks[name])) for name, each in found.items()}, kind, BATCH_TIMEOUT)


@pytest.mark.timeout(90)
def test_the_download_of_a_result_keeps_the_timeout(play: Any, service: SandboxServer, folder: Folder) -> None:
    request_id = submit(service)

    def archive(conn_id: str, name: str) -> Any:
        target = folder.uri(f"{conn_id}.mp4")
        operator = WanToS3Operator(
            task_id="t", request_id=request_id, s3_key=target, wan_conn_id=conn_id, timeout=TIMEOUT
        )
        return operator.execute(context())

    check(play(archive, "result", SILENCE), "result")


@pytest.mark.timeout(90)
def test_the_download_of_the_operator_that_does_all_in_one_task_keeps_its_timeout(
    play: Any, service: SandboxServer, tmp_path: Path, folder: Folder
) -> None:
    (image,) = upload(folder, 1)

    ended = threading.Event()
    finished = {each["request_id"] for each in service.accepted()}

    def finish_all() -> None:
        while not ended.wait(0.5):
            for request_id in {each["request_id"] for each in service.accepted()} - finished:
                service.finish(request_id)
                finished.add(request_id)

    def make(conn_id: str, name: str) -> Any:
        operator = WanImageToVideoOperator(
            task_id="t",
            source=image,
            target=folder.uri(f"{conn_id}.mp4"),
            wan_conn_id=conn_id,
            ledger_uri=f"file://{tmp_path}/{conn_id}",
            timeout=BATCH_TIMEOUT,
            poll_interval=0.2,
            deferrable=False,
        )
        return operator.execute(context())

    threading.Thread(target=finish_all, daemon=True).start()
    try:
        check(play(make, "result", SILENCE), "result", BATCH_TIMEOUT)
    finally:
        ended.set()


@pytest.mark.timeout(90)
def test_execution_timeout_shortens_the_wait_of_a_deferred_task(play: Any, tmp_path: Path, folder: Folder) -> None:
    limit: dict[str, Any] = {"timeout": 600, "execution_timeout": timedelta(seconds=TIMEOUT), "deferrable": True}
    images = upload(folder, 2)
    batch: list[BatchTask] = []

    def run(conn_id: str, name: str) -> Any:
        if name == "a batch":
            batch.append(BatchTask(folder, {"manifest": images}, task_id=conn_id))
            return batch[0].try_(wan_conn_id=conn_id, **limit)
        given: dict[str, Any] = {"task_id": "t", "wan_conn_id": conn_id, "ledger_uri": f"file://{tmp_path}/ledger"}
        if name == "a clip":
            return carry_on(
                lambda: WanI2VOperator(**given, **limit, img_url=IMAGE, probe_urls=False, poll_interval=0.5)
            )
        target = folder.uri("one.mp4")
        return carry_on(
            lambda: WanImageToVideoOperator(**given, **limit, source=images[0], target=target, poll_interval=0.5)
        )

    found = play(run, "nothing", dict.fromkeys(("a batch", "a clip", "one task"), silent))
    found["a batch"].seconds = elapsed(batch[0])
    assert {name: each for name, each in found.items() if each.seconds > TIMEOUT + GRACE} == {}


def submit(service: SandboxServer) -> str:
    from airflow_provider_wan.api.client import WanClient
    from airflow_provider_wan.api.config import WanConfig
    from airflow_provider_wan.api.request import I2VRequest

    client = WanClient(WanConfig(service.api_key, service.base_url))
    try:
        image = client.upload(next(crops(1)), "jpeg")
        request_id = client.submit(I2VRequest(image, resolution="720P")).request_id
        service.finish(request_id)
        wait_for("the clip", lambda: client.get_request(request_id).is_final, seconds=60)
        return request_id
    finally:
        client.close()
