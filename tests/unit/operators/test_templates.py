# SPDX-License-Identifier: Apache-2.0
"""Rendered templates are parsed as the type of their field."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.rows import parse_row_range
from airflow_provider_wan.operators.arguments import build_fit_options
from airflow_provider_wan.operators.batch_setup import build_defaults
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.wan import WanI2VOperator, WanRequestOperator
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator
from airflow_provider_wan.task_groups.wan import image_to_video
from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator
from tests.unit.operators.conftest import IMAGE


def test_the_text_of_a_template_is_read_as_the_fields_type(run: Any, api: Any) -> None:
    run.try_(duration="10", seed="7", audio="False", watermark="true", prompt_extend="true", prompt="2026")

    (accepted,) = api.accepted()
    payload = api.call(lambda core: core.jobs.get(accepted["request_id"])).payload
    assert (payload["duration"], payload["seed"], payload["audio"], payload["watermark"]) == (10, 7, False, True)
    assert payload["prompt"] == "2026"


def test_a_template_without_a_value_is_unset(run: Any, api: Any) -> None:
    run.try_(seed="None", audio_url="None")

    assert len(api.accepted()) == 1


@pytest.mark.parametrize(
    "arguments", [{"duration": "5.5"}, {"duration": "five"}, {"seed": "1_0"}, {"audio": "maybe"}, {"duration": ""}]
)
def test_other_text_is_refused_before_the_payment(run: Any, api: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=next(iter(arguments))):
        run.try_(**arguments)

    assert api.accepted() == []


def test_the_text_of_an_unset_template_is_no_value_of_any_field(run: Any, api: Any) -> None:
    run.try_(
        **dict.fromkeys(("prompt", "negative_prompt", "audio", "duration", "shot_type", "last_frame", "seed"), "None")
    )

    (accepted,) = api.accepted()
    payload = api.call(lambda core: core.jobs.get(accepted["request_id"])).payload
    assert (payload["prompt"], payload["negative_prompt"]) == ("", "")
    assert (payload["audio"], payload["duration"], payload["shot_type"]) == (True, 5, "single")


def test_native_values_are_converted_like_those_of_a_table(run: Any, api: Any) -> None:
    numpy = pytest.importorskip("numpy")
    run.try_(duration=10.0, seed=7.0, audio=1, watermark=numpy.bool_(False), prompt=float("nan"))
    run.try_(duration=numpy.int64(15))

    first, second = (
        api.call(lambda core, each=each: core.jobs.get(each["request_id"])).payload for each in api.accepted()
    )
    assert (first["duration"], first["seed"], first["audio"], first["watermark"]) == (10, 7, True, False)
    assert first["prompt"] == ""
    assert second["duration"] == 15


@pytest.mark.parametrize("arguments", [{"duration": 5.5}, {"seed": True}, {"audio": 2}, {"seed": "42,000"}])
def test_native_values_that_are_no_value_of_the_field_are_refused(
    run: Any, api: Any, arguments: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=next(iter(arguments))):
        run.try_(**arguments)

    assert api.accepted() == []


@pytest.mark.parametrize("frame", [2, 2.0, "2", "2.0", " 2 "])
def test_a_frame_is_an_integer_in_every_form(frame: Any) -> None:
    assert build_fit_options("resize", "blur", "center", frame).frame == 2
    for unset in (None, "None", "", " "):
        assert build_fit_options("resize", "blur", "center", unset).frame is None
    for wrong in (True, 0.5, "1e1", "-1"):
        with pytest.raises(WanValidationError, match="frame"):
            build_fit_options("resize", "blur", "center", wrong)


OPERATORS: dict[Any, dict[str, Any]] = {
    WanI2VOperator: {"img_url": IMAGE},
    WanImageToVideoOperator: {"source": "s3://b/a.png", "target": "s3://b/a.mp4"},
    WanI2VBatchOperator: {"manifest": [IMAGE], "output_prefix": "s3://b/out/"},
}


@pytest.mark.parametrize("operator_class", OPERATORS)
@pytest.mark.parametrize("text", ["2026", "[1, 2]", "1e3", "None", "{'a': 1}", "007"])
def test_a_prompt_stays_text_where_templates_are_native(operator_class: Any, text: str) -> None:
    fields = ("prompt", "negative_prompt", "idempotency_key")
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = operator_class(
            task_id="clip",
            duration="{{ 10 }}",
            **OPERATORS[operator_class],
            **dict.fromkeys(fields, "{{ text }}"),
        )

    operator.render_template_fields({"text": text})

    assert [getattr(operator, name) for name in fields] == [text] * 3
    assert operator.duration == 10


UNSET = {
    WanI2VOperator: ("model", "resolution", "duration", "audio", "last_frame"),
    WanImageToVideoOperator: ("dest_prefix", "pad_fill", "crop_anchor", "frame", "model"),
    WanI2VBatchOperator: ("pad_fill", "model", "audio_url"),
}
GUARDS = {
    WanI2VOperator: ("max_cost", "ledger_uri", "reuse", "wan_conn_id", "aws_conn_id", "s3_options", "prices"),
    WanImageToVideoOperator: ("max_cost", "ledger_uri", "result_hosts", "s3_options", "target"),
    WanI2VBatchOperator: ("max_cost", "ledger_uri", "rows", "dry_run", "result_hosts", "output_prefix", "wan_conn_id"),
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("operator_class", UNSET)
def test_an_argument_whose_template_has_no_value_has_its_default(operator_class: Any, native: bool) -> None:
    names = [name for name in UNSET[operator_class] if name in operator_class.template_fields]
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        plain = operator_class(task_id="plain", **OPERATORS[operator_class])
        operator = operator_class(
            task_id="clip", **OPERATORS[operator_class], **dict.fromkeys(names, "{{ value }}"), prompt="{{ value }}"
        )

    operator.render_template_fields({"value": None})

    assert {name: getattr(operator, name) for name in names} == {name: getattr(plain, name) for name in names}
    assert operator.prompt == "None"


@pytest.mark.parametrize(("operator_class", "name"), [(each, name) for each, names in GUARDS.items() for name in names])
def test_a_template_without_a_value_does_not_choose_an_account_a_ledger_or_rows(operator_class: Any, name: str) -> None:
    with DAG("dag", schedule=None):
        operator = operator_class(task_id="clip", **{**OPERATORS[operator_class], name: "{{ value }}"})

    operator.render_template_fields({"value": None})

    assert getattr(operator, name) == "None"


def test_rows_without_a_value_are_refused() -> None:
    with pytest.raises(WanValidationError, match="rows=None"):
        parse_row_range("None")


def render_mapped(operator_class: Any, **values: Any) -> Any:
    """Render a mapped task as Airflow does, with values that another task has returned."""
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        partial = {"model": "other"} if operator_class is WanRequestOperator else {}
        mapped = operator_class.partial(task_id="task", **partial).expand(**{each: [values[each]] for each in values})
    task = mapped.unmap(values)
    task._do_render_template_fields(
        parent=task,
        template_fields=mapped.template_fields,
        context={},
        jinja_env=mapped.get_template_env(),
        seen_oids=set(map(id, values.values())),
    )
    return task


def test_a_payload_that_another_task_has_returned_is_no_template() -> None:
    payload = {"prompt": "A sign says {{ 7 * 7 }} {%", "frames": ["{{ 1 }}"]}
    assert render_mapped(WanRequestOperator, payload=payload).payload == payload


def test_prompts_anywhere_in_a_raw_payload_stay_text_where_templates_are_native() -> None:
    payload = {"input": {"prompt": "{{ text }}", "frames": "{{ 3 }}"}, "shots": [{"prompt": "{{ text }}"}]}
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = WanRequestOperator(task_id="clip", model="other", payload=payload)

    operator.render_template_fields({"text": "[1, 2]"})  # type: ignore[typeddict-unknown-key]

    assert operator.payload == {"input": {"prompt": "[1, 2]", "frames": 3}, "shots": [{"prompt": "[1, 2]"}]}


SIGNED = "HTTPS://images.example.com/cat.png?X-Amz-Signature=c0ffee"


@pytest.mark.parametrize(
    ("operator_class", "values"),
    [
        (S3ToWanOperator, {"source": SIGNED}),
        (WanImageToVideoOperator, {"source": f" {SIGNED}", "target": "s3://b/a.mp4"}),
        (WanI2VBatchOperator, {"manifest": [{"image": SIGNED}], "output_prefix": "s3://b/out/"}),
        (WanRequestOperator, {"payload": {"input": {"image": SIGNED, "prompt": "Who is it? A cat"}}}),
    ],
)
def test_signatures_are_masked_before_the_fields_of_a_mapped_task_are_stored(
    operator_class: Any, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []
    for module in ("base", "wan"):
        monkeypatch.setattr(f"airflow_provider_wan.operators.{module}.mask_secret", masked.append)

    render_mapped(operator_class, **values)

    assert masked == ["X-Amz-Signature=c0ffee"]


def test_of_a_long_list_only_what_airflow_shows_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow_provider_wan.operators.base.mask_secret", masked.append)
    images = [f"https://images.example.com/{number}.png?X-Amz-Signature={'0' * 400}{number}" for number in range(1000)]

    render_mapped(WanI2VBatchOperator, manifest=images, output_prefix="s3://b/out/")

    assert str(images)[:4096].count("Signature") <= len(masked) <= 12


@pytest.mark.parametrize("text", ["2026", "[1, 2]"])
def test_the_prompt_of_a_raw_payload_stays_text_where_templates_are_native(text: str) -> None:
    payload = {"prompt": "{{ text }}", "duration": "{{ 10 }}", "frames": ["{{ text }}"], "text": "fixed"}
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = WanRequestOperator(task_id="clip", model="other", payload=payload)

    operator.render_template_fields({"text": text})  # type: ignore[typeddict-unknown-key]

    assert operator.payload == {"prompt": text, "duration": 10, "frames": [ast.literal_eval(text)], "text": "fixed"}


def test_the_fields_of_another_model_are_read_as_their_types(run: Any, api: Any) -> None:
    run.try_(model="wan2.7-i2v", duration="7", seed="7", watermark="true", prompt="2026")

    (accepted,) = api.accepted()
    payload = api.call(lambda core: core.jobs.get(accepted["request_id"])).payload
    assert (payload["duration"], payload["seed"], payload["watermark"], payload["prompt"]) == (7, 7, True, "2026")


def test_the_fields_of_a_batch_are_read_as_their_types() -> None:
    operator = WanI2VBatchOperator(
        task_id="clips",
        manifest=[IMAGE],
        output_prefix="s3://b/out/",
        model="wan2.6-i2v",
        duration="10",
        seed="None",
        audio="False",
        prompt="2026",
    )

    defaults = build_defaults(operator)

    assert (defaults["duration"], defaults["audio"], defaults["prompt"]) == (10, False, "2026")
    assert "seed" not in defaults
    operator.prompt = operator.negative_prompt = operator.duration = "None"  # type: ignore[assignment]
    assert {"prompt", "negative_prompt", "duration"} & build_defaults(operator).keys() == set()
    operator.duration = 15.0  # type: ignore[assignment]
    assert build_defaults(operator)["duration"] == 15
    operator.duration = "5.5"  # type: ignore[assignment]
    with pytest.raises(WanValidationError, match=r"duration='5\.5'"):
        build_defaults(operator)


def test_a_task_group_has_the_three_steps() -> None:
    with DAG("dag", schedule=None) as dag:
        group = image_to_video(source="s3://b/a.png", target="s3://b/a.mp4", prompt="x", dest_prefix="s3://b/fit/")
    assert sorted(dag.task_dict) == [f"image_to_video.{name}" for name in ("archive", "generate", "ingest")]
    assert group.group_id == "image_to_video"
    assert dag.task_dict["image_to_video.archive"].upstream_task_ids == {"image_to_video.generate"}
