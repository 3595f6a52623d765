# SPDX-License-Identifier: Apache-2.0
"""Spans in OpenTelemetry's own SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from airflow_provider_wan import traces
from airflow_provider_wan.traces import record_span
from tests.unit.operators.conftest import api, run  # noqa: F401 - fixtures


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_find_tracer", lambda: provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_clip_has_a_span_of_its_submission_and_one_of_the_wait(
    run: Any,  # noqa: F811
    spans: InMemorySpanExporter,
    deferrable: bool,
) -> None:
    result = run.try_(prompt="a cat that is nobody's business", deferrable=deferrable)

    submit, wait = spans.get_finished_spans()
    assert (submit.name, wait.name) == ("wan.submit", "wan.wait")
    assert dict(submit.attributes or {}) == {
        "wan.fingerprint": result["fingerprint"],
        "wan.model": "wan2.6-i2v",
        "wan.request_id": result["request_id"],
        "wan.paid": True,
        "wan.estimate": 0.5,
    }
    assert dict(wait.attributes or {})["wan.request_id"] == result["request_id"]
    assert "business" not in str([(each.attributes, each.events) for each in (submit, wait)])


def test_an_error_is_a_class_and_no_message(spans: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), record_span("wan.archive", request_id="r-1", size=None):
        raise RuntimeError("https://host/clip.mp4?X-Amz-Signature=c0ffee")

    (span,) = spans.get_finished_spans()
    assert span.attributes == {"wan.request_id": "r-1", "error.type": "RuntimeError"}
    assert span.status.status_code is StatusCode.ERROR
    assert "c0ffee" not in span.to_json()


def test_without_tracing_nothing_is_recorded_and_nothing_is_needed() -> None:
    code = (
        "import sys, json; from airflow_provider_wan.traces import record_span\n"
        "with record_span('wan.submit', model='m') as set_attributes: set_attributes(paid=True)\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('airflow', 'opentelemetry')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
