# SPDX-License-Identifier: Apache-2.0
"""The client over real sockets: the paid POST is sent once, whatever happens to the connection."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_provider_wan.api import client as client_module
from airflow_provider_wan.api import errors
from airflow_provider_wan.api.client import HttpTransport, WanClient, WanConfig
from airflow_provider_wan.api.request import I2VRequest
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer
from dev.testkit.tcp_server import unreachable_address

KEY = "key-0123456789abcdef"
REQUEST = I2VRequest("https://images.example.com/cat.jpg", prompt="a cat")


class Pauses(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def build_client(url: str, **config: Any) -> WanClient:
    return WanClient(WanConfig(api_key=KEY, base_url=url, **config), sleep=Pauses())


@pytest.mark.parametrize(
    "death",
    [
        wire.reset_after_request,
        wire.close_after_request,
        wire.half_a_head,
        wire.half_a_body,
        wire.broken_chunks,
        wire.broken_gzip,
        wire.no_http,
        wire.answers(500, {"error": "Internal error"}),
        wire.answers(502, "Bad gateway"),
        wire.answers(504, "Time-out"),
    ],
    ids=lambda death: getattr(death, "__name__", "?"),
)
def test_a_submission_whose_response_is_lost_is_in_doubt_and_sent_once(death: Any) -> None:
    with WireServer([death, wire.ACCEPTED]) as server:
        with pytest.raises(errors.WanInDoubtError):
            build_client(server.url).submit(REQUEST)
        assert len([seen for seen in server.seen if seen.head.startswith("POST")]) <= 1


def test_a_connection_that_dies_at_once_is_never_tried_again_with_the_payment() -> None:
    with WireServer([wire.reset_at_once, wire.ACCEPTED]) as server:
        # Whether the reset comes while connecting or after is up to the kernel.
        with pytest.raises((errors.WanInDoubtError, errors.WanConnectError)):
            build_client(server.url).submit(REQUEST)
        assert server.seen == []


def test_a_submission_that_is_never_responded_is_in_doubt_and_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SUBMIT_TIMEOUT", 0.5)
    with WireServer([wire.never_answers, wire.ACCEPTED]) as server:
        with pytest.raises(errors.WanInDoubtError, match="ReadTimeout"):
            build_client(server.url).submit(REQUEST)
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.WanBadRequestError),
        (401, errors.WanAuthError),
        (402, errors.WanCreditError),
        (404, errors.WanNotFoundError),
        (429, errors.WanRateLimitError),
        (503, errors.WanCapacityError),
    ],
)
def test_a_refused_submission_is_not_repeated_by_the_client_either(status: int, kind: Any) -> None:
    with WireServer([wire.answers(status, {"error": "no"}), wire.ACCEPTED]) as server:
        with pytest.raises(kind):
            build_client(server.url).submit(REQUEST)
        assert len(server.seen) == 1


def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(errors.WanConnectError):
        build_client(f"http://127.0.0.1:{port}/api").submit(REQUEST)


def test_a_name_that_does_not_resolve_proves_that_nothing_was_sent() -> None:
    with pytest.raises(errors.WanConnectError):
        build_client("http://no-such-host.invalid/api").submit(REQUEST)


def test_a_connection_that_never_comes_about_proves_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT", 0.3)
    with unreachable_address() as (host, port), pytest.raises(errors.WanConnectError):
        build_client(f"http://{host}:{port}/api").submit(REQUEST)


def test_a_proxy_that_is_down_proves_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(errors.WanConnectError):
        build_client("http://api.example.com/api").submit(REQUEST)


def test_a_broken_tls_handshake_proves_that_nothing_was_sent() -> None:
    def no_tls(connection: Any) -> None:
        connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with WireServer([no_tls], reads=False) as server, pytest.raises(errors.WanConnectError):
        build_client(server.url.replace("http:", "https:")).submit(REQUEST)


def test_each_submission_has_a_connection_of_its_own() -> None:
    accepted = {"request_id": "r1", "status": "queued"}
    with WireServer([wire.answers(200, accepted)]) as server:
        client = build_client(server.url)
        client.submit(REQUEST)
        client.submit(REQUEST)
        assert len(server.seen) == 2


def test_the_submission_says_what_the_contract_asks_for() -> None:
    with WireServer([wire.ACCEPTED]) as server:
        build_client(server.url, organization_id="org-7").submit(REQUEST)
    seen = server.seen[0]
    assert seen.head.startswith("POST /api/requests HTTP/1.1")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-organization-id"] == "org-7"
    assert json.loads(seen.body) == {"model": "wan2.6-i2v", "payload": REQUEST.to_payload()}


def test_credentials_of_a_netrc_file_do_not_take_the_place_of_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with WireServer([wire.ACCEPTED]) as server:
        build_client(server.url).submit(REQUEST)
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with WireServer([wire.ACCEPTED]) as other:
        moved = wire.answers(307, {}, f"Location: {other.url}/requests")
        with WireServer([moved]) as server:
            with pytest.raises(errors.WanInDoubtError, match="base URL"):
                build_client(server.url).submit(REQUEST)
            with pytest.raises(errors.WanBadRequestError, match="base URL"):
                build_client(server.url).get_request("r1")
        assert other.seen == []


def test_a_lookup_is_repeated_until_it_is_responded() -> None:
    found = wire.answers(200, {"request_id": "r1", "status": "processing"})
    with WireServer([wire.reset_after_request, wire.half_a_body, wire.answers(502, "x"), found]) as server:
        assert build_client(server.url).get_request("r1").status == "processing"
        assert len(server.seen) == 4


def test_a_response_for_another_request_is_not_believed() -> None:
    other = wire.answers(
        200, {"request_id": "r2", "status": "success", "outcome": {"video_url": "https://x/other.mp4"}}
    )
    with WireServer([other, wire.answers(200, {"request_id": "r1", "status": "queued"})]) as server:
        assert build_client(server.url).get_request("r1").status == "queued"
    with WireServer([other]) as server, pytest.raises(errors.WanProtocolError, match="describes another one"):
        build_client(server.url).get_request("r1")


@pytest.mark.parametrize("answer", [wire.never_answers, wire.answers(429, {}, "Retry-After: 9999999")])
def test_no_lookup_goes_beyond_the_deadline_by_more_than_a_few_seconds(answer: Any) -> None:
    with WireServer([answer]) as server:
        client = WanClient(WanConfig(api_key=KEY, base_url=server.url))
        client.deadline = time.time() + 1.0
        began = time.monotonic()
        with pytest.raises(errors.WanError):
            client.get_request("r1")
        assert time.monotonic() - began < 1.0 + 5.0


def test_a_lookup_is_given_up_after_five_tries() -> None:
    with WireServer([wire.answers(500, {"error": "down"})]) as server:
        with pytest.raises(errors.WanLookupError, match="Request r1: HTTP 500"):
            build_client(server.url).get_request("r1")
        assert len(server.seen) == 5


def test_a_lookup_waits_as_long_as_the_api_asks() -> None:
    found = wire.answers(200, {"request_id": "r1", "status": "queued"})
    with WireServer([wire.answers(429, {}, "Retry-After: 7"), found]) as server:
        client = build_client(server.url)
        client.get_request("r1")
    (pause,) = cast(Any, client)._sleep
    assert 7 <= pause <= 9


@pytest.mark.parametrize("status", [400, 401, 402, 404])
def test_a_refused_lookup_is_not_repeated(status: int) -> None:
    with WireServer([wire.answers(status, {})]) as server:
        with pytest.raises(errors.WanRefusedError):
            build_client(server.url).get_request("r1")
        assert len(server.seen) == 1


def test_an_id_can_not_lead_to_another_path() -> None:
    with WireServer([wire.answers(200, {"request_id": "../models?x=1", "status": "queued"})]) as server:
        build_client(server.url).get_request("../models?x=1")
        assert server.seen[0].head.startswith("GET /api/requests/..%2Fmodels%3Fx%3D1 ")
        for bad in ("", " ", "..", None):
            with pytest.raises(errors.WanValidationError):
                build_client(server.url).get_request(bad)  # type: ignore[arg-type]


def test_a_page_is_asked_for_by_model_limit_and_offset() -> None:
    with WireServer([wire.answers(200, {"requests": []})]) as server:
        build_client(server.url).list_requests(limit=50, offset=100)
    assert server.seen[0].head.startswith("GET /api/requests?model_id=wan2.6-i2v&limit=50&offset=100 ")


def test_a_cancellation_is_asked_for_once_and_never_raises() -> None:
    with WireServer([wire.answers(200, {})]) as server:
        assert build_client(server.url).cancel("r1") is True
        assert server.seen[0].head.startswith("DELETE /api/requests/r1 ")
    for death in (wire.answers(404, {}), wire.answers(405, {}), wire.reset_after_request):
        with WireServer([death]) as server:
            assert build_client(server.url).cancel("r1") is False
            # A DELETE whose connection is closed without a response is repeated once: it is idempotent.
            assert len(server.seen) <= 2


def test_an_upload_goes_to_its_own_host_with_the_signed_type_and_without_the_key() -> None:
    with WireServer([wire.answers(200, {})]) as storage:
        urls = {"upload_url": f"{storage.url}/put?signature=s", "public_url": "https://cdn.example.com/a.jpg"}
        with WireServer([wire.answers(200, urls)]) as server:
            assert build_client(server.url).upload(b"image", "jpg") == "https://cdn.example.com/a.jpg"
            assert json.loads(server.seen[0].body) == {"file_type": "jpg"}
    put = storage.seen[0]
    assert put.head.startswith("PUT /api/put?signature=s ")
    assert put.headers["content-type"] == "image/jpg"
    assert "authorization" not in put.headers
    assert put.body == b"image"


def test_an_upload_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(errors.WanValidationError, match="file_type='gif'"):
        build_client("http://127.0.0.1:1").upload(b"", "gif")


def test_the_models_are_listed_and_described() -> None:
    with WireServer([wire.answers(200, {"model_ids": ["a", "b"]}), wire.answers(200, {"price_info": {}})]) as server:
        client = build_client(server.url)
        assert client.list_models() == ["a", "b"]
        assert client.get_model("a").model_id == "a"


def test_no_error_reports_the_key_or_the_query_of_a_url() -> None:
    for death in (wire.reset_after_request, wire.half_a_body, wire.answers(500, "x")):
        with WireServer([death]) as server, pytest.raises(errors.WanError) as raised:
            build_client(server.url).submit(replace(REQUEST, img_url="https://i.example.com/a?X-Amz-Signature=c0ffee"))
        text = f"{raised.value!r} {raised.value.__cause__!r}"
        assert KEY not in text
        assert "c0ffee" not in text
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_the_key_is_in_no_representation() -> None:
    config = WanConfig(api_key=KEY)
    assert KEY not in repr(config)
    assert KEY not in str(vars(HttpTransport(config)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key", ""),
        ("api_key", "two words"),
        ("api_key", "line\nbreak"),
        ("base_url", "console.gmicloud.ai"),
        ("base_url", "ftp://console.gmicloud.ai"),
        ("base_url", "https://me:pw@console.gmicloud.ai"),
        ("base_url", "https://console.gmicloud.ai/api?key=1"),
        ("base_url", "https://console.gmicloud.ai/api#part"),
        ("base_url", "https://console.gmicloud.ai:99999/api"),
        ("base_url", "https://console.gmicloud.ai:https/api"),
        ("base_url", "https://[console.gmicloud.ai/api"),
        ("base_url", "https://console.gmicloud.ai/a path"),
        ("status_requests_per_second", 0),
        ("status_requests_per_second", float("nan")),
        ("result_hosts", ("https://storage.example.com",)),
        ("prices", {"720P": -1}),
    ],
)
def test_a_bad_connection_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(errors.WanValidationError, match=f"^{field}") as raised:
        WanConfig(**{"api_key": KEY, field: value})
    assert not any(secret in str(raised.value) for secret in ("pw", "key=1"))


def test_a_gateway_that_adds_a_long_header_hides_no_response() -> None:
    def respond(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Security-Policy: " + b"default-src 'self'; " * 1000)
        time.sleep(0.1)
        connection.sendall(b'\r\nConnection: close\r\n\r\n{"request_id": "r1", "status": "queued"}')

    with WireServer([respond]) as server:
        client = build_client(server.url)
        assert client.submit(REQUEST).request_id == "r1"
        assert client.get_request("r1").request_id == "r1"
        client.close()


@pytest.mark.parametrize("host", ["münchen.example", "MÜNCHEN.example", "xn--mnchen-3ya.example"])
def test_a_base_url_that_is_not_ascii_is_one_for_submissions_and_lookups(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **named: real("127.0.0.1", *more, **named))
    with WireServer([wire.ACCEPTED]) as server:
        client = build_client(server.url.replace("127.0.0.1", host).replace("/api", "/größe"))
        client.submit(REQUEST)
        client.get_request("r1")
        client.close()
    paths = [seen.head.split(" ")[1] for seen in server.seen]
    assert paths == ["/gr%C3%B6%C3%9Fe/requests", "/gr%C3%B6%C3%9Fe/requests/r1"]
    assert {seen.headers["host"].partition(":")[0] for seen in server.seen} == {"xn--mnchen-3ya.example"}


def test_a_price_is_per_second_and_by_resolution() -> None:
    config = WanConfig(api_key=KEY, prices={"720P": 0.1})
    assert config.cost("720P", 5) == 0.5
    assert config.cost("1080P", 5) is None
