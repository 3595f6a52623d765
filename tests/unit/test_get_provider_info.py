# SPDX-License-Identifier: Apache-2.0
"""The metadata that Airflow reads from the provider."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

import jsonschema

from airflow_provider_wan.get_provider_info import get_provider_info

HEAVY = (
    "requests",
    "aiohttp",
    "boto3",
    "botocore",
    "PIL",
    "av",
    "numpy",
    "pyarrow",
    "airflow_provider_wan.batch.engine",
)
ENGINE = "airflow_provider_wan.batch.engine"
MODULES = [
    "airflow_provider_wan.operators.wan",
    "airflow_provider_wan.operators.wan_batch",
    "airflow_provider_wan.operators.image_to_video",
    "airflow_provider_wan.decorators.wan",
    "airflow_provider_wan.sensors.wan",
    "airflow_provider_wan.transfers.s3_to_wan",
    "airflow_provider_wan.transfers.wan_to_s3",
    "airflow_provider_wan.triggers.wan",
    "airflow_provider_wan.hooks.wan",
]


def test_the_description_is_valid_against_airflow_s_own_schema() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    (found,) = entry_points(group="apache_airflow_provider", name="provider_info").select(
        value="airflow_provider_wan.get_provider_info:get_provider_info"
    )
    assert found.load()()["package-name"] == "airflow-provider-wan"


def test_every_module_and_class_that_is_named_exists() -> None:
    info = get_provider_info()
    modules = [
        name
        for kind in ("operators", "sensors", "hooks", "triggers")
        for row in info[kind]
        for name in row["python-modules"]
    ]
    for module in [*modules, *(row["python-module"] for row in info["transfers"])]:
        importlib.import_module(module)
    classes = [*info["extra-links"], *(row["hook-class-name"] for row in info["connection-types"])]
    classes += [row["class-name"] for row in info["task-decorators"]]
    for name in classes:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


def test_reading_the_description_imports_nothing_but_the_package_itself() -> None:
    code = "import sys; import airflow_provider_wan.get_provider_info as p; p.get_provider_info(); " + (
        "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'pydantic', 'requests', 'aiohttp')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_dags_import_brings_in_none_of_the_heavy_libraries() -> None:
    code = f"""
import importlib, sys, airflow.sdk
from airflow.sdk import BaseOperator, BaseHook, BaseSensorOperator
before = set(sys.modules)
for module in {MODULES!r}:
    importlib.import_module(module)
    if heavy := [name for name in {(*HEAVY, ENGINE)!r} if name in sys.modules and name not in before]:
        sys.exit(f"{{module}} imports {{heavy}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_form_for_older_airflows_is_the_declared_one() -> None:
    from airflow_provider_wan.hooks.wan import WanHook

    declared = get_provider_info()["connection-types"][0]
    assert WanHook.get_ui_field_behaviour()["relabeling"] == declared["ui-field-behaviour"]["relabeling"]
    assert WanHook.get_ui_field_behaviour()["hidden_fields"] == ["schema", "port", "login"]


def test_the_connection_form_of_the_installed_airflow_has_every_field() -> None:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    form: Any
    (form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "wan"]
    declared = get_provider_info()["connection-types"][0]
    assert list(form.extra_fields) == list(declared["conn-fields"])
    assert form.extra_fields["model"]["value"] == "wan2.6-i2v"
    assert form.standard_fields.password.title == "API key"
    assert form.standard_fields.host.title == "Base URL"
    assert form.standard_fields.port.hidden


def test_the_connection_form_offers_the_models_that_the_provider_knows() -> None:
    from airflow_provider_wan.api.request import MODELS

    form = get_provider_info()["connection-types"][0]["conn-fields"]
    assert form["model"]["schema"]["enum"] == list(MODELS)
    assert all(field["description"].endswith((".", "}")) for field in form.values())
