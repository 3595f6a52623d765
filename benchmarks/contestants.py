# SPDX-License-Identifier: Apache-2.0
"""The triggers that wait for the same jobs: ours, and those of peers with their hooks pointed at the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Common arguments.
POLL_SECONDS = 10.0


@dataclass(frozen=True)
class Contestant:
    """
    :param classpath: what Airflow loads.
    :param arguments: the trigger's arguments for one job.
    :param connection: (id, its fields) for a server's port.
    :param package: the package whose version is reported.
    """

    classpath: str
    arguments: Callable[[int, float], Mapping[str, Any]]
    connection: Callable[[int], tuple[str, Mapping[str, Any]]]
    package: str


def _wan(number: int, end: float) -> Mapping[str, Any]:
    return {"request_id": f"r{number:06}", "end_time": end, "poll_interval": POLL_SECONDS}


CONTESTANTS: Mapping[str, Contestant] = {
    "ours": Contestant(
        "airflow_provider_wan.triggers.wan.WanI2VTrigger",
        _wan,
        lambda port: ("wan_default", {"conn_type": "wan", "host": f"http://127.0.0.1:{port}/wan", "password": "key"}),
        "airflow-provider-wan",
    ),
    "dbt-cloud": Contestant(
        "benchmarks.over_http.DbtCloudRunJobTrigger",
        lambda number, end: {
            "conn_id": "dbt",
            "run_id": number,
            "end_time": end,
            "poll_interval": POLL_SECONDS,
            "account_id": 1,
        },
        lambda port: ("dbt", {"conn_type": "dbt_cloud", "login": "1", "password": "t", "host": f"127.0.0.1:{port}"}),
        "apache-airflow-providers-dbt-cloud",
    ),
    "http sensor": Contestant(
        "airflow.providers.http.triggers.http.HttpSensorTrigger",
        lambda number, end: {"http_conn_id": "http", "endpoint": f"http/{number}", "poke_interval": POLL_SECONDS},
        lambda port: ("http", {"conn_type": "http", "host": f"http://127.0.0.1:{port}"}),
        "apache-airflow-providers-http",
    ),
    "anthropic": Contestant(
        "airflow.providers.anthropic.triggers.batch.AnthropicBatchTrigger",
        lambda number, end: {
            "conn_id": "anthropic",
            "batch_id": str(number),
            "poll_interval": POLL_SECONDS,
            "end_time": end,
        },
        lambda port: (
            "anthropic",
            {"conn_type": "anthropic", "password": "k", "host": f"http://127.0.0.1:{port}"},
        ),
        "apache-airflow-providers-anthropic",
    ),
    "openai": Contestant(
        "airflow.providers.openai.triggers.openai.OpenAIBatchTrigger",
        lambda number, end: {
            "conn_id": "openai",
            "batch_id": str(number),
            "poll_interval": POLL_SECONDS,
            "timeout": 36000.0,
        },
        lambda port: ("openai", {"conn_type": "openai", "password": "k", "host": f"http://127.0.0.1:{port}/openai"}),
        "apache-airflow-providers-openai",
    ),
    # Airflow's own part: no requests are sent.
    "idle": Contestant(
        "benchmarks.sleeper.Sleeper",
        lambda number, end: {},
        lambda port: ("none", {"conn_type": "http"}),
        "apache-airflow",
    ),
}


def environment(name: str, port: int) -> dict[str, str]:
    """The connection, as Airflow finds it in the environment."""
    conn_id, fields = CONTESTANTS[name].connection(port)
    return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields)}
