# SPDX-License-Identifier: Apache-2.0
"""
Figures for Airflow's own metrics (StatsD, Datadog or OpenTelemetry, as ``[metrics]`` says).

This module is below all floors: it imports Airflow only where Airflow is already there, and without it nothing is
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

NO_ANSWER: Final = "no_answer"

_waiting = 0


def kind_of(method: str, url: str) -> str:
    """Name the kind of a call to the API: ``submit``, ``look_up``, ``list``, ``cancel`` or ``other``."""
    path = urlsplit(url).path
    if path.endswith("/requests"):
        return "submit" if method == "POST" else "list"
    if "/requests/" in path:
        return "cancel" if method == "DELETE" else "look_up"
    return "other"


def answered(method: str, url: str, status: int | None) -> None:
    """Count a call to the API. :param status: of its answer; None where none came."""
    count(f"wan.api.{kind_of(method, url)}.{NO_ANSWER if status is None else status}")


@contextmanager
def waiting(requests: int = 1) -> Iterator[None]:
    """Tell how many requests this process waits for."""
    _wait(requests)
    try:
        yield
    finally:
        _wait(-requests)


def prepare() -> None:
    """Import and connect what tells Airflow, so that the first figure holds nobody up."""
    with suppress(Exception):
        _stats()


def count(name: str, by: int = 1) -> None:
    """Add to a counter."""
    _tell("incr", name, by)


def seconds(name: str, value: float) -> None:
    """Note a duration."""
    _tell("timing", name, value * 1000.0)


def _wait(more: int) -> None:
    global _waiting
    _waiting += more
    _tell("gauge", f"wan.in_flight.{_host()}", _waiting)


def _tell(what: str, name: str, value: float) -> None:
    # Before Airflow is imported there is nobody to tell; and no figure is worth a clip.
    if "airflow" not in sys.modules:
        return
    try:
        getattr(_stats(), what)(name, value)
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
    # From 3.3 on somebody has to set them up: Airflow does in a task's process, and not in the triggerer's.
    legacy = conf.getboolean("metrics", "legacy_names_on", fallback=True)
    Stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
    return Stats
