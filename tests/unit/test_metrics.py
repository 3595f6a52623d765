# SPDX-License-Identifier: Apache-2.0
"""Which metrics are sent, and when."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from airflow_provider_wan import metrics
from airflow_provider_wan.api.client import HttpTransport, WanConfig
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.wire import TransportError, build_request_by_id, build_submit_request
from airflow_provider_wan.ledger import Ledger
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.ledger import FINGERPRINT, REQUEST
from tests.unit.ledger.conftest import api, clock, store, submit, submitter  # noqa: F401


class FakeStats:
    """Replaces Airflow's metrics client."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: list[tuple[str, float]] = []
        self.timings: list[tuple[str, float]] = []

    def incr(self, name: str, by: int) -> None:
        self.counts[name] += by

    def gauge(self, name: str, value: float) -> None:
        self.gauges.append((name, value))

    def timing(self, name: str, value: float) -> None:
        self.timings.append((name, value))


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> FakeStats:
    # Nothing is sent before Airflow is imported.
    import airflow  # noqa: F401

    fake = FakeStats()
    monkeypatch.setattr(metrics, "_stats", lambda: fake)
    return fake


def test_calls_are_counted_by_kind_and_response(stats: FakeStats) -> None:
    with SandboxServer(api_key="tests-key-1f9d3b", render="none") as sandbox:
        config = WanConfig(base_url=sandbox.base_url, api_key="tests-key-1f9d3b")
        transport = HttpTransport(config)
        sandbox.inject("capacity_503")
        transport.send(build_submit_request(sandbox.base_url, REQUEST))
        transport.send(build_submit_request(sandbox.base_url, REQUEST))
        transport.send(build_request_by_id(sandbox.base_url, "unknown"))
        transport.send(build_request_by_id(sandbox.base_url, "unknown", "DELETE"))
        transport.close()
    with pytest.raises(TransportError):
        transport.send(build_request_by_id(sandbox.base_url, "unknown"))

    assert stats.counts == {
        "wan.api.submit.503": 1,
        "wan.api.submit.200": 1,
        "wan.api.get.404": 1,
        "wan.api.cancel.404": 1,
        "wan.api.get.no_response": 1,
    }


def test_each_transition_is_counted_once_and_logged_with_its_request(
    stats: FakeStats,
    submit: Any,  # noqa: F811
    store: Any,  # noqa: F811
    clock: Any,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    submit()
    answer = {
        "request_id": "r1",
        "status": "success",
        "updated_at": clock() - 3,
        "outcome": {"video_url": "https://r/v"},
    }
    for _ in range(2):
        Ledger(store, clock).record_result(FINGERPRINT, RequestRecord.parse(answer))
        Ledger(store, clock).record_archive(FINGERPRINT, "r1", "s3://b/k", "0" * 64)
        clock.now += 60

    assert stats.counts == {
        "wan.clips.claimed": 1,
        "wan.clips.submitted": 1,
        "wan.clips.succeeded": 1,
        "wan.clips.archived": 1,
        "wan.cost_cents": 50,
    }
    assert stats.timings == [("wan.lag", 3000.0)]
    lines = [record.getMessage() for record in caplog.records]
    for state in ("submitted", "succeeded", "archived"):
        assert lines.count(f"Clip {FINGERPRINT} is {state}, request r1") == 1


def test_requests_in_flight_are_a_gauge_of_this_host(stats: FakeStats) -> None:
    with metrics.track_in_flight(), metrics.track_in_flight(3):
        pass

    assert [value for _, value in stats.gauges] == [1, 4, 1, 0]
    assert all(re.fullmatch(r"wan\.in_flight\.[\w-]+", name) for name, _ in stats.gauges)


def test_a_metric_that_cannot_be_sent_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such host")

    monkeypatch.setattr(metrics, "_stats", broken)

    metrics.increment("wan.clips.claimed")


def test_metrics_do_not_import_airflow() -> None:
    code = (
        "import sys; from airflow_provider_wan import metrics as m; "
        "m.increment('x'); sys.exit('airflow' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_airflows_own_client_accepts_them() -> None:
    stats = metrics._stats()

    for name in ("incr", "gauge", "timing"):
        assert callable(getattr(stats, name))
    metrics.increment("wan.clips.claimed")
