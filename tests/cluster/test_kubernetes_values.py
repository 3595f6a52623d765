# SPDX-License-Identifier: Apache-2.0
"""The values for the official Helm chart, as far as they can be checked without the chart."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dev.stack import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.34"
# The key that the chart reads from each Secret.
KEYS = {
    "fernetKeySecretName": "fernet-key",
    "apiSecretKeySecretName": "api-secret-key",
    "jwtSecretName": "jwt-secret",
    "data.metadataSecretName": "connection",
    "data.resultBackendSecretName": "connection",
    "data.brokerUrlSecretName": "connection",
    "redis.passwordSecretName": "password",
}


def read_values(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


def read_secrets() -> dict[str, dict[str, str]]:
    """Keys and values by the Secret's name."""
    documents = yaml.safe_load_all((FOLDER / "secrets.example.yaml").read_text())
    return {each["metadata"]["name"]: each["stringData"] for each in documents}


def get(values: dict[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def test_the_secrets_are_what_kubernetes_allows() -> None:
    for document in yaml.safe_load_all((FOLDER / "secrets.example.yaml").read_text()):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_secret_with_a_misspelt_field_is_refused() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringdata": {}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(secret, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", KEYS)
def test_each_secret_that_the_values_name_is_in_the_example_with_the_charts_key(path: str) -> None:
    assert list(read_secrets()[get(read_values("values.yaml"), path)]) == [KEYS[path]]


def test_the_connections_of_the_operators_come_from_a_secret() -> None:
    (reference,) = yaml.safe_load(read_values("values.yaml")["extraEnvFrom"])

    assert set(read_secrets()[reference["secretRef"]["name"]]) == {
        "AIRFLOW_CONN_WAN_DEFAULT",
        "AIRFLOW_CONN_AWS_DEFAULT",
    }


def test_no_secret_is_written_in_the_values() -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("values*.yaml"))

    assert not re.findall(r"(?im)^\s*\w*(?:password|key|secret):\s*\S+", text)


def test_nobody_gets_the_charts_default_login() -> None:
    assert read_values("values.yaml")["createUserJob"] == {"enabled": False}


def test_no_more_tasks_start_than_the_workers_have_slots() -> None:
    values = read_values("values.yaml")
    workers = values["workers"]["celery"]
    replicas = workers["replicas"] + sum(each.get("replicas", workers["replicas"]) for each in workers["sets"])

    assert values["config"]["core"]["parallelism"] == replicas * values["config"]["celery"]["worker_concurrency"]


def test_the_transfers_queue_of_the_cluster_policy_has_workers() -> None:
    policy = (ROOT / "deploy" / "config" / "airflow_local_settings.py").read_text()
    (queue,) = re.findall(r'task\.queue = "(\w+)"', policy)

    assert queue in {each["queue"] for each in read_values("values.yaml")["workers"]["celery"]["sets"]}


def test_one_triggerer_can_take_over_from_another() -> None:
    assert read_values("values.yaml")["triggerer"]["replicas"] >= 2


def test_pods_of_tasks_have_no_disruption_budget() -> None:
    budget = read_values("values-kubernetes-executor.yaml")["workers"]["celery"]["podDisruptionBudget"]

    assert budget == {"enabled": False}
