# SPDX-License-Identifier: Apache-2.0
"""Each test that a page names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)`")
NAMED = sorted({match.groups() for page in ROOT.glob("docs/**/*.md") for match in NODE.finditer(page.read_text())})


def collect_tests(path: Path) -> set[str]:
    """Return the names of the tests in a file, those of a class as ``Class::test``."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")}
    return names


def test_the_pages_name_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_a_page_names_exists(file: str, test: str) -> None:
    assert test in collect_tests(ROOT / file)
