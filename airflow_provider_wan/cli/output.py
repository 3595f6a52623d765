# SPDX-License-Identifier: Apache-2.0
"""What the commands print: tables for people, JSON for programs, and nothing that is secret."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_wan.api.redaction import clean_text, redact
from airflow_provider_wan.ledger.stores.base import read_entries

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def format_time(seconds: float | None) -> str | None:
    """Return a time in ISO 8601.

    :param seconds: Unix seconds, or None.
    """
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def format_usd(amount: float | None) -> str:
    """Return an amount of US dollars for people.

    :param amount: US dollars; None: unknown.
    """
    return "-" if amount is None else f"${amount:.2f}"


def format_line(value: object) -> str:
    """Return a value as one line of text: what the API says may have line breaks, and codes that control a terminal.

    :param value: the value.
    """
    return " ".join(_CONTROLS.sub(" ", str(value)).split())


def print_json(value: object) -> None:
    """Print one JSON document.

    :param value: what to print.
    """
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_list(values: Iterable[Mapping[str, Any]]) -> int:
    """Print one JSON array, an element per line, as the values come.

    :param values: the elements.
    :returns: number of elements.
    """
    count = 0
    print("[", end="")
    for value in values:
        print("," if count else "", json.dumps(value, ensure_ascii=False), sep="\n", end="")
        count += 1
    print("\n]" if count else "]")
    return count


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns, with numbers and amounts to the right.

    :param columns: headings.
    :param rows: rows of values.
    """
    texts = [list(columns), *([format_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in texts) for index in range(len(columns))]
    right = [
        all(text[index].lstrip("$").replace(".", "").isdigit() for text in texts[1:]) for index in range(len(columns))
    ]
    for row in texts:
        cells = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ]
        print("  ".join(cells).rstrip())


def print_error(error: BaseException) -> None:
    """Print an error in one line on standard error.

    :param error: the error.
    """
    text = format_line(clean_text(redact(str(error)))) or "no reason given"
    print(f"wan-provider: {type(error).__name__}: {text}", file=sys.stderr)


@contextlib.contextmanager
def show_skipped_entries() -> Iterator[None]:
    """Print on standard error which entries of the ledger can't be read: their clips may be paid for."""
    logger, handler = logging.getLogger(read_entries.__module__), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("wan-provider: %(message)s"))
    before = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def keep_logs_out_of_the_output() -> None:
    """Show only errors of libraries, and those on standard error: Airflow prints its log to standard output."""
    # Airflow reads it when it is imported, which is later in this process.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    import airflow.settings  # noqa: F401 - it configures structlog, which is then configured anew
    import structlog

    logging.getLogger().setLevel(logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
