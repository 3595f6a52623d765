# SPDX-License-Identifier: Apache-2.0
"""README and documentation as data: their pages, fenced blocks, headings, links and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FROM = re.compile(r"<!-- from (\S+): (\w+) -->\n\Z")
_NEEDS = re.compile(r"<!-- needs (\S+) -->\n\Z")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    :param needs: a module without which it can't run, where a comment before it names one.
    :param source: the file and the marker that it is cut from, where a comment before it names them.
    """

    page: Path
    line: int
    language: str
    text: str
    needs: str | None
    source: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All fenced blocks of a language, in all pages."""
    return [block for page in PAGES for block in parse_blocks(page) if block.language == language]


def parse_blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        source = _FROM.search(text[: found.start()])
        needs = _NEEDS.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        named = (source[1], source[2]) if source else None
        yield Block(page, line, found[1], found[2], needs[1] if needs else None, named)


def cut(path: str, name: str) -> str:
    """Return the text between ``# [START name]`` and ``# [END name]`` of a file, without common indentation."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(rf"^ *# \[START {name}\]\n(.*?)^ *# \[END {name}\]$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{path} has no {name} between START and END"
    # Not textwrap.dedent: the first line, whatever follows, sets the indentation.
    lines = found[1].rstrip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] if line[:indent].isspace() or not indent else line for line in lines).rstrip() + "\n"


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page that lead into this repository."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(prose) if "://" not in target and not target.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        number = 0
        anchor = plain
        while anchor in found:
            number += 1
            anchor = f"{plain}-{number}"
        found.add(anchor)
    return found


def resolve_link(page: Path, link: str) -> tuple[Path, str]:
    """The file and the anchor that a link leads to."""
    path, _, anchor = unquote(link).partition("#")
    return (page.parent / path).resolve() if path else page, anchor


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    text = page.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1]
    table = re.search(r"(^\|.*\n)+", text, re.MULTILINE)
    assert table, f"no table below {heading!r}"
    lines = table[0].strip().split("\n")[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
