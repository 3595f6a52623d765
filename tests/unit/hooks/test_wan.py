# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_wan.api.config import DEFAULT_BASE_URL
from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.hooks.wan import WanHook
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer
from tests.unit.conftest import KEY


def test_the_connection_becomes_the_configuration(connection: Any) -> None:
    extra = {
        "organization_id": "org-7",
        "model": "wan2.6-i2v-flash",
        "status_requests_per_second": 2,
        "result_hosts": ["Storage.example.com"],
        "prices": {"720P": 0.2},
    }
    connection("https://proxy.example.com/queue/", extra=extra)
    config = WanHook().config
    assert config.api_key == KEY
    assert config.base_url == "https://proxy.example.com/queue"
    assert config.organization_id == "org-7"
    assert config.model == "wan2.6-i2v-flash"
    assert config.status_requests_per_second == 2.0
    assert config.result_hosts == ("storage.example.com",)
    assert config.prices == {"720P": 0.2, "1080P": 0.15}


def test_what_a_form_leaves_empty_has_its_default(connection: Any) -> None:
    empty = {"organization_id": "", "model": "", "status_requests_per_second": "", "result_hosts": "", "prices": ""}
    connection("", extra=empty)
    config = WanHook().config
    assert config.base_url == DEFAULT_BASE_URL
    assert config.organization_id is None
    assert config.model == "wan2.6-i2v"
    assert config.status_requests_per_second == 5.0
    assert config.result_hosts == ()
    assert config.prices == {"720P": 0.10, "1080P": 0.15}


def test_what_a_form_gives_as_text_is_understood(connection: Any) -> None:
    connection(extra={"status_requests_per_second": "2.5", "result_hosts": "a.com, b.com", "prices": '{"1080P": 1}'})
    config = WanHook().config
    assert config.status_requests_per_second == 2.5
    assert config.result_hosts == ("a.com", "b.com")
    assert config.prices["1080P"] == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status_requests_per_second", "fast"),
        ("status_requests_per_second", -1),
        ("result_hosts", 7),
        ("result_hosts", "https://storage.example.com"),
        ("limits_uri", "limits"),
        ("limits_uri", "https://bucket.example.com/limits"),
        ("limits_uri", "s3:///limits"),
        ("limits_uri", "file://limits"),
        ("prices", "cheap"),
        ("prices", [1]),
        ("prices", {"720P": "cheap"}),
    ],
)
def test_a_bad_field_of_the_connection_is_named(connection: Any, field: str, value: Any) -> None:
    connection(extra={field: value})
    with pytest.raises(WanValidationError, match=f"^{field}"):
        _ = WanHook().config


def test_a_connection_without_a_key_says_where_it_goes(connection: Any) -> None:
    connection(key="")
    with pytest.raises(WanValidationError, match="password field"):
        _ = WanHook().config


def test_a_connection_given_as_a_uri_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", f"wan://:{KEY}@api.example.com:8443/queue?model=other")
    config = WanHook().config
    assert config.base_url == "https://api.example.com:8443/queue"
    assert config.model == "other"


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("[fd00::8]:8443/queue", "https://[fd00::8]:8443/queue"),
        ("[fd00::8]/queue", "https://[fd00::8]/queue"),
        ("[::1]:8080/queue", "http://[::1]:8080/queue"),
    ],
)
def test_a_connection_given_as_a_uri_may_have_an_address_of_ipv6(
    monkeypatch: pytest.MonkeyPatch, host: str, base_url: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAN_DEFAULT", f"wan://:{KEY}@{host}")
    assert WanHook().config.base_url == base_url


def test_a_test_of_the_connection_asks_for_the_models_and_submits_nothing(connection: Any) -> None:
    with WireServer([wire.answers(200, {"model_ids": ["wan2.6-i2v"]})]) as server:
        connection(server.url)
        ok, message = WanHook().test_connection()
    assert ok
    assert "Nothing was spent" in message
    assert [seen.head.split()[0] for seen in server.seen] == ["GET"]


def test_a_test_of_the_connection_names_a_model_that_can_not_be_used(connection: Any) -> None:
    with WireServer([wire.answers(200, {"model_ids": ["other"]}), wire.answers(404, {})]) as server:
        connection(server.url)
        ok, message = WanHook().test_connection()
    assert not ok
    assert "wan2.6-i2v" in message
    assert "other" in message


@pytest.mark.parametrize("answer", [wire.answers(401, {"error": "bad key"}), wire.answers(403, {})])
def test_a_test_of_the_connection_says_that_the_key_is_rejected(connection: Any, answer: Any) -> None:
    with WireServer([answer]) as server:
        connection(server.url)
        ok, message = WanHook().test_connection()
    assert not ok
    assert "key is rejected" in message
    assert KEY not in message


def test_a_test_of_a_broken_connection_does_not_raise(connection: Any) -> None:
    connection(extra={"prices": "cheap"})
    ok, message = WanHook().test_connection()
    assert not ok
    assert "prices" in message
    ok, message = WanHook("no_such_connection").test_connection()
    assert not ok
    assert "no_such_connection" in message


async def test_the_triggers_lookups_read_the_connection_once(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer([wire.answers(200, {"request_id": "r1", "status": "queued"})]) as server:
        connection(server.url)
        connects = []
        real = WanHook._connect

        async def counted(self: Any) -> Any:
            connects.append(1)
            return await real(self)

        monkeypatch.setattr(WanHook, "_connect", counted)
        async with WanHook().hub():
            for _ in range(3):
                assert (await WanHook().aget_request("r1")).status == "queued"
        assert len(connects) == 1
        assert len(server.seen) == 3
