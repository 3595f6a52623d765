# SPDX-License-Identifier: Apache-2.0
"""Links within the repository have targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev.docs.pages import PAGES, ROOT, anchors, links, resolve_link

TREE = re.compile(r"^:::\{toctree\}\n(.*?)^:::$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    dead = []
    for link in links(page):
        target, anchor = resolve_link(page, link)
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def reachable(start: Path) -> set[Path]:
    """Return the pages that a reader reaches from a page by following links."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting += [target for target, _ in (resolve_link(page, link) for link in links(page)) if target in PAGES]
    return seen


@pytest.mark.parametrize("start", [ROOT / "README.md", ROOT / "docs" / "index.md"], ids=lambda page: page.name)
def test_every_page_of_the_documentation_can_be_reached(start: Path) -> None:
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - reachable(start) == set()


def test_every_page_of_the_documentation_is_in_the_navigation_of_the_site() -> None:
    listed = {ROOT / "docs" / "index.md"}
    for page in PAGES:
        for tree in TREE.findall(page.read_text(encoding="utf-8")):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert listed == {page for page in PAGES if page.is_relative_to(ROOT / "docs")}


def test_the_walks_through_the_code_name_what_is_there() -> None:
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    walks = text.split("## Three walks through the code\n")[1].split("\n## ")[0]
    package = ROOT / "airflow_provider_wan"
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    defined = set(re.findall(r"^ *(?:async def|def|class) (\w+)", code, re.MULTILINE))
    for name in re.findall(r"`([^`]+)`", walks):
        if name.endswith(".py"):
            assert (package / name).is_file(), name
        elif re.fullmatch(r"[\w.]+", name) and name != "results.jsonl":
            assert set(name.split(".")) <= defined, name
