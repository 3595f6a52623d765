# SPDX-License-Identifier: Apache-2.0
"""The ledger of a task, and the names of the task in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.providers.common.compat.sdk import conf

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.operators.s3_client import create_s3_client

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.ledger import LedgerStore, Owner


def resolve_ledger_uri(given: str | None) -> str | None:
    """Return the location of the ledger: the task's, or else ``[wan] ledger_uri``.

    :param given: the task's argument.
    """
    return given or conf.get("wan", "ledger_uri", fallback=None) or None


def check_reuse(reuse: str, uri: str | None) -> None:
    """Refuse a reuse by content without a ledger that all runs share.

    :param reuse: the task's argument.
    :param uri: location of the ledger, or None.
    :raises WanValidationError: if there is no such ledger.
    """
    if reuse == "content" and uri is None:
        raise WanValidationError(
            "reuse",
            reuse,
            "needs a ledger that all runs share",
            "Set ledger_uri on the task, or for all as [wan] ledger_uri",
        )


def open_ledger(context: Context, uri: str | None, aws_conn_id: str | None) -> LedgerStore:
    """Open the ledger of a task: at the URI, or else in Airflow's own task state store (Airflow 3.3 or newer).

    :param context: Airflow's context.
    :param uri: ``s3://bucket/prefix`` or ``file:///folder``, or None.
    :param aws_conn_id: id of the AWS connection for ``s3://``.
    :raises WanValidationError: if there is no URI and Airflow has no task state store.
    """
    from airflow_provider_wan.ledger import TaskStateStore, open_store

    if uri:
        return open_store(uri, s3_client=lambda: create_s3_client(aws_conn_id))
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
    """Return the name of the task instance, which is the same in all its tries and clears.

    :param context: Airflow's context.
    """
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{map_index}"


def run_name(context: Context) -> str:
    """Return the name of the DAG run.

    :param context: Airflow's context.
    """
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}"


def build_owner(context: Context) -> Owner:
    """Return the owner of claims that this process makes.

    :param context: Airflow's context.
    """
    from airflow_provider_wan.ledger import Owner

    return Owner(task=task_name(context), try_number=context["ti"].try_number, nonce=uuid4().hex)


def resolve_force_token(context: Context, force_new: bool | str) -> str | None:
    """Return the key of a clip that is to be made again, which is the same in all tries; None: nothing is forced.

    :param context: Airflow's context.
    :param force_new: the task's argument; if it is false, ``force_new`` of the DAG run's conf is used. True stands
        for once in this DAG run and task, any other text for once for this text.
    """
    run = context.get("dag_run")
    option = _parse_force_new(force_new) or _parse_force_new((getattr(run, "conf", None) or {}).get("force_new"))
    return task_name(context) if option is True else option or None


_NO = frozenset({"", "false", "none", "no", "0"})
_YES = frozenset({"true", "yes", "1"})


def _parse_force_new(value: object) -> bool | str:
    """Parse a value that may be rendered by a template, where False is the text "False"."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, str):
        raise WanValidationError("force_new", value, "must be true, false, or a text that names the new clip")
    word = value.strip()
    if word.lower() in _NO:
        return False
    return True if word.lower() in _YES else word
