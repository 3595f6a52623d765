# SPDX-License-Identifier: Apache-2.0
"""The page of the benchmarks agrees with their figures."""

from __future__ import annotations

import json

from benchmarks import page
from benchmarks.report import FOLDER


def test_the_page_is_the_one_that_the_figures_make() -> None:
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == page.page()


def test_every_figure_has_its_command_and_its_date() -> None:
    for path in FOLDER.glob("*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        assert report["machine"]["cores"]
        assert report["versions"]["apache-airflow"]
        assert all(each["measured"]["command"] and each["measured"]["date"] for each in report["results"])
