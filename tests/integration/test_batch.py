# SPDX-License-Identifier: Apache-2.0
"""What a batch does with its rows, its budget and its failures, against the sandbox and a real S3."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.sdk import AssetAlias
from PIL import Image

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.batch import engine
from airflow_provider_wan.batch import run as batch_run
from airflow_provider_wan.ledger import submitter
from airflow_provider_wan.operators import wan_batch
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask, charges_by_request, crops, manifest, upload
from dev.testkit.ledger import QUICK_POLICY
from dev.testkit.s3_folder import Folder


def test_a_budget_of_half_the_estimate_stops_in_time_and_more_goes_on_from_there(
    folder: Folder, sandbox: SandboxServer
) -> None:
    job = BatchTask(folder, {"manifest": upload(folder, 24)})
    estimate = job.try_(dry_run=True)

    with pytest.raises(AirflowFailException, match=r"max_cost=\$6\.00.*12 rows are skipped.*Raise max_cost"):
        job.try_(max_cost=estimate["cost"] / 2)
    spent = sum(charges_by_request(sandbox).values())
    first = {row["request_id"] for row in job.rows() if row["status"] == "archived"}
    result = job.try_(max_cost=estimate["cost"])

    assert estimate["cost"] == 12.0
    assert spent == pytest.approx(6.0)
    assert len(first) == 12
    assert result["archived"] == 24
    assert result["cost"] == pytest.approx(12.0) == pytest.approx(sum(charges_by_request(sandbox).values()))


def test_what_a_killed_try_has_spent_counts_towards_the_budget(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = BatchTask(folder, {"manifest": upload(folder, 20), "max_cost": 5.0})
    saves = []

    class KilledError(BaseException):
        pass

    save = batch_run.BatchRun.save

    def save_once(self: Any, busy: Any, **more: Any) -> None:
        saves.append(more)
        if len(saves) == 1:
            save(self, busy, **more)
            return
        raise KilledError

    # Only the checkpoint before the first payment is written.
    monkeypatch.setattr(batch_run.BatchRun, "save", save_once)
    with pytest.raises(KilledError):
        job.try_()
    monkeypatch.setattr(batch_run.BatchRun, "save", save)
    before = len(sandbox.accepted())

    with pytest.raises(AirflowFailException, match="max_cost"):
        job.try_()

    assert before == 10
    assert len(charges_by_request(sandbox)) == 10


def test_a_budget_of_just_the_estimate_is_enough_where_an_answer_was_lost(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitter, "Policy", lambda: QUICK_POLICY)
    # The account has older requests, without which the list proves nothing.
    sandbox.call(lambda core: core.admin.console(age=7200))
    sandbox.call(lambda core: core.admin.console(age=7300))
    sandbox.inject("reset_before_accept", 1, {"prompt": "last"})
    items = [{"image": uri, "prompt": "last" if n == 3 else ""} for n, uri in enumerate(upload(folder, 4))]
    job = BatchTask(folder, {"manifest": items})
    estimate = job.try_(dry_run=True)

    result = job.try_(max_cost=estimate["cost"])

    assert estimate["cost"] == 2.0
    assert (result["archived"], result["cost"]) == (4, 2.0)
    assert sum(charges_by_request(sandbox).values()) == pytest.approx(2.0)


def test_another_run_with_the_same_content_pays_nothing_and_has_its_own_copies(
    folder: Folder, sandbox: SandboxServer
) -> None:
    images = upload(folder, 12)
    more = {"manifest": images, "reuse": "content", "ledger_uri": folder.uri("ledger")}
    first = BatchTask(folder, more, run_id="one").try_()
    paid = len(charges_by_request(sandbox))

    job = BatchTask(folder, {**more, "output_prefix": folder.uri("other/")}, run_id="two")
    result = job.try_()

    assert (first["archived"], first["reused"], paid) == (12, 0, 12)
    assert (result["archived"], result["reused"], result["cost"]) == (12, 12, 0.0)
    assert len(charges_by_request(sandbox)) == 12
    assert sum(name.startswith("other/") and name.endswith(".mp4") for name in folder.names()) == 12


def test_clips_may_go_below_their_images_and_a_second_run_finds_no_others(
    folder: Folder, sandbox: SandboxServer
) -> None:
    upload(folder, 2)
    narrow = io.BytesIO()
    Image.new("RGB", (300, 300)).save(narrow, "PNG")
    folder.put("images/_DSC3.png", narrow.getvalue())
    place = folder.uri("images/")
    more = {"manifest": place, "output_prefix": place, "reuse": "content", "ledger_uri": folder.uri("ledger")}

    items = [BatchTask(folder, more, run_id=run_id).try_()["items"] for run_id in ("one", "two")]

    assert any(name.startswith("images/_ingest/") for name in folder.names())
    assert items == [3, 3]
    assert len(charges_by_request(sandbox)) == 3


def test_equal_bytes_under_two_names_are_paid_for_once(folder: Folder, sandbox: SandboxServer) -> None:
    (data,) = crops(1)
    images = [folder.put("images/a.png", data), folder.put("images/b.png", data)]
    job = BatchTask(folder, {"manifest": [*images, images[0]]})

    result = job.try_()

    rows = job.rows()
    assert len(charges_by_request(sandbox)) == 1
    assert [row["status"] for row in rows] == ["archived", "archived", "duplicate"]
    assert "row 1" in rows[2]["error"]
    assert result["cost"] == pytest.approx(0.5) == pytest.approx(sum(row["cost"] or 0 for row in rows))


def test_a_failed_row_is_tried_again_by_the_next_try_and_a_finished_one_is_not(
    folder: Folder, sandbox: SandboxServer
) -> None:
    images = upload(folder, 6)
    torn = folder.put("images/torn.png", b"torn")
    sandbox.inject("failed_string", 1, {"prompt": "refused"})
    job = BatchTask(folder, {"manifest": [*({"image": uri} for uri in images), {"image": torn}]})

    with pytest.raises(WanError, match=r"1 of 7 rows have no clip.*rejected\.jsonl"):
        job.try_()
    calls = len(sandbox.accepted())
    folder.put("images/torn.png", next(crops(1, seed=9)))
    result = job.try_()

    assert calls == 6
    assert (result["archived"], len(sandbox.accepted())) == (7, 7)
    assert [row["row"] for row in job.rows()] == [1, 2, 3, 4, 5, 6, 7]


def test_a_refusal_by_content_is_for_good_and_named(folder: Folder, sandbox: SandboxServer) -> None:
    items = [{"image": uri, "prompt": f"p{n}"} for n, uri in enumerate(upload(folder, 4))]
    sandbox.inject("backend_400", 1, {"prompt": "p2"})
    job = BatchTask(folder, {"manifest": items, "max_failed_fraction": 0.5})

    result = job.try_()

    assert (result["archived"], result["rejected"]) == (3, 1)
    assert "400" in job.rows()[2]["error"]


def test_fail_fast_submits_nothing_more_and_archives_what_is_in_flight(folder: Folder, sandbox: SandboxServer) -> None:
    images = upload(folder, 40)
    images.insert(10, folder.put("images/torn.png", b"torn"))
    job = BatchTask(folder, {"manifest": images, "on_item_failure": "fail_fast", "submits_per_second": 20})

    with pytest.raises(WanError, match="row 11 is rejected"):
        job.try_()

    charges = charges_by_request(sandbox)
    archived = [row for row in job.rows() if row["status"] == "archived"]
    assert len(charges) == len(archived) < 40


def test_no_credit_stops_all_and_the_next_try_goes_on(folder: Folder, sandbox: SandboxServer) -> None:
    job = BatchTask(folder, {"manifest": upload(folder, 12)})
    sandbox.call(lambda core: core.admin.state({"credits": 2.5}))

    with pytest.raises(AirflowFailException, match="Insufficient credits"):
        job.try_()
    archived = len(charges_by_request(sandbox))
    sandbox.call(lambda core: core.admin.state({"credits": 100}))
    result = job.try_()

    assert archived == 5
    assert result["archived"] == len(charges_by_request(sandbox)) == 12


def test_a_429_halves_the_window_and_everything_is_made_in_the_end(
    folder: Folder, sandbox: SandboxServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.inject("rate_limit_429_bare", 1, {"prompt": "limit"})
    items = [{"image": uri, "prompt": "limit" if n == 6 else ""} for n, uri in enumerate(upload(folder, 12))]

    result = BatchTask(folder, {"manifest": items}).try_(max_in_flight=8)

    assert "window is 4" in caplog.text + capsys.readouterr().out
    assert result["archived"] == len(charges_by_request(sandbox)) == 12


def test_a_clip_that_never_runs_is_left_to_the_next_try_which_does_not_pay_again(
    folder: Folder, sandbox: SandboxServer
) -> None:
    items = [{"image": uri, "prompt": f"p{n}"} for n, uri in enumerate(upload(folder, 3))]
    sandbox.inject("never_runs", 1, {"prompt": "p1"})
    job = BatchTask(folder, {"manifest": items, "item_timeout": 4})

    # On a busy machine the others may be late as well.
    with pytest.raises(WanError, match="of 3 rows have no clip"):
        job.try_()
    stuck = job.rows()[1]
    assert stuck["status"] == "timeout"
    sandbox.finish(stuck["request_id"])
    result = job.try_()

    assert result["archived"] == 3
    assert len(sandbox.accepted()) == 3


@pytest.mark.timeout(180)
def test_in_deferral_cycles_too_a_request_that_the_api_does_not_know_comes_to_an_end(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NOT_FOUND_GRACE", 2.0)
    monkeypatch.setattr(wan_batch, "MIN_DEFERRAL_SECONDS", 0.0)
    sandbox.inject("get_404", None, {"prompt": "lost"})
    items = [{"image": uri, "prompt": "lost" if n == 1 else ""} for n, uri in enumerate(upload(folder, 2))]
    job = BatchTask(folder, {"manifest": items, "deferrable": True, "timeout": 20})

    with pytest.raises(WanError, match="the timeout expired with 1 requests in flight"):
        job.try_()

    assert job.rows()[1]["status"] in ("in_doubt", "timeout")
    assert len(sandbox.accepted()) == 2


@pytest.mark.timeout(120)
def test_a_request_that_the_api_does_not_know_has_its_row_where_the_batch_stopped(
    folder: Folder, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NOT_FOUND_GRACE", 2.0)
    sandbox.inject("get_404", None, {"prompt": "lost"})
    sandbox.inject("no_credit_402", 1, {"prompt": "second"})
    words = ("lost", "second")
    items = [{"image": uri, "prompt": word} for uri, word in zip(upload(folder, 2), words, strict=True)]
    job = BatchTask(folder, {"manifest": items})

    with pytest.raises(AirflowFailException, match=r"The batch stopped.*credit"):
        job.try_()

    row = job.rows()[0]
    assert (row["row"], row["status"]) == (1, "timeout")
    assert row["request_id"] == sandbox.accepted()[0]["request_id"]


def test_a_key_where_another_clip_lies_is_refused_before_it_is_paid_for(folder: Folder, sandbox: SandboxServer) -> None:
    (image,) = upload(folder, 1)
    folder.put("clips/tom.mp4", b"somebody else's")
    job = BatchTask(folder, {"manifest": [{"image": image, "name": "tom"}]})

    with pytest.raises(AirflowFailException, match="1 of 1 rows"):
        job.try_()

    assert sandbox.accepted() == []
    assert "another object" in job.rows()[0]["error"]


def test_a_dry_run_sends_nothing_and_reports_what_the_ledger_has(folder: Folder, sandbox: SandboxServer) -> None:
    items = [{"image": f"https://images.example.com/{n}.png"} for n in range(5)]
    job = BatchTask(folder, {"manifest": [*items, {"image": "https://images.example.com/x.png", "duration": 7}]})
    seen = len(sandbox.journal())

    estimate = job.try_(dry_run=True)

    assert len(sandbox.journal()) == seen
    assert (estimate["items"], estimate["rejected"], estimate["video_seconds"], estimate["cost"]) == (6, 1, 25, 2.5)
    assert (estimate["existing"], estimate["unread"], estimate["to_pay"]) == (0, 0, 2.5)
    assert "row 6" in estimate["faults"][0]
    assert "duration=7" in estimate["faults"][0]


def test_results_sheet_asset_and_link_are_there(
    folder: Folder, sandbox: SandboxServer, caplog: pytest.LogCaptureFixture
) -> None:
    job = BatchTask(folder, {"manifest": upload(folder, 3)})

    with caplog.at_level("INFO", logger="airflow_provider_wan"):
        result = job.try_()
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_provider_wan")]
    assert not any(re.search("[0-9a-f]{64}", message) for message in messages)  # rows are named by row and image
    assert sum("is archived" in message for message in messages) == 3

    below = f"{job.results_folder}/"
    names = {name.removeprefix(below) for name in folder.names() if name.startswith(below)}
    assert {"results.jsonl", "rejected.jsonl", "sheet.html", "sheet.png", "summary.json"} <= names
    assert not any(name.startswith("parts/") for name in names)
    with Image.open(io.BytesIO(folder.get(below + "sheet.png"))) as sheet:
        assert sheet.width >= 640
    page = folder.get(below + "sheet.html").decode()
    assert all(f"../../../000{row}-" in page for row in range(3))
    assert job.xcoms["wan_sheet_uri"].endswith("sheet.html")
    assert job.xcoms["wan_ledger_uri"] == folder.uri("clips/_ledger")
    (event,) = job.outlet_events.values()
    extra: Any = event.extra["wan"]
    assert extra["archived"] == 3
    assert result["folder"] == folder.uri(below)


def test_an_alias_among_the_outlets_gets_an_event_with_the_rendered_prefix(
    folder: Folder, sandbox: SandboxServer
) -> None:
    alias = AssetAlias("clips of the day")
    job = BatchTask(folder, {"manifest": upload(folder, 1), "outlets": [alias]})

    job.try_()

    (event,) = job.outlet_events[alias].asset_alias_events
    assert event.dest_asset_key.uri.rstrip("/") == folder.uri("clips")
    extra: Any = event.extra["wan"]
    assert extra["archived"] == 1


def test_openlineage_names_inputs_and_outputs(folder: Folder, sandbox: SandboxServer) -> None:
    rows = manifest(folder, [{"image": uri} for uri in upload(folder, 1)])
    job = BatchTask(folder, {"manifest": rows})
    result = job.try_()

    lineage = DefaultExtractor(job.last).extract_on_complete(job.context()["ti"])

    assert lineage is not None
    names = [[f"{each.namespace}/{each.name}" for each in side] for side in (lineage.inputs, lineage.outputs)]
    assert names == [[rows], [folder.uri("clips"), result["results"]]]
