# SPDX-License-Identifier: Apache-2.0
"""Configuration of the documentation site (Sphinx)."""

from __future__ import annotations

import os
import tempfile

# Autodoc imports the package, and Airflow creates its home folder when it is imported.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-docs-"))

from airflow_provider_wan import __version__

project = "airflow-provider-wan"
author = "The airflow-provider-wan authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence"]
# Anchors as GitHub makes them, so that a link works in both places.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = f"airflow-provider-wan {release}"
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
copybutton_exclude = ".linenos, .gp, .go"
