# SPDX-License-Identifier: Apache-2.0
"""
Spans for OpenTelemetry, in the trace of the task, where Airflow's tracing is on (``[traces] otel_on``).

This module is below all layers, as the metrics are. Without Airflow, and where tracing is off, nothing is recorded. An
attribute is an id, a number or a name: no prompt, no URL, no message of an error.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

SetAttributes = Callable[..., None]


@contextmanager
def record_span(name: str, **attributes: Any) -> Iterator[SetAttributes]:
    """
    Record what happens inside as a span.

    :param name: name of the span.
    :param attributes: its attributes, to which ``wan.`` is prefixed; those that are None are left out.
    :returns: sets more attributes.
    """
    tracer = _find_tracer()
    if tracer is None:
        yield lambda **_: None
        return
    given = _build_attributes(attributes)
    # The text of an exception may hold a URL: only its class is recorded.
    with tracer.start_as_current_span(
        name, attributes=given, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield lambda **more: span.set_attributes(_build_attributes(more))
        except Exception as error:
            _record_error(span, error)
            raise


def _build_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"wan.{name}": value for name, value in attributes.items() if value is not None}


def _record_error(span: Any, error: Exception) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


def _find_tracer() -> Any:
    """Return the tracer that Airflow has configured; one that records nothing where it has not."""
    if "airflow" not in sys.modules:
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        log.debug("OpenTelemetry is not installed: no spans are recorded")
        return None
    return trace.get_tracer("airflow_provider_wan")
