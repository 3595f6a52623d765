# SPDX-License-Identifier: Apache-2.0
"""Rendered templates are parsed as the type of their field."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.task_groups.wan import image_to_video
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


@pytest.mark.parametrize("prompt", ["2026", "[1, 2]", "1e3", "None", "{'a': 1}", "007"])
def test_a_prompt_stays_text_where_templates_are_native(prompt: str) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = WanI2VOperator(
            task_id="clip", img_url=IMAGE, prompt="{{ text }}", negative_prompt="{{ text }}", duration="{{ 10 }}"
        )

    operator.render_template_fields({"text": prompt})  # type: ignore[typeddict-unknown-key]

    assert (operator.prompt, operator.negative_prompt) == (prompt, prompt)
    assert operator.duration == 10


def test_a_task_group_has_the_three_steps() -> None:
    with DAG("dag", schedule=None) as dag:
        group = image_to_video(source="s3://b/a.png", target="s3://b/a.mp4", prompt="x", dest_prefix="s3://b/fit/")
    assert sorted(dag.task_dict) == [f"image_to_video.{name}" for name in ("archive", "generate", "ingest")]
    assert group.group_id == "image_to_video"
    assert dag.task_dict["image_to_video.archive"].upstream_task_ids == {"image_to_video.generate"}
