# SPDX-License-Identifier: Apache-2.0
"""What is counted, as Airflow's own StatsD client sends it: read from a socket."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from airflow_provider_wan import metrics
from airflow_provider_wan.api.client import RequestsTransport, WanConfig
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.wire import TransportError, request_call, submit_call
from airflow_provider_wan.ledger import Advance
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.ledger import FINGERPRINT, REQUEST
from tests.unit.ledger.conftest import api, clock, ensure, store, submission  # noqa: F401


class Told:
    """Stands where Airflow's stats are."""

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
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    # Nothing is told before somebody has imported Airflow.
    import airflow  # noqa: F401

    found = Told()
    monkeypatch.setattr(metrics, "_stats", lambda: found)
    return found


def test_calls_are_counted_by_kind_and_answer(told: Told) -> None:
    with SandboxServer(api_key="key", render="none") as sandbox:
        config = WanConfig(base_url=sandbox.base_url, api_key="key")
        transport = RequestsTransport(config)
        sandbox.inject("capacity_503")
        transport.send(submit_call(sandbox.base_url, REQUEST))
        transport.send(submit_call(sandbox.base_url, REQUEST))
        transport.send(request_call(sandbox.base_url, "unknown"))
        transport.send(request_call(sandbox.base_url, "unknown", "DELETE"))
        transport.close()
    with pytest.raises(TransportError):
        transport.send(request_call(sandbox.base_url, "unknown"))

    assert told.counts == {
        "wan.api.submit.503": 1,
        "wan.api.submit.200": 1,
        "wan.api.look_up.404": 1,
        "wan.api.cancel.404": 1,
        "wan.api.look_up.no_answer": 1,
    }


def test_each_change_of_a_clip_is_counted_once_and_logged_with_its_request(told, ensure, store, clock, caplog) -> None:  # noqa: F811
    caplog.set_level("INFO")
    ensure()
    answer = {
        "request_id": "r1",
        "status": "success",
        "updated_at": clock() - 3,
        "outcome": {"video_url": "https://r/v"},
    }
    for _ in range(2):
        Advance(store, clock).finish(FINGERPRINT, RequestRecord.parse(answer))
        Advance(store, clock).archive(FINGERPRINT, "r1", "s3://b/k", "0" * 64)
        clock.now += 60

    assert told.counts == {
        "wan.clips.claimed": 1,
        "wan.clips.submitted": 1,
        "wan.clips.succeeded": 1,
        "wan.clips.archived": 1,
        "wan.cost_cents": 50,
    }
    assert told.timings == [("wan.lag", 3000.0)]
    lines = [record.getMessage() for record in caplog.records]
    for state in ("submitted", "succeeded", "archived"):
        assert lines.count(f"Clip {FINGERPRINT} is {state}, request r1") == 1


def test_what_waits_is_told_as_a_gauge_of_this_host(told: Told) -> None:
    with metrics.waiting(), metrics.waiting(3):
        pass

    assert [value for _, value in told.gauges] == [1, 4, 1, 0]
    assert all(re.fullmatch(r"wan\.in_flight\.[\w-]+", name) for name, _ in told.gauges)


def test_a_figure_that_can_not_be_told_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such host")

    monkeypatch.setattr(metrics, "_stats", broken)

    metrics.count("wan.clips.claimed")


def test_airflow_is_not_imported_for_it() -> None:
    code = "import sys; from airflow_provider_wan import metrics as m; m.count('x'); sys.exit('airflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_airflows_own_stats_take_it() -> None:
    stats = metrics._stats()

    for name in ("incr", "gauge", "timing"):
        assert callable(getattr(stats, name))
    metrics.count("wan.clips.claimed")
