# SPDX-License-Identifier: Apache-2.0
"""What the commands take from the command line."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger.stores.base import DocumentStore

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def parse_moment(field: str, text: str) -> float:
    """Return a moment in Unix seconds.

    :param field: name of the option.
    :param text: a time span such as ``7d`` before now, or a date or time in ISO 8601, in UTC if it names no zone.
    :raises WanValidationError: if it is neither.
    """
    try:
        if match := re.fullmatch(r"(\d{1,9})([mhdw])", text.strip()):
            moment = datetime.now(UTC) - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        else:
            moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise WanValidationError(
            field, text, "must be a span such as 7d or 12h, or a date such as 2026-11-25"
        ) from None


def parse_day(field: str, text: str) -> str:
    """Return a day as ``YYYY-MM-DD``.

    :param field: name of the option.
    :param text: the day.
    :raises WanValidationError: if it is written otherwise, or does not exist.
    """
    try:
        day = date.fromisoformat(text.strip()).isoformat()
    except ValueError:
        day = ""
    if day != text.strip():
        raise WanValidationError(field, text, "must be a day such as 2026-11-25")
    return day


def open_ledger_store(args: argparse.Namespace) -> DocumentStore:
    """Return the ledger of the command line, or else that of tasks that name none.

    :param args: parsed command line.
    :raises WanValidationError: if there is none.
    """
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.ledger import open_store
    from airflow_provider_wan.operators.ledger_context import resolve_ledger_uri

    uri = resolve_ledger_uri(args.ledger)
    if uri.startswith("file://") and not Path(uri.removeprefix("file://")).is_dir():
        raise WanValidationError("--ledger", uri, "is not a folder: no task has written a ledger there yet")
    return open_store(uri, s3_client=lambda: create_s3_client(args.aws_conn_id))


def open_hook(args: argparse.Namespace) -> WanHook:
    """Return the hook of the command line's connection.

    :param args: parsed command line.
    """
    from airflow_provider_wan.hooks.wan import WanHook

    return WanHook(args.wan_conn_id)
