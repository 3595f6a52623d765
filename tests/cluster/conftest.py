# SPDX-License-Identifier: Apache-2.0
"""One cluster for all tests that need one: the services of docker-compose.yml as processes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dev.cluster import Cluster
from dev.stack import ROOT
from dev.testkit.airflow_harness import AirflowHarness
from dev.testkit.statsd import Statsd

DAGS = ("wan_image_to_video", "wan_single_clip", "wan_dataset_backfill")
# The capacity is so small that one triggerer can't run all triggers.
CAPACITY = 4


@pytest.fixture(scope="session")
def statsd() -> Iterator[Statsd]:
    with Statsd() as server:
        yield server


@pytest.fixture(scope="session")
def cluster(statsd: Statsd) -> Iterator[Cluster]:
    """Start the cluster and wait for the example Dags. The database server may have no access to pytest's folders."""
    variables = {"SANDBOX_SPEED": "12", "TRIGGERER_CAPACITY": str(CAPACITY)}
    variables |= {"STATSD_ON": "true", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(statsd.port)}
    with Cluster(ROOT / ".run" / "test-cluster", variables=variables) as cluster:
        cluster.wait_for_dags(*DAGS)
        yield cluster


@pytest.fixture(scope="session")
def harness(cluster: Cluster) -> AirflowHarness:
    return AirflowHarness(cluster)


@pytest.fixture(scope="session")
def yesterday() -> str:
    """Return the day that a run that starts now processes."""
    return f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
