# SPDX-License-Identifier: Apache-2.0
"""Every Python block runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_wan.sandbox import SandboxServer
from dev.docs.pages import ROOT, Block, blocks

OWN = [block for block in blocks("python") if not block.source]


def run(block: Block) -> dict[str, Any]:
    if block.needs and not importlib.util.find_spec(block.needs):
        pytest.skip(f"needs {block.needs}")
    names: dict[str, Any] = {"__name__": "page"}
    # The line numbers of an error are then those of the page.
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    exec(code, names)
    return names


@pytest.mark.parametrize("block", OWN, ids=str)
def test_a_block_runs(block: Block, account: SandboxServer) -> None:
    names = run(block)
    for name, value in names.items():
        if isinstance(value, BaseOperator):
            assert value.task_id == name, "an operator in the docs is named as its task"


def test_nothing_was_submitted_by_a_block(account: SandboxServer) -> None:
    hook = next(block for block in OWN if "list_models" in block.text)
    run(hook)
    assert account.accepted() == []


def first_dag() -> Block:
    return next(block for block in OWN if block.page == ROOT / "README.md")


def test_the_first_dag_is_a_chain_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DAG] = []
    leave = DAG.__exit__

    def leave_and_record(dag: DAG, *rest: Any) -> Any:
        made.append(dag)
        return leave(dag, *rest)

    monkeypatch.setattr(DAG, "__exit__", leave_and_record)
    run(first_dag())
    (dag,) = made
    assert dag.dag_id == "first_clip"
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "image": {"clip"},
        "clip": {"archive"},
        "archive": set(),
    }
    assert getattr(dag.get_task("clip"), "deferrable", None)


def test_the_clip_that_is_too_dear_is_refused_before_it_is_submitted(account: SandboxServer, tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    block = next(block for block in OWN if block.page.name == "spending.md" and "max_cost" in block.text)
    clip = run(block)["clip"]
    clip.ledger_uri = f"file://{tmp_path}/ledger"
    names = {"dag_id": "dag", "run_id": "run", "task_id": "clip", "map_index": -1, "try_number": 1}
    ti = SimpleNamespace(**names, xcom_push=lambda key, value: None)
    with pytest.raises(AirflowFailException, match=r"WanBudgetError: .*would cost \$2\.25"):
        clip.execute({"ti": ti, "dag_run": SimpleNamespace(conf={})})
    assert account.accepted() == []
