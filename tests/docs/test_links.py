# SPDX-License-Identifier: Apache-2.0
"""Links within the repository lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.docs.pages import PAGES, ROOT, anchors, links, target_of


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    dead = []
    for link in links(page):
        target, anchor = target_of(page, link)
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_is_reached_from_the_readme_and_from_the_index() -> None:
    pages = {page for page in PAGES if page.parent.name == "docs"}
    for start in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        reached = {target_of(start, link)[0] for link in links(start)}
        assert pages - reached <= {start}
