# SPDX-License-Identifier: Apache-2.0
"""The operator against a sandbox over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_wan.api import errors
from airflow_provider_wan.hooks.wan import WanHook
from airflow_provider_wan.ledger import LedgerUnavailableError, open_store
from airflow_provider_wan.ledger.entry import record_duplicate
from airflow_provider_wan.operators.ledger_context import build_owner
from airflow_provider_wan.operators.wan import WanI2VOperator, check_max_cost
from dev.testkit.ledger import NOW, a_claim
from dev.testkit.media_files import mp3, picture
from dev.testkit.web_server import WebServer
from tests.unit.operators.conftest import IMAGE

PROMPT = "a cat that nobody else may read of"


def posts(api: Any) -> Any:
    return [call for call in api.journal() if call["method"] == "POST"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_clip_is_made_and_its_result_is_plain(run: Any, api: Any, deferrable: bool) -> None:
    result = run.try_(prompt=PROMPT, deferrable=deferrable)
    assert len(run.deferrals) == int(deferrable)
    (accepted,) = api.accepted()
    assert result["request_id"] == accepted["request_id"]
    assert result["status"] == "success"
    assert result["video_url"].startswith(api.result_url)
    assert (result["seconds"], result["resolution"], result["cost"]) == (5, "720P", 0.5)
    assert len(result["fingerprint"]) == 64
    assert json.loads(json.dumps(result)) == result


def test_every_payload_field_reaches_the_api(run: Any, api: Any) -> None:
    sent = {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "audio_url": "https://audio.example.com/a.mp3",
        "resolution": "1080P",
        "duration": 10,
        "prompt_extend": False,
        "shot_type": "multi",
        "audio": False,
        "watermark": True,
        "seed": 7,
    }
    run.try_(**sent)
    (accepted,) = api.accepted()
    job = api.call(lambda core: core.jobs.get(accepted["request_id"]))
    assert dict(job.payload) == {"img_url": "https://images.example.com/cat.jpg", **sent}


def test_every_payload_field_is_a_template() -> None:
    from airflow_provider_wan.api.request import I2VRequest

    assert {field.name for field in fields(I2VRequest)} <= set(WanI2VOperator.template_fields)


def test_neither_arguments_nor_event_of_the_trigger_contain_prompt_or_urls(run: Any) -> None:
    run.try_(prompt=PROMPT, img_url="https://images.example.com/cat.jpg?X-Amz-Signature=c0ffee")
    stored = json.dumps([run.deferrals[0].trigger.serialize(), run.events])
    assert PROMPT not in stored
    assert "://" not in stored
    assert "c0ffee" not in stored


def test_no_address_of_the_api_is_stored_for_a_link(run: Any, api: Any) -> None:
    run.try_()
    assert run.xcoms == {"wan_ledger_uri": run.ledger}


def test_only_a_ledger_that_is_not_the_deployments_is_named_to_the_gallery(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WAN__LEDGER_URI", run.ledger)
    run.try_(ledger_uri=None)
    assert run.xcoms == {}


def test_airflow_s_own_time_out_comes_a_little_later_than_the_trigger_s(run: Any) -> None:
    run.try_(timeout=timedelta(minutes=10))
    (deferred,) = run.deferrals
    assert 890 <= deferred.timeout.total_seconds() <= 900
    assert 590 <= deferred.trigger.end_time - time.time() <= 600


def test_what_is_finished_at_once_is_not_deferred(run: Any, api: Any) -> None:
    api.inject("immediate_success")
    assert run.try_()["status"] == "success"
    assert run.deferrals == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "x" * 1501),
        ("negative_prompt", "x" * 501),
        ("duration", "5.5"),
        ("duration", 7),
        ("resolution", "4K"),
        ("seed", -1),
        ("seed", 2**31),
        ("shot_type", "dual"),
        ("img_url", ""),
        ("img_url", None),
        ("img_url", "ftp://example.com/cat.jpg"),
        ("img_url", {"uri": "s3://bucket/cat.jpg"}),
        ("reuse", "forever"),
    ],
)
def test_bad_input_fails_for_good_and_before_anything_is_sent(run: Any, api: Any, field: str, value: Any) -> None:
    with pytest.raises(AirflowFailException, match=f"{field}="):
        run.try_(**{field: value})
    assert posts(api) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("cancel_policy", "maybe"), ("on_doubt", "guess"), ("timeout", 0), ("timeout", "1h"), ("poll_interval", -1)],
)
def test_a_bad_option_fails_where_the_dag_is_parsed(run: Any, field: str, value: int | str) -> None:
    with pytest.raises(errors.WanValidationError, match=f"{field}="):
        run.operator(**{field: value})


def test_the_result_of_an_ingest_is_taken_as_it_is(run: Any, api: Any) -> None:
    ingest = {"url": "https://s3.example.com/a.jpg?sig=1", "sha256": "a" * 64, "expires_at": time.time() + 3600}
    first = run.try_(img_url=ingest)
    again = run.try_(img_url={**ingest, "url": "https://s3.example.com/other.jpg?sig=2"})
    assert first["request_id"] == again["request_id"]
    assert len(posts(api)) == 1


def test_an_image_whose_presigned_url_dies_before_the_service_can_fetch_it_is_not_paid_for(run: Any, api: Any) -> None:
    stale = {"url": "https://s3.example.com/a.jpg?sig=1", "sha256": "a" * 64, "expires_at": time.time() - 5}
    with pytest.raises(AirflowFailException, match="Clear the ingest task"):
        run.try_(img_url=stale)
    assert posts(api) == []


def test_a_stale_url_does_not_keep_a_paid_clip_from_being_picked_up(run: Any, api: Any) -> None:
    fresh = {"url": "https://s3.example.com/a.jpg?sig=1", "sha256": "a" * 64, "expires_at": time.time() + 3600}
    first = run.try_(img_url=fresh)
    assert run.try_(img_url={**fresh, "expires_at": 0.0})["request_id"] == first["request_id"]


def test_a_query_string_is_masked_before_the_rendered_fields_are_shown(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_wan.operators import wan as module

    masked: list[Any] = []
    monkeypatch.setattr(module, "mask_secret", masked.append)
    operator = run.operator(
        img_url={"url": "https://s3.example.com/a.jpg?X-Amz-Signature=c0ffee"},
        audio_url="https://a.example.com/b.mp3?t=1",
    )
    operator.render_template_fields({})
    assert masked == ["X-Amz-Signature=c0ffee", "t=1"]


class TestMoney:
    """What is paid across tries, clears and runs. The ledger's tests cover each crash."""

    def test_a_clear_after_a_success_pays_nothing_and_gives_the_same_clip(self, run: Any, api: Any) -> None:
        assert run.try_()["request_id"] == run.try_()["request_id"]
        assert len(posts(api)) == 1

    def test_a_retry_after_a_crash_between_the_payment_and_the_deferral_picks_the_request_up(
        self, run: Any, api: Any
    ) -> None:
        with pytest.raises(TaskDeferred):
            run.operator().execute(run.context())
        assert run.try_()["status"] == "success"
        assert len(posts(api)) == 1

    def test_a_lost_answer_is_found_in_the_list(self, run: Any, api: Any) -> None:
        api.inject("reset_after_accept")
        result = run.try_()
        assert len(posts(api)) == 1
        assert result["request_id"] == api.accepted()[0]["request_id"]

    def test_the_trigger_is_built_and_serialized_before_the_payment(
        self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_provider_wan.triggers.wan import WanI2VTrigger

        def broken(self: Any) -> None:
            raise TypeError("not serializable")

        monkeypatch.setattr(WanI2VTrigger, "serialize", broken)
        with pytest.raises(TypeError):
            run.try_()
        assert posts(api) == []

    def test_a_run_of_its_own_pays_for_itself_and_the_same_content_does_not_where_it_is_shared(
        self, run: Any, api: Any
    ) -> None:
        other = replace(run, run_id="run-2", xcoms={}, deferrals=[], events=[])
        run.try_()
        other.try_()
        assert len(posts(api)) == 2
        first = run.try_(reuse="content")
        assert other.try_(reuse="content")["request_id"] == first["request_id"]
        assert len(posts(api)) == 3

    def test_a_new_idempotency_key_makes_exactly_one_new_clip(self, run: Any, api: Any) -> None:
        first = run.try_()
        again = run.try_(idempotency_key="take 2")
        assert again["request_id"] != first["request_id"]
        assert run.try_(idempotency_key="take 2")["request_id"] == again["request_id"]
        assert run.try_()["request_id"] == first["request_id"]
        assert len(posts(api)) == 2

    def test_with_shared_content_a_key_of_the_run_makes_one_new_clip_a_run(self, run: Any, api: Any) -> None:
        other = replace(run, run_id="run-2", xcoms={}, deferrals=[], events=[])
        made = [
            each.try_(reuse="content", idempotency_key=each.run_id)["request_id"] for each in (run, other, run, other)
        ]
        assert (made[0], made[1]) == (made[2], made[3])
        assert len(posts(api)) == len(set(made)) == 2

    @pytest.mark.parametrize("key", [None, "", "None", " "])
    def test_a_template_that_renders_to_nothing_makes_nothing_new(self, run: Any, api: Any, key: Any) -> None:
        run.try_()
        run.try_(idempotency_key=key)
        assert len(posts(api)) == 1

    @pytest.mark.parametrize("key", [True, False, "True", ["a"]])
    def test_a_key_that_names_no_clip_is_refused_before_anything_is_paid(self, run: Any, api: Any, key: Any) -> None:
        with pytest.raises(AirflowFailException, match=r"idempotency_key=.*names the clip"):
            run.try_(idempotency_key=key)
        assert posts(api) == []

    @pytest.mark.parametrize("reuse", ["run", "content"])
    def test_map_indexes_that_shift_make_no_new_clip(self, run: Any, api: Any, reuse: str) -> None:
        images = [f"https://images.example.com/{name}.jpg" for name in ("ant", "bee", "cow")]
        made: dict[str, set[str]] = {}
        # The upstream task was cleared, and expands to the same images in another order with one more in front.
        for listed in (images, ["https://images.example.com/new.jpg", *reversed(images)]):
            for index, image in enumerate(listed):
                task = replace(run, map_index=index, try_number=0, xcoms={}, deferrals=[], events=[])
                made.setdefault(image, set()).add(task.try_(img_url=image, reuse=reuse)["request_id"])
        assert {image: len(ids) for image, ids in made.items()} == dict.fromkeys(made, 1)
        assert len(posts(api)) == 4

    def test_each_iteration_of_a_loop_makes_its_own_clip_with_a_key_of_its_index(self, run: Any, api: Any) -> None:
        region = UUID("12345678-1234-5678-1234-567812345678")
        made = []
        for index in (0, 1, 1, 2):
            task = replace(run, region=(region, index), try_number=0, xcoms={}, deferrals=[], events=[])
            made.append(task.try_(idempotency_key=str(index))["request_id"])
        assert made[1] == made[2]
        assert len(posts(api)) == len(set(made)) == 3

    def test_iterations_of_a_loop_without_a_key_share_the_clip_of_one_image(self, run: Any, api: Any) -> None:
        region = UUID("12345678-1234-5678-1234-567812345678")
        made = {replace(run, region=(region, index), try_number=0).try_()["request_id"] for index in range(3)}
        assert len(posts(api)) == len(made) == 1

    def test_two_iterations_of_a_loop_are_two_owners(self, run: Any) -> None:
        region = UUID("12345678-1234-5678-1234-567812345678")
        owners = {build_owner(replace(run, region=(region, index)).context()).task for index in range(2)}
        assert len(owners) == 2

    def test_a_reused_clip_costs_nothing_now_and_its_cost_is_that_of_the_payment(
        self, run: Any, api: Any, connection: Any
    ) -> None:
        other = replace(run, run_id="run-2", xcoms={}, deferrals=[], events=[])
        paid = run.try_(reuse="content")
        connection(api.base_url, extra={"prices": {"720P": 9.0}})
        again = run.try_(reuse="content")
        reused = [other.try_(reuse="content") for _ in range(2)]
        costs = [(each["cost"], each["cost_at_payment"], each["reused"]) for each in (paid, again, *reused)]
        assert costs == [(0.5, 0.5, False), (0.5, 0.5, False), (0.0, 0.5, True), (0.0, 0.5, True)]

    def test_the_ledger_counts_each_task_that_was_given_a_clip_once(self, run: Any, api: Any) -> None:
        paid = run.try_(reuse="content")
        for number in (2, 2, 3):
            replace(run, run_id=f"run-{number}", xcoms={}, deferrals=[], events=[]).try_(reuse="content")
        entry = open_store(run.ledger).read(paid["fingerprint"]).entry
        assert (entry.reuse_count, [each.run_id for each in entry.reuses]) == (2, ["run-2", "run-3"])
        assert (entry.dag_id, entry.run_id, entry.task_id, entry.source_uri) == ("dag", "run-1", "generate", IMAGE)

    def test_duplicate_charges_of_a_clip_count_against_its_limit(self) -> None:
        charged_once = record_duplicate(a_claim(), "r9", 7, NOW)
        check_max_cost(charged_once, 1.0)
        check_max_cost(a_claim(), 0.5)
        check_max_cost(charged_once, None)
        with pytest.raises(errors.WanBudgetError, match=r"\$0.50 of it is spent on duplicate charges"):
            check_max_cost(charged_once, 0.9)

    @pytest.mark.parametrize("budget", ["cheap", -1, float("nan"), True, []])
    def test_a_budget_that_is_no_amount_is_refused(self, run: Any, api: Any, budget: Any) -> None:
        with pytest.raises(AirflowFailException, match="max_cost="):
            run.try_(max_cost=budget)
        assert posts(api) == []

    def test_a_budget_may_come_out_of_a_template(self, run: Any, api: Any) -> None:
        with pytest.raises(AirflowFailException, match=r"max_cost=\$0.40"):
            run.try_(max_cost="0.4")
        run.try_(max_cost="None")
        assert len(posts(api)) == 1

    def test_a_failure_for_good_is_not_paid_for_again(self, run: Any, api: Any) -> None:
        api.inject("never_runs")
        with pytest.raises(errors.WanClipTimeoutError):
            run.try_(timeout=0.3)
        api.finish(api.accepted()[0]["request_id"], "failed", "data_inspection_failed: inappropriate content")
        for _ in range(2):
            with pytest.raises(AirflowFailException, match="inappropriate content"):
                run.try_()
        assert len(posts(api)) == 1

    def test_a_passing_failure_is_retried_with_a_new_request(self, run: Any, api: Any) -> None:
        api.inject("rate_limit_record")
        with pytest.raises(errors.WanClipFailedError, match="rate limit"):
            run.try_()
        assert run.try_()["status"] == "success"
        assert len(posts(api)) == 2
        assert len(api.charges()) == 1

    def test_a_cancelled_request_is_retried_with_a_new_one(self, run: Any, api: Any) -> None:
        api.inject("cancelled")
        with pytest.raises(errors.WanClipCancelledError):
            run.try_()
        assert run.try_()["status"] == "success"

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_time_out_leaves_the_clip_to_the_next_try(self, run: Any, api: Any, deferrable: bool) -> None:
        api.inject("never_runs")
        with pytest.raises(errors.WanClipTimeoutError, match="pays nothing"):
            run.try_(timeout=0.5, deferrable=deferrable)
        api.finish(api.accepted()[0]["request_id"])
        assert run.try_(deferrable=deferrable)["status"] == "success"
        assert len(posts(api)) == 1

    def test_a_clip_beyond_the_budget_is_not_paid_for(self, run: Any, api: Any) -> None:
        with pytest.raises(AirflowFailException, match=r"max_cost=\$0.40"):
            run.try_(max_cost=0.4)
        assert posts(api) == []
        assert run.try_(max_cost=0.5)["cost"] == 0.5

    @pytest.mark.parametrize(
        ("fault", "words"),
        [("no_credit_402", "no credit"), ("bad_key_401", "key is rejected"), ("no_model_404", "404")],
    )
    def test_a_refusal_that_needs_a_person_is_not_retried_and_nothing_is_paid(
        self, run: Any, api: Any, fault: str, words: str
    ) -> None:
        api.inject(fault)
        with pytest.raises(AirflowFailException, match=words):
            run.try_()
        assert api.accepted() == []
        assert run.try_()["status"] == "success"

    def test_a_doubt_stops_the_task_where_that_is_wished(self, run: Any, api: Any) -> None:
        api.inject("reset_after_accept")
        with pytest.raises(errors.WanInDoubtError, match="seed"):
            run.try_(on_doubt="fail")
        assert run.try_()["status"] == "success"
        assert len(posts(api)) == 1


class TestKill:
    """The worker's side: where the task waits in the worker."""

    def kill_while_it_is(self, status: Any, run: Any, api: Any, monkeypatch: Any, **arguments: Any) -> Any:
        """Return the number of cancellations."""
        operator = run.operator(deferrable=False, **arguments)

        def kill() -> None:
            request_id = api.accepted()[0]["request_id"]
            while operator.hook.get_request(request_id).status_text != status:
                time.sleep(0.01)
            operator.on_kill()
            raise KeyboardInterrupt

        async def killed() -> None:
            kill()

        # A signal's handler runs in this thread, in the middle of the event loop that waits. An exception that a real
        # handler raises may land in any callback, and be lost there.
        monkeypatch.setattr(WanHook, "wait_sync", lambda *_: asyncio.run(killed()))
        with pytest.raises(KeyboardInterrupt):
            operator.execute(run.context())
        return [call["method"] for call in api.journal()].count("DELETE")

    def test_what_has_not_begun_is_cancelled(self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        api.inject("never_runs")
        assert self.kill_while_it_is("queued", run, api, monkeypatch) == 1

    def test_what_runs_is_left_to_be_picked_up(self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        api.inject("runs_forever")
        assert self.kill_while_it_is("processing", run, api, monkeypatch) == 0

    def test_nothing_is_cancelled_where_the_policy_says_so(
        self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api.inject("never_runs")
        assert self.kill_while_it_is("queued", run, api, monkeypatch, cancel_policy="never") == 0

    def test_a_kill_before_anything_was_submitted_asks_nothing(self, run: Any, api: Any) -> None:
        run.operator().on_kill()
        assert api.journal() == []

    def test_a_clip_that_another_run_has_paid_for_is_not_cancelled(
        self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api.inject("never_runs")
        with pytest.raises(errors.WanClipTimeoutError):
            run.try_(timeout=0.3, reuse="content")
        other = replace(run, run_id="run-2", try_number=0)

        killed = self.kill_while_it_is("queued", other, api, monkeypatch, cancel_policy="always", reuse="content")

        assert killed == 0
        assert len(api.accepted()) == 1


class TestCancelPolicyOfTheTrigger:
    """The triggerer's side: what the trigger may cancel."""

    def defer(self, step: Any) -> TaskDeferred:
        with pytest.raises(TaskDeferred) as deferred:
            step()
        return deferred.value

    def test_the_task_that_paid_may_cancel_and_a_follower_never(self, run: Any, api: Any) -> None:
        follower = replace(run, run_id="run-2")
        api.inject("never_runs")

        for each, policy in ((run, "always"), (follower, "never")):
            operator = each.operator(reuse="content", cancel_policy="always")
            first = self.defer(lambda operator=operator, each=each: operator.execute(each.context()))
            event = {
                "status": "due",
                "request_id": first.trigger.request_id,
                "fingerprint": first.trigger.fingerprint,
                "end_time": first.trigger.end_time,
            }
            resumed = each.operator(reuse="content", cancel_policy="always")
            again = self.defer(
                lambda each=each, event=event, resumed=resumed: resumed.execute_complete(each.context(), event)
            )

            assert [deferred.trigger.cancel_policy.value for deferred in (first, again)] == [policy, policy]
        assert len(api.accepted()) == 1

    def test_a_ledger_that_does_not_answer_means_that_nothing_is_cancelled(
        self, run: Any, api: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Any:
            raise LedgerUnavailableError("away")

        operator = run.operator()
        assert not operator._is_own_clip(run.context(), None)
        monkeypatch.setattr("airflow_provider_wan.ledger.stores.file.FileStore.read", fail)
        assert not operator._is_own_clip(run.context(), "0" * 64)


# --- URLs that the API is to fetch -----------------------------------------------------------------
def test_a_share_page_is_refused_before_the_payment(run: Any, api: Any, web_server: WebServer) -> None:
    page = web_server.add("/photo", b"<html>a page</html>", Content_Type="text/html")

    with pytest.raises(AirflowFailException, match=r"img_url=.*is a web page"):
        run.try_(img_url=page, probe_urls=True)

    assert posts(api) == []
    assert open_store(run.ledger).read("0" * 64) is None
    assert list(open_store(run.ledger).entries()) == []


def test_a_url_is_probed_once_and_only_before_a_payment(run: Any, api: Any, web_server: WebServer) -> None:
    image, sound = web_server.add("/a.jpg", picture()), web_server.add("/a.mp3", mp3(4))
    first = run.try_(img_url=image, audio_url=sound, probe_urls=True)
    web_server.pages.clear()  # as an expired link

    again = run.try_(img_url=image, audio_url=sound, probe_urls=True)

    assert [each.path for each in web_server.asked] == ["/a.mp3", "/a.jpg"]
    assert again["request_id"] == first["request_id"]


def test_frames_of_other_models_are_probed(run: Any, api: Any, web_server: WebServer) -> None:
    image = web_server.add("/a.jpg", picture())
    arguments = {"img_url": image, "model": "wan2.7-i2v", "probe_urls": True}
    with pytest.raises(AirflowFailException, match=r"last_frame=.*300×400 pixels"):
        run.try_(**arguments, last_frame=web_server.add("/b.jpg", picture(300, 400)))
    with pytest.raises(AirflowFailException, match=r"first_clip=.*must be a video"):
        run.try_(**arguments, first_clip=image)
    assert posts(api) == []


def test_what_an_ingest_has_read_is_not_read_again(run: Any, api: Any, web_server: WebServer) -> None:
    ingest = {"url": web_server.url("/gone"), "sha256": "ab" * 32, "expires_at": time.time() + 3600}
    assert run.try_(img_url=ingest, probe_urls=True)["request_id"]
    assert web_server.asked == []


def test_a_host_that_can_not_be_reached_is_left_to_a_retry(run: Any, api: Any) -> None:
    with pytest.raises(errors.WanUrlProbeError, match="probe_urls=False"):
        run.try_(img_url="http://127.0.0.1:1/a.jpg", probe_urls=True)
    assert posts(api) == []


def test_a_switch_is_no_text() -> None:
    with pytest.raises(errors.WanValidationError, match="probe_urls='no'"):
        WanI2VOperator(task_id="t", img_url=IMAGE, probe_urls="no")
