# SPDX-License-Identifier: Apache-2.0
"""Which ledger a task uses, and under which names it appears there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.ledger import LedgerStore, Owner


def resolve_ledger_uri(given: str | None) -> str | None:
    """Return the ledger that a task names, or else the deployment's: ``[wan] ledger_uri``."""
    return given or conf.get("wan", "ledger_uri", fallback=None) or None


def open_ledger(context: Context, uri: str | None, aws_conn_id: str | None) -> LedgerStore:
    """
    Open the ledger of a task: at the URI, or else in Airflow's own task state store (from 3.3 on).

    :param uri: ``s3://bucket/prefix`` or ``file:///folder``, or None.
    :param aws_conn_id: the connection for ``s3://``.
    :raises WanValidationError: where there is no URI and Airflow has no task state store.
    """
    from airflow_provider_wan.ledger import TaskStateStore, open_store

    if uri:
        return open_store(uri, s3_client=lambda: _s3_client(aws_conn_id))
    state: Any = context.get("task_state_store")
    if state is None:
        raise WanValidationError(
            "ledger_uri",
            uri,
            "is needed where Airflow has no task state store (before 3.3): without a memory, a retry could pay again",
            "Set it on the task, or for all as [wan] ledger_uri: s3://bucket/prefix or file:///shared/folder",
        )
    return TaskStateStore(state)


def task_name(context: Context) -> str:
    """Name the task instance for good, through retries and clears."""
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{map_index}"


def run_name(context: Context) -> str:
    """Name the dag run."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}"


def build_owner(context: Context) -> Owner:
    """Name this process of the task instance."""
    from airflow_provider_wan.ledger import Owner

    return Owner(task=task_name(context), try_number=context["ti"].try_number, nonce=uuid4().hex)


def resolve_force_token(context: Context, force_new: bool | str) -> str | None:
    """
    Return what names one "make it again": the same in each retry of it.

    :param force_new: the task's own; where it is false, ``force_new`` of the dag run's conf counts. True
        stands for once in this dag run and task, a text for once wherever that text is given.
    """
    run = context.get("dag_run")
    wish = _wish(force_new) or _wish((getattr(run, "conf", None) or {}).get("force_new"))
    return task_name(context) if wish is True else wish or None


_NO = frozenset({"", "false", "none", "no", "0"})
_YES = frozenset({"true", "yes", "1"})


def _wish(value: object) -> bool | str:
    """Read a wish that may come out of a template, where False is the text "False"."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, str):
        raise WanValidationError("force_new", value, "must be true, false, or a text that names the new clip")
    word = value.strip()
    if word.lower() in _NO:
        return False
    return True if word.lower() in _YES else word


def _s3_client(aws_conn_id: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id).get_conn()
