# SPDX-License-Identifier: Apache-2.0
"""Clips that the ledger says are archived, and that were deleted, replaced or can't be looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.api.errors import WanError, WanResultGoneError, WanResultMismatchError
from airflow_provider_wan.ledger import LedgerEntry, open_store
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
from dev.seaweed import SeaweedFS
from dev.testkit.batch_runs import BatchTask, upload
from dev.testkit.clip_task import ClipTask
from dev.testkit.delivery import check_delivered
from dev.testkit.media_files import picture, video
from dev.testkit.s3_folder import BUCKET, Folder
from dev.testkit.s3_proxy import S3Proxy


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    monkeypatch.setattr("airflow_provider_wan.transfers.wan_to_s3.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("airflow_provider_wan.media.archive._LONGEST_PAUSE", 0.01)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"file://{tmp_path}/ledger"


@pytest.fixture
def image_url(folder: Folder) -> str:
    folder.put("in.jpg", picture(480, 640))
    url: str = folder.client.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": folder.key("in.jpg")}
    )
    return url


@pytest.fixture
def chain(folder: Folder, sandbox: SandboxServer, ledger: str, image_url: str) -> Chain:
    return Chain(folder, ledger, image_url)


class Chain:
    """A Dag of WanI2VOperator and WanToS3Operator, whose clips all runs share."""

    def __init__(self, folder: Folder, ledger: str, image_url: str) -> None:
        self.folder = folder
        self.ledger = ledger
        self._given = {
            "img_url": image_url,
            "prompt": "The tide comes in",
            "resolution": "720P",
            "poll_interval": 0.05,
            "ledger_uri": ledger,
            "reuse": "content",
            "deferrable": False,
        }

    def make(self, run_id: str, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = ClipTask(WanI2VOperator, self._given, run_id).run(**arguments)
        return result

    def archive(self, made: Any, name: str) -> dict[str, Any]:
        operator = WanToS3Operator(task_id="archive", request_id=made, s3_key=self.folder.uri(name))
        result: dict[str, Any] = operator.execute({"outlet_events": OutletEventAccessors()})
        return result

    def entry(self, made: dict[str, Any]) -> LedgerEntry:
        return read_entry(self.ledger, made["fingerprint"])


def read_entry(ledger: str, fingerprint: str) -> LedgerEntry:
    stored = open_store(ledger).read(fingerprint)
    assert stored is not None
    return stored.entry


def delete(folder: Folder, *names: str) -> None:
    for name in names:
        folder.client.delete_object(Bucket=BUCKET, Key=folder.key(name))


class TestChained:
    """WanI2VOperator and WanToS3Operator."""

    def test_a_clip_that_is_there_is_handed_out(self, chain: Chain, sandbox: SandboxServer) -> None:
        first = chain.archive(chain.make("run-1"), "a.mp4")

        again = chain.make("run-2")

        assert (again["archive_uri"], again["video_url"], again["cost"]) == (first["uri"], None, 0.0)

    @pytest.mark.parametrize("is_replaced", [False, True], ids=["deleted", "replaced by another video"])
    def test_a_missing_clip_is_archived_anew_and_the_ledger_names_the_new_address(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer, is_replaced: bool
    ) -> None:
        chain.archive(chain.make("run-1"), "a.mp4")
        delete(folder, "a.mp4", "a.json")
        if is_replaced:
            folder.put("a.mp4", video(1))

        made = chain.make("run-2")
        archived = chain.archive(made, "b.mp4")

        assert made["archive_uri"] is None
        assert made["video_url"]
        assert chain.entry(made).archive_uri == archived["uri"] == folder.uri("b.mp4")
        assert chain.make("run-3")["archive_uri"] == folder.uri("b.mp4")
        check_delivered(sandbox, folder, archived["uri"], prompt="The tide comes in", resolution="720P")
        assert len(sandbox.charges()) == 1

    def test_a_missing_clip_whose_archive_task_alone_is_cleared_is_archived_anew(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer
    ) -> None:
        made = chain.make("run-1")
        chain.archive(made, "a.mp4")
        again = chain.make("run-2")
        delete(folder, "a.mp4", "a.json")

        chain.archive(again, "b.mp4")

        assert chain.entry(made).archive_uri == folder.uri("b.mp4")

    def test_an_address_that_is_alive_stays(self, chain: Chain, folder: Folder) -> None:
        made = chain.make("run-1")
        chain.archive(made, "a.mp4")

        chain.archive(chain.make("run-2"), "b.mp4")

        assert chain.entry(made).archive_uri == folder.uri("a.mp4")

    def test_a_clip_that_was_moved_since_the_upstream_task_ran_is_found_by_the_ledger(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer
    ) -> None:
        chain.archive(chain.make("run-1"), "a.mp4")
        upstream = chain.make("run-2")
        delete(folder, "a.mp4", "a.json")
        chain.archive(chain.make("run-3"), "b.mp4")
        sandbox.call(lambda core: core.reset())

        assert chain.archive(upstream, "c.mp4")["uri"] == folder.uri("c.mp4")

    @pytest.mark.parametrize("is_forgotten", [True, False], ids=["unknown request", "result gone"])
    def test_a_clip_that_nobody_has_any_more_is_an_error_that_says_what_was_lost(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer, is_forgotten: bool
    ) -> None:
        made = chain.make("run-1")
        chain.archive(made, "a.mp4")
        upstream = chain.make("run-2")
        delete(folder, "a.mp4", "a.json")
        if is_forgotten:
            sandbox.call(lambda core: core.reset())
        else:
            sandbox.inject("result_404", count=None)

        for attempt in (lambda: chain.make("run-3"), lambda: chain.archive(upstream, "b.mp4")):
            with pytest.raises(WanResultGoneError) as caught:
                attempt()
            for words in (
                "is lost",
                "was paid for ($0.50)",
                folder.uri("a.mp4"),
                "Nothing was paid now",
                "idempotency",
            ):
                assert words in str(caught.value)
        assert len(sandbox.accepted()) == (0 if is_forgotten else 1)
        assert chain.entry(made).archive_uri == folder.uri("a.mp4")

    def test_a_store_that_refuses_to_say_is_no_deletion(
        self,
        chain: Chain,
        folder: Folder,
        seaweed: SeaweedFS,
        sandbox: SandboxServer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        made = chain.make("run-1")
        chain.archive(made, "a.mp4")
        delete(folder, "a.mp4", "a.json")
        with S3Proxy(seaweed.port, may_list=False) as proxy:
            connection = json.loads(seaweed.airflow_connection())
            connection["extra"] = {**connection["extra"], "endpoint_url": proxy.url}
            monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
            again = chain.make("run-2")

        assert again["archive_uri"] == folder.uri("a.mp4")
        assert "s3:ListBucket" in caplog.text + capsys.readouterr().out
        assert chain.entry(made).archive_uri == folder.uri("a.mp4")

    def test_a_key_that_another_clip_has_does_not_lose_this_one(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer
    ) -> None:
        chain.archive(chain.make("run-1"), "a.mp4")
        other = chain.make("run-2", prompt="Another one")

        for _ in range(2):
            with pytest.raises(AirflowFailException, match=rf"holds the clip of request.*-{other['request_id']}.mp4"):
                chain.archive(other, "a.mp4")

        own_uri = chain.entry(other).archive_uri
        assert own_uri == folder.uri(f"a-{other['request_id']}.mp4")
        check_delivered(sandbox, folder, own_uri, prompt="Another one")
        assert chain.make("run-3", prompt="Another one")["archive_uri"] == own_uri

    def test_a_clip_that_is_not_the_one_that_was_asked_for_is_kept_and_never_handed_out(
        self, chain: Chain, folder: Folder, sandbox: SandboxServer
    ) -> None:
        made = chain.make("run-1")
        asked = made | {"resolution": "1080P"}
        del asked["fingerprint"]

        with pytest.raises(AirflowFailException, match=r"not the one that was asked for.*1080P was asked for"):
            chain.archive(asked, "a.mp4")

        assert folder.names() == [f"a-{made['request_id']}.json", f"a-{made['request_id']}.mp4", "in.jpg"]


class TestOneTask:
    """WanImageToVideoOperator."""

    @pytest.fixture
    def task(self, folder: Folder, sandbox: SandboxServer, ledger: str) -> ClipTask:
        given = {
            "source": folder.put("in.png", picture(640, 480, "PNG")),
            "target": folder.uri("clips/a.mp4"),
            "prompt": "The tide comes in",
            "resolution": "720P",
            "poll_interval": 0.05,
            "ledger_uri": ledger,
            "reuse": "content",
            "deferrable": True,
        }
        return ClipTask(WanImageToVideoOperator, given)

    @pytest.mark.parametrize("target", ["clips/a.mp4", "clips/b.mp4"])
    def test_a_deleted_clip_is_archived_anew(
        self, task: ClipTask, folder: Folder, sandbox: SandboxServer, ledger: str, target: str
    ) -> None:
        task.run()
        delete(folder, "clips/a.mp4", "clips/a.json")

        result = task.run(target=folder.uri(target))

        assert (result["uri"], result["existing"]) == (folder.uri(target), False)
        assert read_entry(ledger, result["fingerprint"]).archive_uri == folder.uri(target)
        check_delivered(sandbox, folder, result["uri"], prompt="The tide comes in")
        assert len(sandbox.charges()) == 1

    def test_a_copy_at_the_target_is_enough_and_mends_the_ledger(
        self, task: ClipTask, folder: Folder, sandbox: SandboxServer, ledger: str
    ) -> None:
        task.run()
        task.run(target=folder.uri("clips/b.mp4"))
        delete(folder, "clips/a.mp4", "clips/a.json")
        sandbox.call(lambda core: core.reset())

        result = task.run(target=folder.uri("clips/b.mp4"))

        assert (result["uri"], result["existing"]) == (folder.uri("clips/b.mp4"), True)
        assert read_entry(ledger, result["fingerprint"]).archive_uri == folder.uri("clips/b.mp4")

    def test_a_clip_that_nobody_has_any_more_is_lost_and_not_paid_for_again(
        self, task: ClipTask, folder: Folder, sandbox: SandboxServer
    ) -> None:
        task.run()
        delete(folder, "clips/a.mp4", "clips/a.json")
        sandbox.call(lambda core: core.reset())

        with pytest.raises(WanResultGoneError, match=r"is lost.*was paid for"):
            task.run()
        assert sandbox.accepted() == []

    def test_a_target_that_is_taken_while_the_clip_is_made_does_not_lose_it(
        self, task: ClipTask, folder: Folder, sandbox: SandboxServer, ledger: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wait = WanImageToVideoOperator._wait_for_result

        def be_overtaken(operator: Any, *given: Any) -> Any:
            folder.put("clips/a.mp4", b"somebody else's")
            return wait(operator, *given)

        monkeypatch.setattr(WanImageToVideoOperator, "_wait_for_result", be_overtaken)
        with pytest.raises(
            AirflowFailException, match=r"holds an object of another origin.*is paid for: it is at s3://"
        ):
            task.run()

        (stored,) = open_store(ledger).entries()
        assert stored.entry.archive_uri == folder.uri(f"clips/a-{stored.entry.request_id}.mp4")
        check_delivered(sandbox, folder, stored.entry.archive_uri, prompt="The tide comes in")
        assert folder.get("clips/a.mp4") == b"somebody else's"


class TestBatch:
    """WanI2VBatchOperator."""

    def clip_name(self, row: dict[str, Any], folder: Folder) -> str:
        name: str = row["archive_uri"].removeprefix(folder.uri())
        return name

    def test_a_retry_archives_anew_what_was_deleted_since_the_first_try(
        self, folder: Folder, sandbox: SandboxServer
    ) -> None:
        images = upload(folder, 3)
        job = BatchTask(folder, {"manifest": [*images, folder.uri("no-such.jpg")]})
        with pytest.raises(WanError):
            job.try_()
        (first, second, third) = (self.clip_name(row, folder) for row in job.rows()[:3])
        delete(folder, first, first.replace(".mp4", ".json"))
        folder.put(second, video(1))

        with pytest.raises(WanError):
            job.try_()

        rows = job.rows()
        assert [row["status"] for row in rows] == ["archived"] * 3 + ["rejected"]
        for row, image in zip(rows, images, strict=False):
            assert image.rpartition("/")[2].removesuffix(".jpg") in row["archive_uri"]
            if row is not rows[1]:
                check_delivered(sandbox, folder, row["archive_uri"], resolution="720P", duration=5)
        # The foreign video stays, and the clip is beside it.
        assert self.clip_name(rows[1], folder) == second.replace(".mp4", f"-{rows[1]['request_id']}.mp4")
        assert "another origin" in rows[1]["note"]
        check_delivered(sandbox, folder, rows[1]["archive_uri"], resolution="720P")
        assert folder.head(third)["ContentLength"] > 0
        assert len(sandbox.charges()) == 3

    @pytest.mark.parametrize("is_forgotten", [False, True])
    def test_another_runs_clip_that_was_deleted_is_archived_anew_or_lost(
        self, folder: Folder, sandbox: SandboxServer, ledger: str, is_forgotten: bool
    ) -> None:
        given = {"manifest": upload(folder, 2), "reuse": "content", "ledger_uri": ledger}
        job = BatchTask(folder, given)
        job.try_()
        clip = self.clip_name(job.rows()[0], folder)
        delete(folder, clip, clip.replace(".mp4", ".json"))
        if is_forgotten:
            sandbox.call(lambda core: core.reset())
        other = BatchTask(folder, given, run_id="other__1")

        if is_forgotten:
            with pytest.raises(WanError, match="1 of 2 rows"):
                other.try_(output_prefix=folder.uri("others/"))
            row = other.rows()[0]
            assert row["status"] == "lost"
            assert "is lost: request" in row["error"]
            assert "idempotency_key" in row["error"], row["error"]
            assert sandbox.accepted() == []
            return
        result = other.try_(output_prefix=folder.uri("others/"))
        row = other.rows()[0]
        assert (result["archived"], result["reused"], result["cost"]) == (2, 2, 0.0)
        assert read_entry(ledger, row["fingerprint"]).archive_uri == row["archive_uri"]
        check_delivered(sandbox, folder, row["archive_uri"], resolution="720P")
        assert len(sandbox.charges()) == 2

    def test_of_two_batches_with_one_name_both_keep_their_clip(
        self, folder: Folder, sandbox: SandboxServer, ledger: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Both have paid before either archives.
        monkeypatch.setattr("airflow_provider_wan.batch.archiver.Archiver.check_free", lambda *_: None)
        jobs = [
            BatchTask(
                folder,
                {"manifest": [{"image": image, "name": "tom", "prompt": f"p{number}"}], "ledger_uri": ledger},
                f"run{number}__1",
            )
            for number, image in enumerate(upload(folder, 2))
        ]

        results = [job.try_() for job in jobs]

        rows = [job.rows()[0] for job in jobs]
        assert [result["archived"] for result in results] == [1, 1]
        assert rows[0]["archive_uri"] == folder.uri("clips/tom.mp4")
        assert rows[1]["archive_uri"] == folder.uri(f"clips/tom-{rows[1]['request_id']}.mp4")
        assert f"holds the clip of request {rows[0]['request_id']}" in rows[1]["note"]
        for number, row in enumerate(rows):
            assert read_entry(ledger, row["fingerprint"]).archive_uri == row["archive_uri"]
            check_delivered(sandbox, folder, row["archive_uri"], prompt=f"p{number}")
        assert len(sandbox.charges()) == 2


def test_a_mismatch_is_no_success_for_a_task_that_is_given_the_clip(chain: Chain, folder: Folder) -> None:
    made = chain.make("run-1")
    archived = chain.archive(made, "a.mp4")
    record = json.loads(folder.get("a.json"))
    folder.put("a.json", json.dumps(record | {"deviations": ["it has 64x64 pixels"]}).encode())

    with pytest.raises(AirflowFailException, match=rf"{WanResultMismatchError.__name__}|64x64"):
        chain.make("run-2")
    assert archived["uri"] == folder.uri("a.mp4")
