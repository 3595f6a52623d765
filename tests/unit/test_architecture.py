# SPDX-License-Identifier: Apache-2.0
"""The house rules hold, and each check fails when its rule is broken again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dev.naming import check_identifier, find_duplicate_classes, find_private_names

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("importlinter")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache', '--no-logo'])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package and of its contracts."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "airflow_provider_wan", tmp_path / "airflow_provider_wan", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_keep_the_contracts() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_standard_and_unique() -> None:
    assert [*find_duplicate_classes(), *find_private_names()] == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("api/errors.py", "from airflow_provider_wan.ledger import entry", "Imports go downward only"),
        ("ledger/entry.py", "def f():\n    import airflow.sdk", "The lower floors do not import Airflow"),
        ("media/image.py", "import airflow_provider_wan.media.video", None),
        ("sandbox/job.py", "from airflow_provider_wan.api import errors", "The sandbox shares no code"),
        ("sandbox/job.py", "from airflow_provider_wan.sandbox import core", "No package or module imports itself"),
        ("cli/main.py", "from airflow_provider_wan.sandbox import core", "The provider does not import the sandbox"),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, module: str, line: str, contract: str | None) -> None:
    with (copy / "airflow_provider_wan" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    output = lint_imports(copy).stdout
    broken = [each for each in output.splitlines() if " BROKEN" in each]
    if contract is None:
        assert broken == [], output
    else:
        assert any(each.startswith(contract) for each in broken), output


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


@pytest.mark.parametrize("identifier", ["of", "retold", "lookup", "outlook", "unquote", "index_offset", "proof"])
def test_standard_words_are_not_mistaken(identifier: str) -> None:
    assert check_identifier(identifier) is None
