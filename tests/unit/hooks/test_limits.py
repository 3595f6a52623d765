# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.hooks.wan import WanHook


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set options of ``[wan]`` in Airflow's configuration."""

    def set_options(**options: str) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__WAN__{name.upper()}", value)

    return set_options


def test_a_connection_can_raise_a_price_and_not_lower_it(connection: Any, caplog: pytest.LogCaptureFixture) -> None:
    connection(extra={"prices": {"720P": 0.01, "1080P": 0.5}})
    with caplog.at_level(logging.WARNING):
        assert WanHook().config.prices == {"720P": 0.10, "1080P": 0.5}
    assert "wan_default: its prices for wan2.6-i2v at 720P are lower" in caplog.text
    assert "[wan] prices" in caplog.text


def test_the_deployment_and_the_task_can_lower_a_price(connection: Any, deploy: Any) -> None:
    connection(extra={"prices": {"720P": 0.01, "wan2.6-i2v": {"1080P": 0.01}}})
    deploy(prices='{"720P": 0.05, "1080P": 0.08}')
    assert WanHook().config.prices == {"720P": 0.05, "1080P": 0.08}
    assert WanHook(prices={"720P": 0.02}).config.prices == {"720P": 0.02, "1080P": 0.08}


def test_a_price_that_only_the_connection_says_serves_for_reports_and_for_no_limit(
    connection: Any, deploy: Any
) -> None:
    connection(extra={"prices": {"wan2.7-i2v": {"720P": 0.01, "1080P": 9}, "480P": 0.01}})
    config = WanHook().config
    assert config.cost("720P", 10, "wan2.7-i2v") == pytest.approx(0.1)
    assert config.get_limit_prices(None) == config.prices
    assert config.get_limit_prices(1.0) == {"720P": 0.10, "1080P": 0.15, "wan2.7-i2v": {}}
    deploy(prices='{"wan2.7-i2v": {"720P": 0.2}}')
    assert WanHook().config.get_limit_prices(1.0)["wan2.7-i2v"] == {"720P": 0.2}


def test_the_lists_of_task_and_deployment_are_required_beside_the_connections(connection: Any, deploy: Any) -> None:
    connection(extra={"result_hosts": "evil.example.com"})
    deploy(result_hosts="*.example.com, storage.example.org")
    config = WanHook(result_hosts=["storage.example.com"]).config
    assert config.required_hosts == (("storage.example.com",), ("*.example.com", "storage.example.org"))
    assert config.result_hosts == ("evil.example.com",)


def test_the_model_of_the_deployment_goes_before_the_connections(connection: Any, deploy: Any) -> None:
    connection(extra={"model": "wan2.7-i2v"})
    assert WanHook().config.model == "wan2.7-i2v"
    deploy(model="wan2.6-i2v")
    assert WanHook().config.model == "wan2.6-i2v"


@pytest.mark.parametrize(
    ("extra", "option", "rate"),
    [({}, "20", 20), ({"status_requests_per_second": 100}, "20", 20), ({"status_requests_per_second": 2}, "20", 2)],
)
def test_a_connection_can_lower_the_rate_and_not_raise_it(
    connection: Any, deploy: Any, extra: Any, option: str, rate: float
) -> None:
    connection(extra=extra)
    deploy(status_requests_per_second=option)
    assert WanHook().config.status_requests_per_second == rate


def test_the_deployment_says_where_processes_share_the_rate_before_a_connection(connection: Any, deploy: Any) -> None:
    connection(extra={"limits_uri": "file:///connections"})
    assert WanHook().config.limits_uri == "file:///connections"
    deploy(limits_uri="s3://aws_limits@bucket/ledger")
    assert WanHook().config.limits_uri == "s3://aws_limits@bucket/ledger"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prices", "cheap"),
        ("prices", '{"720P": -1}'),
        ("prices", '{"720P": NaN}'),
        ("prices", "[1]"),
        ("result_hosts", "https://storage.example.com"),
        ("status_requests_per_second", "0"),
        ("status_requests_per_second", "fast"),
        ("limits_uri", "https://bucket.example.com"),
    ],
)
def test_an_invalid_option_of_the_deployment_is_named(connection: Any, deploy: Any, option: str, value: str) -> None:
    connection()
    deploy(**{option: value})
    with pytest.raises(WanValidationError, match=rf"^\[wan\] {option}"):
        _ = WanHook().config


def test_an_empty_option_is_unset(connection: Any, deploy: Any) -> None:
    connection(extra={"model": "wan2.7-i2v"})
    deploy(prices="", result_hosts=" ", model="", status_requests_per_second="")
    config = WanHook(prices="None", result_hosts="").config
    assert (config.model, config.required_hosts, config.status_requests_per_second) == ("wan2.7-i2v", (), 5.0)
    assert config.prices == {"720P": 0.10, "1080P": 0.15}


def test_prices_of_a_task_may_be_the_text_of_a_template(connection: Any) -> None:
    connection()
    assert WanHook(prices=json.dumps({"720P": 0.3})).config.prices["720P"] == 0.3
