# SPDX-License-Identifier: Apache-2.0
"""Parse and validate operator arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    from airflow_provider_wan.media.image_fit import FitOptions

#: Values of ``fit``.
FITS = ("error", "resize", "pad", "crop")


def parse_seconds(field: str, value: timedelta | float) -> float:
    """Parse a duration.

    :param field: name of the argument.
    :param value: seconds, or a timedelta.
    :returns: seconds.
    :raises WanValidationError: if the value is not a positive duration.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise WanValidationError(field, value, "must be a timedelta or a number of seconds, above 0")
    return float(seconds)


def parse_usd(value: Any, field: str = "max_cost") -> float | None:
    """Parse ``max_cost``, or another amount.

    :param value: US dollars, or the text that a template rendered.
    :param field: name of the argument.
    :returns: US dollars; None: no limit.
    :raises WanValidationError: if the value is not an amount in US dollars.
    """
    # A template renders to text, an unset one to "None" or nothing.
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none")):
        return None
    try:
        dollars = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        dollars = math.nan
    if not 0 <= dollars < math.inf:
        raise WanValidationError(field, value, "must be US dollars, 0 or more")
    return dollars


def parse_bool(field: str, value: Any) -> bool:
    """Parse a boolean, which a template renders to text.

    :param field: name of the argument.
    :param value: a boolean, or its text; None and an empty text are false.
    :raises WanValidationError: if the value is neither true nor false.
    """
    word = str(value).strip().lower()
    if word not in ("true", "false", "none", ""):
        raise WanValidationError(field, value, "must be true or false")
    return word == "true"


def parse_flag(field: str, value: Any) -> bool:
    """Validate a switch that is not templated.

    :param field: name of the argument.
    :param value: a boolean.
    :raises WanValidationError: if the value is not a boolean.
    """
    if not isinstance(value, bool):
        raise WanValidationError(field, value, "must be True or False")
    return value


def parse_positive_int(field: str, value: Any) -> int:
    """Validate a count.

    :param field: name of the argument.
    :param value: an integer.
    :raises WanValidationError: if the value is not an integer, 1 or more.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WanValidationError(field, value, "must be an integer, 1 or more")
    return value


def parse_choice(field: str, value: Any, allowed: Sequence[str]) -> Any:
    """Validate one of several values.

    :param field: name of the argument.
    :param value: the value.
    :param allowed: the values that are allowed.
    :returns: the value.
    :raises WanValidationError: if the value is not allowed.
    """
    if value not in allowed:
        raise WanValidationError(field, value, f"must be one of {', '.join(allowed)}")
    return value


def parse_clip_field(name: str, value: Any) -> Any:
    """Convert a value of a field as those of a table are, and the text that a template rendered to the field's type.

    :param name: name of the field.
    :param value: its value.
    :returns: the value; None: it is not set.
    :raises WanValidationError: if the text is not a value of that type.
    """
    from airflow_provider_wan.batch.values import convert_value, parse_cell

    if not isinstance(value, str):
        return convert_value(name, value)
    # A template without a value renders to "None".
    if value.strip() == "None" or (name in ("seed", "frame", "audio_url") and not value.strip()):
        return None
    return parse_cell(name, value)


def build_fit_options(fit: str, pad_fill: Any, crop_anchor: Any, frame: Any) -> FitOptions:
    """Return how images are adapted.

    :param fit: the argument of that name.
    :param pad_fill: likewise.
    :param crop_anchor: likewise.
    :param frame: likewise; an integer, or the text that a template rendered.
    :raises WanValidationError: if a value is invalid.
    """
    from airflow_provider_wan.media.image_fit import Fit, FitOptions

    return FitOptions(Fit(fit), pad_fill, crop_anchor, parse_clip_field("frame", frame))
