# SPDX-License-Identifier: Apache-2.0
"""A batch whose service is silent, refuses its key for a while, or may not list; against the sandbox and a real S3."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask, charges_by_request, upload
from dev.testkit.s3_folder import Folder

# The most by which a batch may exceed its timeout, including writing the results.
GRACE = 5.0
# The delay of a slow response, which comes long after the timeout of any batch here.
SLOW = 40.0


def elapsed(job: BatchTask) -> float:
    """Return the seconds from the start of the try to its report."""
    summary = json.loads(job.folder.get(f"{job.results_folder}/summary.json"))
    return float(summary["elapsed"])


def test_a_key_that_may_not_list_but_look_up_archives_a_whole_batch(folder: Folder, sandbox: SandboxServer) -> None:
    sandbox.inject("list_403", None)

    result = BatchTask(folder, {"manifest": upload(folder, 12)}).try_()

    assert result["archived"] == len(charges_by_request(sandbox)) == 12


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_401_on_some_polls_does_not_end_a_batch(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setattr("airflow_provider_wan.operators.wan_batch.MIN_DEFERRAL_SECONDS", 0.0)
    sandbox.inject("list_403", 1)
    sandbox.inject("get_401", 3)

    result = BatchTask(folder, {"manifest": upload(folder, 3), "deferrable": deferrable}).try_()

    assert result["archived"] == len(charges_by_request(sandbox)) == 3


@pytest.mark.parametrize("silent", [("get_hang", "list_hang"), ("get_slow", "list_slow")], ids=str)
@pytest.mark.timeout(60)
def test_a_batch_keeps_its_timeout_and_submits_all_its_rows_while_polls_get_no_response(
    folder: Folder, sandbox: SandboxServer, silent: tuple[str, ...]
) -> None:
    sandbox.call(lambda core: core.configure(slow_seconds=SLOW))
    for fault in silent:
        sandbox.inject(fault, None)
    job = BatchTask(folder, {"manifest": upload(folder, 6)})

    with pytest.raises(WanError, match="the timeout expired"):
        job.try_(timeout=12)

    assert elapsed(job) < 12 + GRACE
    assert len(sandbox.accepted()) == 6
    assert {row["status"] for row in job.rows()} == {"timeout"}


@pytest.mark.parametrize("fault", ["hang_after_accept", "hang_before_accept", "slow_submit", "capacity_503"])
@pytest.mark.timeout(60)
def test_a_batch_keeps_its_timeout_while_submissions_get_no_response(
    folder: Folder, sandbox: SandboxServer, fault: str
) -> None:
    sandbox.call(lambda core: core.configure(slow_seconds=SLOW))
    sandbox.inject(fault, None)
    job = BatchTask(folder, {"manifest": upload(folder, 4)})

    with pytest.raises(WanError):
        job.try_(timeout=8)

    assert elapsed(job) < 8 + GRACE


@pytest.mark.timeout(60)
def test_a_batch_keeps_its_timeout_while_a_result_drips(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = time.monotonic() + 40

    def drip(*_: Any, **__: Any) -> None:
        while time.monotonic() < release:
            time.sleep(0.1)

    monkeypatch.setattr("airflow_provider_wan.media.archive.ClipArchive.store", drip)
    job = BatchTask(folder, {"manifest": upload(folder, 2)})
    try:
        with pytest.raises(WanError, match="the timeout expired"):
            job.try_(timeout=8)
        assert elapsed(job) < 8 + GRACE
        assert "being archived" in job.rows()[0]["error"]
    finally:
        release = 0.0
