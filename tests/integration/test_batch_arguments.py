# SPDX-License-Identifier: Apache-2.0
"""A batch whose arguments change between two tries, and batches with similar names; against a real S3."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.operators.batch_setup import build_checkpoint_store
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask, charges_by_request, upload
from dev.testkit.delivery import check_delivered
from dev.testkit.s3_folder import Folder


def try_with_a_torn_row(folder: Folder, job: BatchTask) -> None:
    folder.put("images/torn.png", b"torn")
    with pytest.raises(WanError, match="1 of 5 rows"):
        job.try_()


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"prompt": "a new one"}, {"prompt": "a new one"}),
        ({"duration": 10}, {"duration": 10}),
        ({"idempotency_key": "again"}, {}),
    ],
    ids=["prompt", "duration", "idempotency_key"],
)
def test_after_a_change_of_an_argument_every_row_has_the_clip_that_is_asked_for(
    folder: Folder, sandbox: SandboxServer, change: dict[str, Any], asked: dict[str, Any]
) -> None:
    job = BatchTask(folder, {"manifest": [*upload(folder, 4), folder.uri("images/torn.png")], "prompt": "the old one"})
    try_with_a_torn_row(folder, job)
    first = {row["request_id"] for row in job.rows() if row["status"] == "archived"}
    folder.put("images/torn.png", folder.get("images/0000.jpg")[:-2] + b"\x00\xff\xd9")

    result = job.try_(**change)

    rows = job.rows()
    assert [row["status"] for row in rows] == ["archived"] * 5
    assert len(charges_by_request(sandbox)) == 9
    assert first.isdisjoint(row["request_id"] for row in rows)
    assert result["archived"] == 5
    assert result["cost"] == pytest.approx(sum(charges_by_request(sandbox).values()))
    for row in rows:
        check_delivered(sandbox, folder, row["archive_uri"], **{"prompt": "the old one", "duration": 5} | asked)


def test_without_a_change_the_next_try_keeps_its_clips(folder: Folder, sandbox: SandboxServer) -> None:
    job = BatchTask(folder, {"manifest": [*upload(folder, 4), folder.uri("images/torn.png")], "prompt": "p"})
    try_with_a_torn_row(folder, job)
    folder.put("images/torn.png", folder.get("images/0000.jpg")[:-2] + b"\x00\xff\xd9")

    assert job.try_()["archived"] == 5

    assert len(charges_by_request(sandbox)) == 5


RUN_IDS = [
    "week 1+a",
    "week 1:a",
    "week 1/a",
    "week_1_a",
    "Week 1+a",
    "caf\u00e9",
    "cafe\u0301",
    "caf\u0301e",
    "x" * 250,
]


def test_no_two_runs_share_a_checkpoint(folder: Folder) -> None:
    def uri(dag_id: str, task_id: str, run_id: str, map_index: int = -1) -> str:
        ti = SimpleNamespace(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)
        arguments: Any = SimpleNamespace(output_prefix="s3://b/out/", s3=None)
        context: Any = {"ti": ti}
        return build_checkpoint_store(arguments, context).uri

    uris = [uri("dag", "task", run_id) for run_id in RUN_IDS]
    uris += [uri("dag", "task", "week 1", 3), uri("dag", "task", "week 1/3"), uri("dag.task", "b", "r")]
    uris.append(uri("dag", "task.b", "r"))

    assert len({each.lower() for each in uris}) == len(uris)
    assert all(len(each.encode()) < 800 for each in uris)
    assert uri("dag", "task", RUN_IDS[0]) == uri("dag", "task", RUN_IDS[0])


def test_runs_whose_ids_differ_in_one_sign_have_their_own_results(folder: Folder, sandbox: SandboxServer) -> None:
    images = upload(folder, 2)
    for run_id, prompt in (("week 1+a", "one"), ("week 1:a", "two")):
        job = BatchTask(folder, {"manifest": images, "prompt": prompt}, run_id=run_id)
        assert job.try_()["archived"] == 2
    assert len(charges_by_request(sandbox)) == 4
    assert sum(name.endswith("/results.jsonl") for name in folder.names()) == 2


def test_images_that_differ_in_a_query_parameter_are_different_clips(
    folder: Folder, sandbox: SandboxServer, tmp_path: Path
) -> None:
    server = ImageByQuery(folder)
    try:
        items = [{"image": server.url(f"id={number}")} for number in range(3)]
        job = BatchTask(folder, {"manifest": items})
        result = job.try_()
    finally:
        server.close()
    assert (result["archived"], result["duplicate"]) == (3, 0)
    for row, item in zip(job.rows(), items, strict=True):
        check_delivered(sandbox, folder, row["archive_uri"], img_url=item["image"])


class ImageByQuery:
    """A web server whose images differ by their query only."""

    def __init__(self, folder: Folder) -> None:
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        from dev.testkit.batch_runs import crops

        images = list(crops(3))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = images[int(self.path.rpartition("=")[2])]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, query: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/image.jpg?{query}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
