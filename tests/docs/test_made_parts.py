# SPDX-License-Identifier: Apache-2.0
"""Generated parts and examples are up to date with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.docs.generated import PARTS, names, renewed
from dev.docs.pages import PAGES, ROOT, blocks, cut


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_the_code_has_it(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == renewed(page), "run: python -m dev.docs.generated"


def test_each_made_part_is_on_a_page() -> None:
    assert {name for page in PAGES for name in names(page)} == set(PARTS)


def test_an_example_is_the_text_between_its_markers_in_the_dag() -> None:
    cuts = [block for block in blocks("python") if block.source]
    assert cuts
    for block in cuts:
        assert block.source
        assert block.text == cut(*block.source), str(block)
        lines = {line.strip() for line in (ROOT / block.source[0]).read_text(encoding="utf-8").splitlines()}
        assert {line.strip() for line in block.text.splitlines()} <= lines, str(block)


def test_a_changed_table_and_a_changed_example_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    example = "<!-- from dags/wan_single_clip.py: chain -->\n```python\nold\n```\n"
    page.write_text(f"<!-- made: prices -->\n| old |\n<!-- end -->\n\n{example}", encoding="utf-8")
    assert PARTS["prices"]() in renewed(page)
    assert cut("dags/wan_single_clip.py", "chain") in renewed(page)
    assert "old" not in renewed(page)
