# SPDX-License-Identifier: Apache-2.0
"""What must not stop a batch, or make it pay more than it may."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask, charges_by_request, manifest, upload
from dev.testkit.delivery import check_delivered
from dev.testkit.s3_folder import Folder

PROMPTS = ["before", "half an emoji \ud83d", "NUL \x00 within", "after"]


@pytest.mark.parametrize("as_file", [False, True], ids=["a list", "JSON lines"])
def test_half_an_emoji_or_nul_in_a_prompt_concerns_only_its_row(
    folder: Folder, sandbox: SandboxServer, as_file: bool
) -> None:
    rows = [{"image": uri, "prompt": prompt} for uri, prompt in zip(upload(folder, 4), PROMPTS, strict=True)]
    job = BatchTask(folder, {"manifest": manifest(folder, rows) if as_file else rows, "max_failed_fraction": 1.0})

    first, second = job.try_(), job.try_()

    assert (first["items"], second["items"]) == (4, 4)
    results = job.rows()
    assert [each["status"] for each in results] == ["archived", "rejected", "rejected", "archived"]
    assert all("prompt='…': must not contain half an emoji" in results[row]["error"] for row in (1, 2))
    for row in (0, 3):
        check_delivered(sandbox, folder, results[row]["archive_uri"], prompt=PROMPTS[row])
    assert len(charges_by_request(sandbox)) == 2


def test_foreign_files_in_the_ledger_stop_no_batch(folder: Folder, sandbox: SandboxServer) -> None:
    for name, body in {
        "notes.json": b'{"a": 1}',
        f"{'ab' * 32}.json": b"not JSON",
        f"{'cd' * 32}.json": json.dumps({"version": 99}).encode(),
        f"{'ef' * 32}.json": b'{"version": 3}',
        "budgets/other.json": b"[]",
        "\u00e9.json": b"",
    }.items():
        folder.put(f"clips/_ledger/{name}", body)
    rows = [{"image": uri, "prompt": f"p{n}", "seed": 7} for n, uri in enumerate(upload(folder, 3))]
    # Its doubt is settled by a scan of the list, for which all entries are read.
    sandbox.inject("reset_after_accept", 1, {"prompt": "p1"})

    result = BatchTask(folder, {"manifest": rows}).try_()

    assert result["archived"] == len(charges_by_request(sandbox)) == 3


def test_a_batch_that_is_taken_for_dead_beside_its_retry_never_passes_the_limit_together(
    folder: Folder, sandbox: SandboxServer
) -> None:
    images = upload(folder, 16)
    outcomes: list[Any] = [None, None]
    barrier = threading.Barrier(2)

    def run(number: int) -> None:
        job = BatchTask(folder, {"manifest": images, "max_cost": 5.0}, try_number=number)
        barrier.wait()
        try:
            outcomes[number] = job.try_(max_in_flight=4)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    paid = charges_by_request(sandbox)
    assert sum(paid.values()) == pytest.approx(5.0)
    images_paid = [each["payload"]["img_url"].split("?")[0] for each in sandbox.accepted()]
    assert len(set(images_paid)) == len(images_paid) == 10
    for outcome in outcomes:
        assert "max_cost=$5.00" in str(outcome)


def test_requests_in_flight_are_harvested_or_named_when_the_prompt_of_a_batch_changes(
    folder: Folder, sandbox: SandboxServer
) -> None:
    (image,) = upload(folder, 1)
    sandbox.inject("runs_forever")
    job = BatchTask(folder, {"manifest": [image], "prompt": "the old one"})
    with pytest.raises(TaskDeferred):
        job.operator(deferrable=True).execute(job.context())
    (first,) = sandbox.accepted()

    result = job.try_(prompt="the new one")

    assert (result["archived"], result["unclaimed"]) == (1, 1)
    lines = folder.get(f"{job.results_folder}/unclaimed.jsonl").splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [first["request_id"]]
    check_delivered(sandbox, folder, job.rows()[0]["archive_uri"], prompt="the new one")
