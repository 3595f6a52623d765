# SPDX-License-Identifier: Apache-2.0
"""
Checks the model of the claim protocol with SPIN: as designed, with each safeguard taken out, and at the edges.

``python -m dev.model`` checks everything, prints a table and fails if any search ends otherwise than expected.
``--write`` also puts the figures into ``docs/model.json`` and the tables of the model's page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dev.model.search import Expected, Search, SearchResult, missing_tools, run_search

ROOT = Path(__file__).resolve().parents[2]

RETRY = ("WORKERS=2",)
OTHER_TASK = ("WORKERS=2", "RETRY=9")
MONEY = ("PAID_TWICE_ONLY",)
LIES = ("OUTSIDE", "LIST_HIDES")


def safeguard(title: str, *defines: str, expected: Expected = Expected.PAID_TWICE) -> Search:
    """Return the search without one safeguard."""
    extra = MONEY if expected is Expected.PAID_TWICE else ()
    return Search("safeguard", title, (*RETRY, *extra, *defines), expected)


def edge(title: str, *defines: str) -> Search:
    """Return the search just beyond one bound of the envelope."""
    return Search("edge", title, (*RETRY, *MONEY, *defines), Expected.PAID_TWICE)


def sum_rule() -> list[Search]:
    """Return pairs of searches that show that the bound on ``absence_confirm_interval`` is exact."""
    searches = []
    for age, pause, post in itertools.product((0, 1), (0, 1), (1, 2)):
        needed = age + pause + post + 1
        constants = (f"MAX_INTENT_AGE={age}", f"PAUSE={pause}", f"LONGEST_POST={post}", "LIST_LAG=1")
        parts = f"{age} + {pause} + {post} + 1"
        for interval, expected in ((needed, Expected.NO_ERROR), (needed - 1, Expected.PAID_TWICE)):
            defines = (*RETRY, *MONEY, *constants, f"ABSENCE_CONFIRM_INTERVAL={interval}")
            searches.append(Search("sum", f"interval {interval}, sum {parts}", defines, expected))
    return searches


SEARCHES: tuple[Search, ...] = (
    Search("designed", "the owner and its own retry", RETRY, Expected.NO_ERROR),
    Search("designed", "the owner and another task", OTHER_TASK, Expected.NO_ERROR),
    Search("designed", "the owner and its retry, any of which may die", (*RETRY, "DEATHS"), Expected.NO_ERROR),
    Search("designed", "the owner and another task, any of which may die", (*OTHER_TASK, "DEATHS"), Expected.NO_ERROR),
    Search("designed", "two workers, perhaps on two accounts", (*RETRY, "ACCOUNTS"), Expected.NO_ERROR),
    Search("designed", "nobody freezes: the owner and its retry both end", (*RETRY, "CALM"), Expected.NO_ERROR),
    Search("designed", "nobody freezes: the owner and another task both end", (*OTHER_TASK, "CALM"), Expected.NO_ERROR),
    Search("designed", "nobody freezes: all three end", ("WORKERS=3", "CALM"), Expected.NO_ERROR),
    Search(
        "designed",
        "outside of the envelope: the list hides everything; at most one payment, and one more for each attempt",
        (*RETRY, *LIES, "MAX_ACCEPTED=3"),
        Expected.NO_ERROR,
    ),
    Search("spare", "the first scan; the wait stays", (*RETRY, "NO_FIRST_SCAN"), Expected.NO_ERROR),
    Search("spare", "the lease", (*OTHER_TASK, "NO_LEASE"), Expected.NO_ERROR),
    safeguard("compare-and-set", "NO_COMPARE_AND_SET"),
    safeguard("the intent in the ledger", "NO_INTENT"),
    safeguard("the connection is made before the intent", "CONNECT_AFTER_INTENT"),
    safeguard("`max_intent_age`: an old intent is not followed by a POST", "NO_AGE_CHECK"),
    safeguard("the age counts from before the write of the intent", "AGE_FROM_RETURN"),
    safeguard("the age is measured by a clock that can't be set", "AGE_BY_WALL_CLOCK"),
    safeguard("an intent whose write failed is not followed by a POST", "INTENT_WRITE_UNCHECKED"),
    safeguard("the POST is never repeated by the HTTP library", "RETRIED_POST"),
    safeguard("an error of a gateway is in doubt, not a refusal", "GATEWAY_IS_REFUSAL"),
    safeguard("the second scan", "NO_SECOND_SCAN"),
    safeguard("the wait of `absence_confirm_interval` between the scans", "ABSENCE_CONFIRM_INTERVAL=0"),
    safeguard("the interval is measured by a clock that can't be set", "INTERVAL_BY_WALL_CLOCK"),
    safeguard("a first scan counts only while the entry is unchanged", "SCAN_OUTLIVES_ENTRY"),
    safeguard("the positive control", "NO_POSITIVE_CONTROL"),
    safeguard("an entry of another account stops the attempt", "ACCOUNTS", "NO_ACCOUNT_CHECK"),
    safeguard("the account is checked in the entry, not made part of its name", "ACCOUNTS", "ACCOUNT_IN_NAME"),
    safeguard("the lease", "CALM", "NO_LEASE", expected=Expected.LIVELOCK),
    safeguard(
        "only a later try supersedes an earlier one", "CALM", "EITHER_TRY_SUPERSEDES", expected=Expected.LIVELOCK
    ),
    safeguard(
        "at most one more payment for each attempt",
        *LIES,
        "MAX_ACCEPTED=3",
        "NO_REPEAT_LIMIT",
        expected=Expected.THIRD_POST,
    ),
    safeguard("the late scan for duplicates", *LIES, "MAX_ACCEPTED=3", "NO_LATER_SCAN", expected=Expected.FORGOTTEN),
    safeguard(
        "the late scan waits for POSTs that may be on their way",
        *LIES,
        "MAX_ACCEPTED=3",
        "LATER_SCAN_AT_ONCE",
        expected=Expected.FORGOTTEN,
    ),
    edge("`absence_confirm_interval` one tick shorter", "ABSENCE_CONFIRM_INTERVAL=3"),
    edge("`max_intent_age` one tick longer", "MAX_INTENT_AGE=2"),
    edge("a freeze between check and send one tick longer", "PAUSE=2"),
    edge("the longest POST one tick longer", "LONGEST_POST=2"),
    edge("the list one tick further behind", "LIST_LAG=2"),
    edge("a clock of the sender one tick beyond `clock_margin`", "STEP_FORWARD=2"),
    Search("edge", "`lease` not longer than the connection takes", (*OTHER_TASK, "CALM", "LEASE=2"), Expected.LIVELOCK),
    *sum_rule(),
)


@dataclass(frozen=True)
class Checked:
    """A search and what came of it."""

    search: Search
    result: SearchResult

    @property
    def as_expected(self) -> bool:
        """Whether it ended as expected."""
        return self.result.found is self.search.expected


def build_table(checked: list[Checked], group: str, headings: tuple[str, str]) -> str:
    """Return the Markdown table of one group of searches."""
    lines = [f"| {headings[0]} | {headings[1]} | states searched |", "|---|---|---:|"]
    lines += [
        f"| {item.search.title} | {item.result.found} | {item.result.states:,} |"
        for item in checked
        if item.search.group == group
    ]
    return "\n".join(lines)


def write_docs(checked: list[Checked]) -> None:
    """Put the figures into the page of the model."""
    figures = [
        {
            "group": item.search.group,
            "title": item.search.title,
            "defines": item.search.defines,
            "found": item.result.found,
            "states": item.result.states,
        }
        for item in checked
    ]
    (page,) = [path for path in (ROOT / "docs").rglob("model.md") if "<!-- model: " in path.read_text("utf-8")]
    page.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")
    headings = {
        "designed": ("searched", "found"),
        "safeguard": ("taken out", "found"),
        "spare": ("taken out", "found"),
        "edge": ("beyond the bound", "found"),
        "sum": ("constants, in ticks", "found"),
    }
    text = page.read_text("utf-8")
    for group, heading in headings.items():
        before, start, rest = text.partition(f"<!-- model: {group} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise SystemExit(f"{page} has no place for the table '{group}'")
        text = f"{before}{start}{build_table(checked, group, heading)}\n{end}{after}"
    page.write_text(text, "utf-8")


def main() -> int:
    """Run the searches; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.model", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into the documentation")
    parser.add_argument("--only", choices=sorted({search.group for search in SEARCHES}), help="one group of searches")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write needs all searches")
    if missing := missing_tools():
        print(missing, file=sys.stderr)
        return 2
    checked = []
    with tempfile.TemporaryDirectory(prefix="wan-model-") as folder:
        for search in SEARCHES:
            if arguments.only not in (None, search.group):
                continue
            item = Checked(search, run_search(search, Path(folder)))
            checked.append(item)
            mark = "ok" if item.as_expected else f"expected {search.expected}"
            figures = f"{item.result.found:22} {item.result.states:>10,}"
            print(f"{search.group:9} {figures}  {search.title}: {mark}", flush=True)
    if not all(item.as_expected for item in checked):
        return 1
    if arguments.write:
        write_docs(checked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
