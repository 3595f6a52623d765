# SPDX-License-Identifier: Apache-2.0
"""Models and their payloads: what is rejected before payment, and what reaches the API."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from airflow.sdk import DAG

from airflow_provider_wan.api import redaction
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.operators.wan import WanRequestOperator
from airflow_provider_wan.sandbox import SandboxServer
from tests.unit.operators.conftest import IMAGE, Run

FRAME = "https://images.example.com/last.jpg"


def sent_payload(api: Any) -> tuple[str, dict[str, Any]]:
    (accepted,) = api.accepted()
    job = api.call(lambda core: core.jobs.get(accepted["request_id"]))
    return job.model, dict(job.payload)


class RawRun(Run):
    """Tries of the operator for any model."""

    def operator(self, **arguments: Any) -> Any:
        given = {"model": "veo3", "poll_interval": 0.05, "ledger_uri": self.ledger, "deferrable": True}
        return WanRequestOperator(task_id=self.task_id, **{**given, **arguments})


@pytest.fixture
def raw(connection: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    with SandboxServer(
        render="none",
        speed=1000,
        run_sigma=0,
        queue_sigma=0,
        api_key="key-0123456789abcdef",
        models=("wan2.6-i2v", "veo3"),
    ) as sandbox:
        connection(sandbox.base_url, extra={"prices": {"veo3": {"720P": 0.4}}})
        yield RawRun(ledger=f"file://{tmp_path}/ledger"), sandbox


@pytest.mark.parametrize("model", ["wan2.6-t2v", "WAN2.6-I2V", "wan-2.6-i2v", "kling-v2"])
def test_an_unknown_model_is_refused_before_anything_is_sent_and_the_remedy_is_named(
    run: Any, api: Any, model: str
) -> None:
    with pytest.raises(AirflowFailException, match="WanRequestOperator"):
        run.try_(model=model)
    assert api.journal() == []


def test_an_unknown_model_of_the_connection_is_refused_too(run: Any, api: Any, connection: Any) -> None:
    connection(api.base_url, extra={"model": "wan2.6-t2v"})
    with pytest.raises(AirflowFailException, match="WanRequestOperator"):
        run.try_()
    assert api.journal() == []


def test_a_second_model_gets_its_own_names_and_nothing_that_it_does_not_know(
    run: Any, api: Any, connection: Any
) -> None:
    connection(api.base_url, extra={"prices": {"wan2.7-i2v": {"720P": 0.2}}})
    result = run.try_(
        model="wan2.7-i2v", duration=7, last_frame=FRAME, first_clip="https://a.example/b.mp4", audio_url=FRAME
    )
    model, payload = sent_payload(api)
    assert model == result["model"] == "wan2.7-i2v"
    assert payload.pop("seed") == result["seed"]
    assert payload == {
        "first_frame": IMAGE,
        "last_frame": FRAME,
        "first_clip": "https://a.example/b.mp4",
        "driving_audio": FRAME,
        "prompt": "",
        "negative_prompt": "",
        "resolution": "720P",
        "duration": 7,
        "prompt_extend": True,
        "watermark": False,
    }
    assert result["cost"] == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"model": "wan2.7-i2v", "shot_type": "multi"}, "shot_type"),
        ({"model": "wan2.7-i2v", "audio": False}, "audio"),
        ({"model": "wan2.7-i2v", "duration": 16}, "duration"),
        ({"last_frame": FRAME}, "last_frame"),
        ({"duration": 7}, "duration"),
    ],
)
def test_what_a_model_does_not_have_is_refused_and_not_paid_for(run: Any, api: Any, arguments: Any, field: str) -> None:
    with pytest.raises(AirflowFailException, match=field):
        run.try_(**arguments)
    assert api.accepted() == []


@pytest.mark.parametrize("native", [True, False])
def test_a_template_without_an_image_is_refused_by_a_model_that_can_do_without_one(
    run: Any, api: Any, native: bool
) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        operator = run.operator(model="wan2.7-i2v", img_url="{{ value }}", last_frame=FRAME, deferrable=False)
    operator.render_template_fields({"value": None})
    with pytest.raises(AirflowFailException, match="first_frame"):
        operator.execute(run.context())
    assert api.accepted() == []


def test_a_model_that_can_do_without_an_image_needs_none(run: Any, api: Any) -> None:
    run.try_(model="wan2.7-i2v", img_url=None, last_frame=FRAME)
    _, payload = sent_payload(api)
    assert (payload["last_frame"], payload.get("first_frame")) == (FRAME, None)


def test_a_price_of_one_model_is_not_taken_for_that_of_another(run: Any, api: Any) -> None:
    with pytest.raises(AirflowFailException, match="no price for wan2"):
        run.try_(model="wan2.7-i2v", max_cost=100)
    assert api.accepted() == []


def test_a_last_frame_makes_it_another_clip(run: Any, api: Any) -> None:
    clips = [run.try_(model="wan2.7-i2v", last_frame=url)["request_id"] for url in (FRAME, FRAME, f"{FRAME}g", None)]
    assert clips[0] == clips[1]
    assert len(set(clips)) == 3


def test_a_raw_payload_reaches_the_api_and_is_paid_for_once(raw: Any) -> None:
    run, api = raw
    payload = {"text": "a cat", "resolution": "720P", "duration": 8, "frames": [FRAME]}
    first, second = (run.try_(payload=payload) for _ in range(2))
    model, sent = sent_payload(api)
    assert model == "veo3"
    assert sent == {**payload, "seed": first["seed"]}
    assert second["request_id"] == first["request_id"]
    assert first["cost"] == pytest.approx(3.2)


def test_a_request_cost_that_is_no_amount_is_refused_by_its_own_name(raw: Any) -> None:
    run, api = raw
    with pytest.raises(AirflowFailException, match="request_cost='much': must be US dollars"):
        run.try_(payload={"text": "a cat"}, request_cost="much")
    assert api.accepted() == []


def test_two_raw_payloads_are_two_clips(raw: Any) -> None:
    run, _ = raw
    made = {run.try_(payload={"text": text, "seed": 1})["request_id"] for text in ("a cat", "a dog")}
    assert len(made) == 2


def test_a_raw_payload_without_a_price_is_not_sent_under_a_limit(raw: Any) -> None:
    run, api = raw
    with pytest.raises(AirflowFailException, match="request_cost"):
        run.try_(payload={"text": "a cat"}, max_cost=1)
    assert api.accepted() == []
    with pytest.raises(AirflowFailException, match="max_cost"):
        run.try_(payload={"text": "a cat"}, max_cost=1, request_cost=1.5)
    assert api.accepted() == []
    assert run.try_(payload={"text": "a cat"}, max_cost=2, request_cost=1.5)["cost"] == 1.5


def test_a_raw_payload_for_a_model_with_known_rules_is_refused(raw: Any) -> None:
    run, api = raw
    with pytest.raises(AirflowFailException, match="WanI2VOperator"):
        run.try_(model="wan2.6-i2v", payload={"img_url": IMAGE})
    assert api.accepted() == []


@pytest.mark.parametrize(
    ("prices", "arguments", "words"),
    [
        ({"720P": 0.001}, {}, r"would cost \$0.50"),
        ({"wan2.6-i2v": {"720P": 0}}, {}, r"would cost \$0.50"),
        ({"wan2.7-i2v": {"720P": 0.001}}, {"model": "wan2.7-i2v"}, r"no price for wan2.7-i2v.*\[wan\] prices"),
        ({"720P": 0.001}, {"prices": {"720P": 0.2}}, r"would cost \$1.00"),
    ],
)
def test_no_price_of_a_connection_lifts_the_limit_of_a_task(
    run: Any, api: Any, connection: Any, prices: Any, arguments: Any, words: str
) -> None:
    connection(api.base_url, extra={"prices": prices})
    with pytest.raises(AirflowFailException, match=words):
        run.try_(max_cost=0.4, **arguments)
    assert api.accepted() == []


def test_no_model_of_a_connection_makes_a_clip_under_a_limit_that_was_set_for_another(
    run: Any, api: Any, connection: Any
) -> None:
    connection(api.base_url, extra={"model": "wan2.7-i2v", "prices": {"wan2.7-i2v": {"720P": 0.001}}})
    with pytest.raises(AirflowFailException, match=r"no price for wan2\.7-i2v"):
        run.try_(max_cost=0.6)
    assert api.accepted() == []


def test_a_task_or_the_deployment_prices_a_second_model(
    run: Any, api: Any, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(api.base_url)
    prices = {"wan2.7-i2v": {"720P": 0.2}}
    assert run.try_(model="wan2.7-i2v", max_cost=1, prices=prices, idempotency_key="a")["cost"] == 1.0
    monkeypatch.setenv("AIRFLOW__WAN__PRICES", json.dumps(prices))
    assert run.try_(model="wan2.7-i2v", max_cost=1, idempotency_key="b")["cost"] == 1.0
    connection(api.base_url, extra={"prices": {"wan2.7-i2v": {"720P": 0.3}}})
    with pytest.raises(AirflowFailException, match=r"would cost \$1.50"):
        run.try_(model="wan2.7-i2v", max_cost=1, idempotency_key="c")


@pytest.mark.parametrize(
    "payload", [{"prompt": "{}"}, {"input": {"prompt": "{}"}}, {"shots": [{"prompt": "{}"}]}], ids=str
)
def test_a_worker_that_resumes_a_raw_payload_takes_its_prompt_out_of_the_reason(
    raw: Any, payload: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sandbox = raw
    words = "The unreleased car of 2028 on a bridge at night"
    payload = json.loads(json.dumps(payload).replace("{}", words))
    monkeypatch.setattr(redaction, "_prompts", OrderedDict())
    sandbox.inject("never_runs")
    with pytest.raises(TaskDeferred) as deferred:
        run.operator(payload=payload).execute(run.context())
    (accepted,) = sandbox.accepted()
    sandbox.inject("empty_echo", None, {"request_id": accepted["request_id"]})
    sandbox.finish(accepted["request_id"], "failed", f"content policy: '{words}' is refused")
    # Another process, which has built no request.
    monkeypatch.setattr(redaction, "_prompts", OrderedDict())
    trigger = deferred.value.trigger
    event = {"status": "failed", "request_id": trigger.request_id, "fingerprint": trigger.fingerprint}
    with pytest.raises(AirflowException) as raised:
        run.operator(payload=payload).execute_complete(run.context(), event | {"end_time": trigger.end_time})
    assert "content policy" in str(raised.value)
    assert words not in str(raised.value)
    assert not [path for path in tmp_path.rglob("*.json") if words in path.read_text()]
