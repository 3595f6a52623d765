# SPDX-License-Identifier: Apache-2.0
"""
Metrics, sent through Airflow's own metrics (StatsD, Datadog or OpenTelemetry, as configured in ``[metrics]``).

This module is below all layers. It imports Airflow only where Airflow is already imported; without it, nothing is
counted. The names are few and fixed; no id, URL or name of a Dag is part of one.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

NO_RESPONSE: Final = "no_response"

_in_flight = 0


def classify_call(method: str, url: str) -> str:
    """
    Return the kind of a call to the API: ``submit``, ``get``, ``list``, ``cancel`` or ``other``.

    :param method: HTTP method.
    :param url: URL of the call.
    """
    path = urlsplit(url).path
    if path.endswith("/requests"):
        return "submit" if method == "POST" else "list"
    if "/requests/" in path:
        return "cancel" if method == "DELETE" else "get"
    return "other"


def count_response(method: str, url: str, status: int | None) -> None:
    """
    Count a call to the API.

    :param method: HTTP method.
    :param url: URL of the call.
    :param status: HTTP status of the response; None if there was none.
    """
    increment(f"wan.api.{classify_call(method, url)}.{NO_RESPONSE if status is None else status}")


@contextmanager
def track_in_flight(requests: int = 1) -> Iterator[None]:
    """
    Report how many requests this process waits for.

    :param requests: number of requests to add while the context lasts.
    """
    _add_in_flight(requests)
    try:
        yield
    finally:
        _add_in_flight(-requests)


def initialize() -> None:
    """Import and connect Airflow's metrics client, so that the first metric causes no delay."""
    with suppress(Exception):
        _stats()


def increment(name: str, by: int = 1) -> None:
    """
    Add to a counter.

    :param name: name of the metric.
    :param by: amount.
    """
    _emit("incr", name, by)


def record_seconds(name: str, value: float) -> None:
    """
    Record a duration.

    :param name: name of the metric.
    :param value: seconds.
    """
    _emit("timing", name, value * 1000.0)


def _add_in_flight(change: int) -> None:
    global _in_flight
    _in_flight += change
    _emit("gauge", f"wan.in_flight.{_host()}", _in_flight)


def _emit(method: str, name: str, value: float) -> None:
    # Before Airflow is imported there is no client; and no metric may break a task.
    if "airflow" not in sys.modules:
        return
    try:
        getattr(_stats(), method)(name, value)
    except Exception as error:
        log.debug("%s is not counted: %s", name, type(error).__name__)


@cache
def _host() -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", os.environ.get("HOSTNAME") or socket.gethostname())


@cache
def _stats() -> Any:
    from airflow.providers.common.compat.sdk import Stats

    try:
        from airflow.sdk.configuration import conf
        from airflow.sdk.observability.metrics import stats_utils
    except ImportError:
        return Stats
    # From 3.3 on the client must be initialized: Airflow does so in a task's process, but not in the triggerer's.
    legacy = conf.getboolean("metrics", "legacy_names_on", fallback=True)
    Stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
    return Stats
