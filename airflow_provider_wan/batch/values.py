# SPDX-License-Identifier: Apache-2.0
"""Values of fields as tables hold them: typed by pandas, NumPy or Arrow, or as text in a CSV or a template.

A value is converted only where nothing is lost and nothing is guessed: ``5.0`` is the integer 5, ``5.5`` stays a fault.
"""

from __future__ import annotations

import ast
import json
import re
from decimal import Decimal
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError

INTEGERS = frozenset({"duration", "seed", "frame"})
BOOLEANS = frozenset({"prompt_extend", "audio", "watermark"})
IMAGES = frozenset({"image", "img_url", "last_frame"})
TEXTS = frozenset({"prompt", "negative_prompt"})
NAME = "name"  # "NA" and "null" are names
#: Fields of text that may come from a column of ids: integers, or floats where pandas has a missing one.
IDS = frozenset({NAME, "idempotency_key"})
#: What pandas, NumPy, Spark and spreadsheets write for a missing value.
MISSING_TEXTS = frozenset(
    {
        "",
        "nan",
        "NaN",
        "NAN",
        "-nan",
        "-NaN",
        "NaT",
        "None",
        "none",
        "null",
        "NULL",
        "Null",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "#NA",
        "<NA>",
        "\\N",
    }
)
_MISSING_TYPES = frozenset({"NAType", "NaTType"})
_BYTE_ORDER_MARK = "\ufeff"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_INTEGER = re.compile(r"([+-]?[0-9]{1,19})(?:[.,]0+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}[.,]000")


def is_missing(value: object) -> bool:
    """Return whether a table holds no value here: None, NaN, NaT, ``pandas.NA``, or a text that stands for them.

    :param value: value of a cell.
    """
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return True
    if isinstance(value, str):
        return value.strip() in MISSING_TEXTS
    if isinstance(value, float):
        return value != value
    return isinstance(value, Decimal) and value.is_nan()


def convert_value(name: str, value: Any) -> Any:
    """Convert a typed value to the plain value of its field; None if it is missing.

    Values of other types are returned unchanged: validation names them.

    :param name: name of the field.
    :param value: the value, as JSON, Arrow, NumPy or pandas give it.
    :raises WanValidationError: if bytes are not text in UTF-8.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if is_missing(value) and not (name == NAME and isinstance(value, str)):
        return None
    if name in TEXTS and isinstance(value, str):
        return value.removeprefix(_BYTE_ORDER_MARK)
    if name in INTEGERS and isinstance(value, float | Decimal) and _is_integral(value):
        return int(value)
    if name in IDS and isinstance(value, int | float | Decimal) and not isinstance(value, bool) and _is_integral(value):
        return str(int(value))
    if name in BOOLEANS and isinstance(value, int | float | Decimal) and value in (0, 1):
        return bool(value)
    if isinstance(value, bytes) and name not in INTEGERS | BOOLEANS | IMAGES:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise WanValidationError(name, f"{len(value)} bytes", "must be text in UTF-8") from None
    return value


def _is_integral(value: Any) -> bool:
    return bool(abs(value) < 1e18 and value == int(value))


def parse_cell(name: str, text: str) -> Any:
    """Convert the text of a CSV cell, or of a template, to the type of its field.

    :param name: name of the field.
    :param text: text of the cell.
    :raises WanValidationError: if the text is not a value of that type.
    """
    text = text if name in TEXTS else text.strip()
    if name in INTEGERS:
        match = _INTEGER.fullmatch(text)
        if match is None:
            raise WanValidationError(name, text, "must be an integer")
        if _THOUSANDS.fullmatch(text):
            rule = "must be an integer, and may be one with a thousands separator"
            raise WanValidationError(name, text, rule, f"Write {match[1]}000 or {match[1]}")
        return int(match[1])
    if name in BOOLEANS:
        word = text.lower()
        if word in ("1.0", "0.0"):  # how pandas writes a column of booleans in which one is missing
            word = word[0]
        if word not in (*_TRUE, *_FALSE):
            raise WanValidationError(name, text, "must be true or false")
        return word in _TRUE
    return text


def parse_literal(text: str) -> Any:
    """Convert the text that a template renders a list or a mapping to: JSON or Python.

    :param text: the text.
    :raises ValueError: if it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(str(error)) from None


def dump_stably(value: Any) -> str:
    """Return text that is the same for equal values: JSON, or else what Python writes of them.

    :param value: a value that a Dag gives, such as a row from pandas; its keys may be numbers as well as strings.
    """
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except TypeError:
        return repr(value)
