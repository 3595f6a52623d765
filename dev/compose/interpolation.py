# SPDX-License-Identifier: Apache-2.0
"""``${NAME}`` in a compose file, and files of variables, as the Compose Specification has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?+])(?P<word>[^}]*))?\})"
)


class MissingVariableError(ValueError):
    """A variable that the file requires is not set."""


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace the references in all texts of a YAML value (not in the keys).

    :raises MissingVariableError: for ``${NAME:?message}`` where NAME is empty or unset.
    """
    if isinstance(value, dict):
        return {key: interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, rule, word = match["name"] or match["plain"], match["rule"] or "", match["word"] or ""
        value = variables.get(name)
        there = bool(value) if rule.startswith(":") else value is not None
        if rule.endswith("+"):
            return word if there else ""
        if there or not rule:
            return value or ""
        if rule.endswith("?"):
            raise MissingVariableError(f"{name} is not set: {word}")
        return word

    return _REFERENCE.sub(found, value)


def read_variables(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines; comments and empty lines are skipped."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith("#"):
            found[name.strip()] = value.strip()
    return found
