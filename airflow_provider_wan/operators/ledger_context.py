# SPDX-License-Identifier: Apache-2.0
"""The ledger of a task, and the names of the task in it."""

from __future__ import annotations

import os
import pkgutil
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.ledger import LedgerEntry, Owner, TaskReference

#: XCom of a task whose ledger is not the deployment's: by it, the gallery finds the task's clips.
LEDGER_XCOM_KEY = "wan_ledger_uri"

_LOCAL_EXECUTORS = ("LocalExecutor", "SequentialExecutor")
_REMOTE_WORKER_VARIABLES = ("AIRFLOW_IS_K8S_EXECUTOR_POD", "AIRFLOW_IS_EXECUTOR_CONTAINER", "CELERY_LOG_LEVEL")


def resolve_ledger_uri(given: str | None) -> str:
    """Return the ledger that a task names, or else the deployment's: ``[wan] ledger_uri``, or a folder on this machine.

    :param given: the task's argument.
    :raises WanValidationError: if there is none, and tasks may run on several machines.
    """
    if uri := find_ledger_uri(given):
        return uri
    raise WanValidationError(
        "ledger_uri",
        given,
        f"is needed, because tasks may run on several machines ([core] executor is {conf.get('core', 'executor')}) and "
        "a retry on another one could pay again. Nothing was paid",
        "Set it for all tasks as [wan] ledger_uri (AIRFLOW__WAN__LEDGER_URI), or on the task: s3://bucket/prefix, or "
        "file:///folder on a disk that all workers share",
    )


def find_ledger_uri(given: str | None) -> str | None:
    """Return what :func:`resolve_ledger_uri` does, or None if there is no ledger.

    :param given: the task's argument.
    """
    return given or configured_ledger_uri() or (default_ledger_uri() if runs_on_one_machine() else None)


def publish_ledger_uri(context: Context, uri: str) -> None:
    """Register for the gallery a ledger that is not the deployment's.

    :param context: Airflow's context.
    :param uri: the task's ledger.
    """
    if uri != find_ledger_uri(None):
        context["ti"].xcom_push(key=LEDGER_XCOM_KEY, value=uri)


def configured_ledger_uri() -> str | None:
    """Return ``[wan] ledger_uri``, or None if it is not set."""
    return conf.get("wan", "ledger_uri", fallback=None) or None


def default_ledger_uri() -> str:
    """Return the ledger below ``AIRFLOW_HOME``."""
    from airflow.configuration import get_airflow_home

    return f"file://{os.path.abspath(get_airflow_home())}/wan-ledger"


def runs_on_one_machine() -> bool:
    """Return whether all tasks of this deployment run on one machine, or this one runs in ``dag.test()``."""
    if _is_dag_test():
        return True
    # Executors that start containers or other workers set these there, whatever the configuration in it says.
    if any(os.environ.get(name) for name in _REMOTE_WORKER_VARIABLES):
        return False
    executors = _list_executors(conf.get("core", "executor", fallback="") or "")
    return bool(executors) and all(map(_is_local_executor, executors))


def task_name(context: Context) -> str:
    """Return the name of the task instance, which is the same in its retries and clears.

    It says who holds a claim, and is part of no clip's name: a map index is not stable.

    :param context: Airflow's context.
    """
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{map_index}{loop_name(context)}"


def loop_name(context: Context) -> str:
    """Return what identifies the iteration of a task loop (from Airflow 3.4 on); empty outside of loops.

    :param context: Airflow's context.
    """
    ti: Any = context["ti"]
    region = getattr(ti, "region_id", None)
    return "" if region in (None, UUID(int=0)) else f"/{region}/{ti.region_index}"


def run_name(context: Context) -> str:
    """Return the name of the Dag run.

    :param context: Airflow's context.
    """
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}"


def build_owner(context: Context) -> Owner:
    """Return this process of the task instance.

    :param context: Airflow's context.
    """
    from airflow_provider_wan.ledger import Owner

    return Owner(task=task_name(context), try_number=context["ti"].try_number, nonce=uuid4().hex)


def build_reference(context: Context, source_uri: str | None) -> TaskReference:
    """Return where in Airflow a clip is asked for.

    :param context: Airflow's context.
    :param source_uri: URI of the image, if known.
    """
    from airflow_provider_wan.ledger import TaskReference

    ti = context["ti"]
    map_index = None if ti.map_index is None or ti.map_index < 0 else ti.map_index
    return TaskReference(ti.dag_id, ti.run_id, ti.task_id, map_index, source_uri)


def is_paid_by(context: Context, entry: LedgerEntry) -> bool:
    """Return whether this task instance, in whichever attempt, has paid for a clip.

    :param context: Airflow's context.
    :param entry: the clip's entry.
    """
    from airflow_provider_wan.ledger import Owner

    return Owner.parse_task(entry.owner) == task_name(context)


def _is_dag_test() -> bool:
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return type(getattr(runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def _list_executors(configured: str) -> list[str]:
    """List the executors of ``[core] executor``, whose parts may have a team and an alias."""
    names = [name.strip() for team in configured.split(";") for name in team.rpartition("=")[2].split(",")]
    return [name.rpartition(":")[2] for name in names if name]


def _is_local_executor(name: str) -> bool:
    if "." not in name:
        return name in _LOCAL_EXECUTORS
    try:
        return bool(pkgutil.resolve_name(name).is_local)
    except (ImportError, AttributeError, ValueError):
        return False
