# SPDX-License-Identifier: Apache-2.0
"""Arguments of the operators, read and checked."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError


def parse_seconds(field: str, value: timedelta | float) -> float:
    """
    Read a length of time.

    :raises WanValidationError: naming the field.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise WanValidationError(field, value, "must be a timedelta or a number of seconds, above 0")
    return float(seconds)


def parse_usd(value: Any) -> float | None:
    """
    Read an amount of US dollars; None stands for no limit.

    :raises WanValidationError: where it is none.
    """
    # A template renders to text, an unset one to "None" or nothing.
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none")):
        return None
    try:
        dollars = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        dollars = math.nan
    if not 0 <= dollars < math.inf:
        raise WanValidationError("max_cost", value, "must be US dollars, 0 or more")
    return dollars


def parse_bool(field: str, value: Any) -> bool:
    """
    Read a switch, which a template renders to text.

    :raises WanValidationError: where it is neither true nor false.
    """
    word = str(value).strip().lower()
    if word not in ("true", "false", "none", ""):
        raise WanValidationError(field, value, "must be true or false")
    return word == "true"


def parse_positive_int(field: str, value: Any) -> int:
    """
    Read a number of things, at least one.

    :raises WanValidationError: where it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WanValidationError(field, value, "must be an integer, 1 or more")
    return value
