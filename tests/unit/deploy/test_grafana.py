# SPDX-License-Identifier: Apache-2.0
"""The dashboard shows the metrics that the reference has, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from dev.stack import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "wan-clips.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"airflow_wan_[a-z_]+(?:\.\+[^\"}]*)?")


def find_metrics() -> set[str]:
    """The metrics of all queries, without Airflow's prefix."""
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert all(METRIC.search(query) for query in queries)
    return {name.removeprefix("airflow_") for query in queries for name in METRIC.findall(query)}


def read_documented_metrics() -> Iterator[str]:
    """The metrics of the reference, as StatsD's exporter for Prometheus names them."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    for name, meaning in re.findall(r"^\| `(wan\.[^`]+)` \| [a-z]+ \| (.+) \|$", page, re.MULTILINE):
        flat = name.replace(".", "_")
        if "<state>" in name:
            yield from (flat.replace("<state>", state) for state in re.findall(r"`(\w+)`", meaning))
        elif "<kind>" in name:
            kinds = re.findall(r"`(\w+)`", meaning.split("is", 1)[1].split(";")[0])
            yield from (flat.replace("<kind>", kind).replace("<answer>", ".+") for kind in kinds)
        else:
            yield flat.replace("<host>", ".+")


def test_each_metric_of_the_dashboard_exists_and_each_one_that_exists_is_on_it() -> None:
    documented = set(read_documented_metrics())
    assert len(documented) >= 16
    assert find_metrics() - {"wan_api_.+_(4..|5..|no_response)"} == documented


def test_panels_have_a_place_of_their_own_and_an_explanation() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["description"]
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
