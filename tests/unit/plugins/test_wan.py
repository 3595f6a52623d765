# SPDX-License-Identifier: Apache-2.0
"""The plugin as Airflow registers it."""

from __future__ import annotations

import pytest

from airflow_provider_wan.plugins.wan import build_views


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://airflow.example.com/team/a/", "/team/a/wan/"),
        ("https://airflow.example.com", "/wan/"),
        ("/team", "/team/wan/"),
        ("", "/wan/"),
    ],
)
def test_tabs_and_icons_are_below_the_path_under_which_airflow_is_served(
    monkeypatch: pytest.MonkeyPatch, base_url: str, root: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    views = build_views()
    addresses = [view[name] for view in views for name in ("href", "icon", "icon_dark_mode")]
    assert [address for address in addresses if not address.startswith(root)] == []
    assert {view["href"] for view in views} >= {root, f"{root}dags/{{DAG_ID}}/runs/{{RUN_ID}}"}
