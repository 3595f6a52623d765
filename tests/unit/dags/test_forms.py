# SPDX-License-Identifier: Apache-2.0
"""The trigger forms of the example Dags: sections, widgets, and what may be left empty."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.sdk import DAG

from airflow_provider_wan.api.pricing import DEFAULT_PRICES
from dev.stack import ROOT

FILES = sorted((ROOT / "dags").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field_of_a_form_is_explained_and_in_a_section(path: Path, dags: list[DAG]) -> None:
    runpy.run_path(str(path))
    for dag in dags:
        for name in dag.params:
            param = dag.params.get_param(name)
            schema = param.schema
            assert schema.get("section"), f"{name} is in no section"
            assert param.description or schema.get("values_display"), f"{name} is not explained"
            if name.endswith("prompt"):
                assert schema["format"] == "multiline"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_prices_in_a_form_are_the_list_prices(path: Path, dags: list[DAG]) -> None:
    runpy.run_path(str(path))
    for dag in dags:
        for name in dag.params:
            displayed = dag.params.get_param(name).schema.get("values_display", {})
            for resolution, text in displayed.items():
                assert text == f"{resolution}, ${DEFAULT_PRICES[resolution]:.2f} a second"


def test_what_may_be_left_empty_has_no_star(dags: list[DAG]) -> None:
    runpy.run_path(str(ROOT / "dags" / "wan_single_clip.py"))
    (dag,) = dags
    optional = {name for name in dag.params if "null" in dag.params.get_param(name).schema["type"]}
    assert optional == {"prompt", "negative_prompt", "max_cost", "seed"}
