# SPDX-License-Identifier: Apache-2.0
"""The default ledger: used only where it is safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.operators.ledger_context import find_ledger_uri, resolve_ledger_uri
from tests.unit.operators.conftest import Run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.delenv("AIRFLOW__WAN__LEDGER_URI", raising=False)
    return f"file://{tmp_path}/airflow/wan-ledger"


def _set_executor(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", value)


@pytest.mark.parametrize(
    "executor",
    [
        "LocalExecutor",
        " LocalExecutor ",
        "SequentialExecutor",
        "airflow.executors.local_executor.LocalExecutor",
        "local:LocalExecutor",
        "fast:airflow.executors.local_executor.LocalExecutor",
        "LocalExecutor;team1=LocalExecutor",
        "tests.unit.operators.test_ledger_context.AnotherLocalExecutor",
    ],
)
def test_with_an_executor_of_one_machine_the_ledger_is_below_airflow_home(
    home: str, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    _set_executor(monkeypatch, executor)
    assert resolve_ledger_uri(None) == home


@pytest.mark.parametrize(
    "executor",
    [
        "CeleryExecutor",
        "KubernetesExecutor",
        "EdgeExecutor",
        "LocalExecutor,KubernetesExecutor",
        "CeleryExecutor,LocalExecutor",
        "local:LocalExecutor,far:airflow.providers.celery.executors.celery_executor.CeleryExecutor",
        "LocalExecutor:airflow.providers.celery.executors.celery_executor.CeleryExecutor",
        "LocalExecutor;team1=CeleryExecutor",
        "no.such.module.Executor",
        "no..name",
        "tests.unit.operators.test_ledger_context.FarExecutor",
    ],
)
def test_with_any_other_executor_a_ledger_must_be_set(monkeypatch: pytest.MonkeyPatch, executor: str) -> None:
    _set_executor(monkeypatch, executor)
    assert find_ledger_uri(None) is None
    with pytest.raises(WanValidationError, match=r"(?s)Nothing was paid.*AIRFLOW__WAN__LEDGER_URI.*s3://bucket/prefix"):
        resolve_ledger_uri(None)


@pytest.mark.parametrize(
    "variable", ["AIRFLOW_IS_K8S_EXECUTOR_POD", "AIRFLOW_IS_EXECUTOR_CONTAINER", "CELERY_LOG_LEVEL"]
)
def test_a_worker_of_another_executor_is_known_by_its_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    # The pod templates of Airflow's documentation set LocalExecutor in the pod.
    _set_executor(monkeypatch, "LocalExecutor")
    monkeypatch.setenv(variable, "True")
    with pytest.raises(WanValidationError, match="several machines"):
        resolve_ledger_uri(None)


def test_what_is_set_comes_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_executor(monkeypatch, "LocalExecutor")
    monkeypatch.setenv("AIRFLOW__WAN__LEDGER_URI", "s3://bucket/ledger")
    assert resolve_ledger_uri(None) == resolve_ledger_uri("") == "s3://bucket/ledger"
    assert resolve_ledger_uri("file:///srv/ledger") == "file:///srv/ledger"


def test_dag_test_runs_on_one_machine_whatever_the_executor(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time import supervisor

    _set_executor(monkeypatch, "CeleryExecutor")
    with supervisor.set_supervisor_comms(object.__new__(supervisor.InProcessSupervisorComms)):
        assert resolve_ledger_uri(None) == home
    assert find_ledger_uri(None) is None


def test_a_relative_airflow_home_is_one_place_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW_HOME", "home")
    _set_executor(monkeypatch, "LocalExecutor")
    assert resolve_ledger_uri(None) == f"file://{tmp_path}/home/wan-ledger"


def test_nothing_is_paid_without_a_ledger(run: Run, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    _set_executor(monkeypatch, "CeleryExecutor")
    with pytest.raises(AirflowFailException, match="ledger_uri"):
        run.try_(ledger_uri=None)
    assert api.accepted() == []


def test_a_retry_finds_the_clip_in_the_default_ledger(
    run: Run, api: Any, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_executor(monkeypatch, "LocalExecutor")
    first = run.try_(ledger_uri=None, reuse="content")
    assert run.try_(ledger_uri=None, reuse="content")["request_id"] == first["request_id"]
    assert first["ledger_uri"] == home
    assert len(api.accepted()) == 1


class AnotherLocalExecutor:
    is_local = True


class FarExecutor:
    is_local = False
