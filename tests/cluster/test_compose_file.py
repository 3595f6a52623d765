# SPDX-License-Identifier: Apache-2.0
"""docker-compose.yml itself, without running it."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dev.cluster import FILES
from dev.compose.interpolation import MissingVariableError, read_variables
from dev.compose.model import load
from dev.compose.places import Places
from dev.compose.variables import EXAMPLE, drawn
from dev.stack import ROOT

COMPOSE = ROOT / "docker-compose.yml"
SECRETS = sorted(name for name, value in read_variables(EXAMPLE).items() if not value)


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_file_is_what_the_compose_specification_allows(path: Path) -> None:
    # check-jsonschema carries the specification's own schema.
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(schema.read_text()))


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_a_secret(name: str) -> None:
    variables = drawn() | {name: ""}

    with pytest.raises(MissingVariableError, match=name):
        load([COMPOSE], variables)


def test_no_password_is_written_in_the_file() -> None:
    wanted = re.compile(r"(?i)^\s*\w*(password|secret|key)\w*:\s*(?P<value>\S.*)$", re.MULTILINE)

    for found in wanted.finditer(COMPOSE.read_text()):
        assert found["value"].startswith(("${", "/")), found[0]


def test_every_variable_of_the_example_is_used_and_every_demanded_one_is_in_it() -> None:
    text = COMPOSE.read_text()
    used = set(re.findall(r"\$\{(\w+)", text))

    assert set(read_variables(EXAMPLE)) - {"COMPOSE_PROFILES"} <= used
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(SECRETS)


def test_every_service_has_a_pinned_image_limits_and_a_health_check(written: dict[str, Any]) -> None:
    for name, service in written["services"].items():
        assert re.search(r":\d+(\.\d+)+$", service["image"]), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "healthcheck" in service or name == "init", name


def test_the_image_is_of_the_airflow_that_its_tag_names(written: dict[str, Any]) -> None:
    base = re.search(r"^FROM apache/airflow:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    tags = {each["image"] for each in written["services"].values() if "build" in each}

    assert base is not None
    assert tags == {f"airflow-provider-wan:{base[1]}"}


def test_one_service_builds_the_image_that_all_parts_of_airflow_use(written: dict[str, Any]) -> None:
    building = [name for name, each in written["services"].items() if "build" in each]
    using = [name for name, each in written["services"].items() if each["image"].startswith("airflow-provider-wan:")]

    assert building == ["init"]
    assert len(using) == 9


def test_no_file_of_the_checkout_has_to_be_readable_for_a_containers_user(written: dict[str, Any]) -> None:
    mounted = [mount for each in written["services"].values() for mount in each.get("volumes", [])]

    assert mounted
    assert not [mount for mount in mounted if mount.startswith((".", "/", "~"))]


def test_every_services_log_is_rotated(written: dict[str, Any]) -> None:
    for name, service in written["services"].items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


def test_no_command_line_has_a_secret_in_it() -> None:
    variables = drawn()

    for name, service in load([COMPOSE], variables).items():
        words = " ".join([*service.entrypoint, *service.command, *(service.health.test if service.health else ())])
        assert not [secret for secret in SECRETS if variables[secret] in words], name


def test_no_more_tasks_are_started_than_the_workers_have_places_so_that_none_waits_in_a_queue() -> None:
    services = load([COMPOSE], drawn())
    places = sum(
        int(word.partition("=")[2])
        for name in ("worker", "worker-transfers")
        for word in services[name].command
        if word.startswith("--concurrency=")
    )

    assert int(services["scheduler"].environment["AIRFLOW__CORE__PARALLELISM"]) == places


def test_production_has_neither_the_sandbox_nor_its_s3() -> None:
    production = load([COMPOSE], drawn() | {"COMPOSE_PROFILES": ""})
    trial = load([COMPOSE], drawn())

    assert set(trial) - set(production) == {"s3", "sandbox"}


def test_only_the_api_server_can_be_reached_from_outside(written: dict[str, Any]) -> None:
    published = {name: each["ports"] for name, each in written["services"].items() if "ports" in each}

    assert published == {"api-server": ["${AIRFLOW_LISTEN:-127.0.0.1:8080}:8080"]}


def test_addresses_and_paths_become_those_of_this_machine(tmp_path: Path) -> None:
    services = load([COMPOSE], drawn())
    places = Places(services, tmp_path, ROOT)
    worker, postgres, sandbox = services["worker"], services["postgres"], services["sandbox"]
    at = places.ports

    assert places.text(worker, "http://sandbox:8090/api") == f"http://127.0.0.1:{at['sandbox', 8090]}/api"
    assert places.text(worker, "redis://:word@redis:6379/0") == f"redis://:word@127.0.0.1:{at['redis', 6379]}/0"
    assert places.text(worker, "/opt/airflow/dags") == f"{tmp_path}/roots/worker/opt/airflow/dags"
    assert places.text(worker, "5432 is not a port of mine") == "5432 is not a port of mine"
    assert places.text(postgres, "--port=5432") == f"--port={at['postgres', 5432]}"
    assert places.command(sandbox, ["--public-host=sandbox"]) == ["--public-host=127.0.0.1"]
    assert places.command(worker, ["--celery-hostname=worker"]) == ["--celery-hostname=worker"]
