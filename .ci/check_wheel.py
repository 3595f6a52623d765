# SPDX-License-Identifier: Apache-2.0
"""Runs in an environment that holds the wheel and what it asks for: imports all modules, finds the entry points."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import distribution, entry_points

import airflow_provider_wan

EXTRAS = ("airflow_provider_wan.sandbox", "airflow_provider_wan.operators.lineage")

wheel = distribution("airflow-provider-wan")
files = {str(file) for file in wheel.files or ()}
assert "airflow_provider_wan/py.typed" in files, "py.typed is not in the wheel"
# Scripts lie outside the packages' folder.
folders = {file.split("/")[0] for file in files} - {"airflow_provider_wan", ".."}
assert all(name.endswith(".dist-info") for name in folders), f"the wheel brings other folders: {folders}"

imported = 0
for module in pkgutil.walk_packages(airflow_provider_wan.__path__, "airflow_provider_wan."):
    # The sandbox has an extra of its own, and only the provider openlineage asks for the lineage.
    if module.name.startswith(EXTRAS) or module.name.endswith("__main__"):
        continue
    importlib.import_module(module.name)
    imported += 1

(entry,) = (
    each for each in entry_points(group="apache_airflow_provider") if each.module.startswith("airflow_provider_wan")
)
info = entry.load()()
print(f"{wheel.name} {wheel.version}: {imported} modules imported, provider {info['package-name']} found")
