# SPDX-License-Identifier: Apache-2.0
"""The claim protocol holds in its envelope, and needs each of its safeguards."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dev.model.__main__ import ROOT, SEARCHES
from dev.model.search import Expected, Search, missing_tools, run_search

needs_spin = pytest.mark.skipif(missing_tools() is not None, reason=missing_tools() or "")
# Left to `make model`: these take the longest, or repeat what others show.
TESTED = [s for s in SEARCHES if s.group != "sum" and "LIST_HIDES" not in s.defines and "WORKERS=3" not in s.defines]
FIGURES = json.loads((ROOT / "docs/explanation/model.json").read_text("utf-8"))
STATES = {tuple(figure["defines"]): figure["states"] for figure in FIGURES}


@needs_spin
@pytest.mark.parametrize(
    "search",
    [
        pytest.param(s, marks=() if s == TESTED[0] or STATES[s.defines] < 70_000 else pytest.mark.nightly)
        for s in TESTED
    ],
    ids=lambda search: f"{search.group}: {search.title}",
)
def test_spin_finds_what_is_expected(search: Search, tmp_path: Path) -> None:
    assert run_search(search, tmp_path).found is search.expected


def test_every_safeguard_and_every_bound_is_expected_to_matter() -> None:
    matters = [search for search in SEARCHES if search.group in ("safeguard", "edge")]
    assert matters
    assert all(search.expected is not Expected.NO_ERROR for search in matters)


def test_the_page_has_the_figures_of_these_searches() -> None:
    page = (ROOT / "docs/explanation/model.md").read_text("utf-8")
    assert [{k: f[k] for k in ("group", "title", "defines")} for f in FIGURES] == [
        {"group": s["group"], "title": s["title"], "defines": list(s["defines"])} for s in map(asdict, SEARCHES)
    ]
    for figure in FIGURES:
        assert f"| {figure['title']} | {figure['found']} | {figure['states']:,} |" in page


def test_a_model_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    if missing := missing_tools():
        pytest.skip(missing)
    with pytest.raises(RuntimeError, match="failed"):
        run_search(Search("designed", "broken", ("LIST_LAG=)",), Expected.NO_ERROR), tmp_path)
