# SPDX-License-Identifier: Apache-2.0
"""The project's rules hold, and each check fails when its rule is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dev.naming import FOLDERS, check_identifier, find_duplicate_classes, find_private_names

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("importlinter")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache', '--no-logo'])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package and of its contracts."""
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("airflow_provider_wan", "benchmarks", "dev"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_keep_the_contracts() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_standard_and_unique() -> None:
    assert [*find_duplicate_classes(), *find_private_names()] == []


PLANTED = {
    "Imports go downward only": ("airflow_provider_wan/media/image.py", "from airflow_provider_wan.polling import hub"),
    "No package or module imports itself": (
        "airflow_provider_wan/sandbox/job.py",
        "from airflow_provider_wan.sandbox import core",
    ),
    "The sandbox shares no code": (
        "airflow_provider_wan/sandbox/job.py",
        "from airflow_provider_wan.api import errors",
    ),
    "The provider does not import the sandbox": (
        "airflow_provider_wan/cli/main.py",
        "from airflow_provider_wan.sandbox import config",
    ),
    "The lower floors do not import Airflow": (
        "airflow_provider_wan/ledger/entry.py",
        "def f():\n    import airflow.sdk",
    ),
    "The package needs nothing": ("airflow_provider_wan/api/errors.py", "from dev import stack"),
    "Nothing imports the tests": ("dev/stack.py", "from tests.unit import conftest"),
    "Only the cluster imports": ("dev/demo.py", "from dev.compose import model"),
}


def plant(folder: Path, module: str, line: str) -> None:
    with (folder / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def read_broken(output: str) -> set[str]:
    return {name for name in PLANTED for line in output.splitlines() if line.startswith(name) and " BROKEN" in line}


def test_planted_imports_break_their_contracts(copy: Path) -> None:
    for module, line in PLANTED.values():
        plant(copy, module, line)
    output = lint_imports(copy).stdout
    assert read_broken(output) == set(PLANTED), output
    assert "No cycles are allowed in airflow_provider_wan.sandbox." in output


def test_a_planted_import_that_is_allowed_breaks_nothing(copy: Path) -> None:
    plant(copy, "airflow_provider_wan/media/image.py", "import airflow_provider_wan.api.errors")
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout


def test_a_planted_duplicate_class_is_found(copy: Path) -> None:
    package = copy / "airflow_provider_wan"
    before = find_duplicate_classes(package)
    (package / "media" / "planted.py").write_text("class SandboxJob: ...\n", encoding="utf-8")
    (added,) = set(find_duplicate_classes(package)) - set(before)
    assert "class SandboxJob exists 2 times" in added


@pytest.mark.parametrize(
    "source",
    [
        "def look(): ...",
        "class LookResult: ...",
        "def f(told): ...",
        "def seconds_of(x): ...",
        "self.held = 1",
        "under_way = 3",
        "match x:\n    case [said]: ...",
        "import json as shown",
        "def test_a_failure_is_told(): ...",
    ],
)
def test_a_planted_private_word_is_found(copy: Path, source: str) -> None:
    package = copy / "airflow_provider_wan"
    (package / "planted.py").write_text(source + "\n", encoding="utf-8")
    assert any("planted.py:" in problem for problem in find_private_names(package))


def test_a_planted_module_name_is_found(copy: Path) -> None:
    package = copy / "airflow_provider_wan"
    (package / "telling.py").write_text("", encoding="utf-8")
    assert any("module telling" in problem for problem in find_private_names(package))


def test_private_words_are_found_in_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text("def f(told): ...\n", encoding="utf-8")
    assert any("test_planted.py:1: told" in problem for problem in find_private_names(tmp_path))
    assert ROOT / "tests" in FOLDERS


@pytest.mark.parametrize(
    "identifier",
    ["of", "retold", "lookup", "outlook", "unquote", "index_offset", "proof", "test_cells_are_kept"],
)
def test_standard_words_are_not_mistaken(identifier: str) -> None:
    assert check_identifier(identifier) is None
