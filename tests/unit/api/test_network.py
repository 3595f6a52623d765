# SPDX-License-Identifier: Apache-2.0
"""Both HTTP stacks use the same TLS, proxy and bypass settings, over real sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api import errors
from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.network import NetworkSettings
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.media.fetch import ResultHosts, open_result
from dev.testkit import scripted_server as wire
from dev.testkit.proxy import ForwardProxy
from dev.testkit.scripted_server import WireServer
from dev.testkit.tls import PrivateCA

KEY = "key-0123456789abcdef"
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return PrivateCA(tmp_path_factory.mktemp("ca"))


def submit(config: WanConfig) -> object:
    client = WanClient(config, sleep=lambda _: None)
    try:
        return client.submit(I2VRequest("https://images.example.com/cat.jpg")).request_id
    finally:
        client.close()


def get(config: WanConfig) -> object:
    client = WanClient(config, sleep=lambda _: None)
    try:
        return client.get_request("r1").request_id
    finally:
        client.close()


def get_async(config: WanConfig) -> object:
    async def call() -> str:
        client = AsyncWanClient(config)
        try:
            return (await client.get_request("r1")).request_id
        finally:
            await client.close()

    return asyncio.run(call())


def download(config: WanConfig) -> object:
    hosts = ResultHosts(("127.0.0.1", "api.example.com"), config.base_url, config.network)
    with open_result(f"{config.base_url}/clip.mp4", hosts) as result:
        return "r1" if b'"r1"' in b"".join(result.pieces) else None


ways = pytest.mark.parametrize("call", [submit, get, get_async, download])


@ways
@pytest.mark.parametrize("name", VARIABLES[:3])
def test_a_private_ca_of_the_environment_is_trusted_by_every_call(
    ca: PrivateCA, monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[[WanConfig], object]
) -> None:
    monkeypatch.setenv(name, str(ca.bundle))
    with WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1")) as server:
        assert call(WanConfig(KEY, server.url)) == "r1"


@ways
def test_a_private_ca_of_the_connection_is_trusted_by_every_call(
    ca: PrivateCA, call: Callable[[WanConfig], object]
) -> None:
    with WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1")) as server:
        assert call(WanConfig(KEY, server.url, network=NetworkSettings(ca_bundle=str(ca.bundle)))) == "r1"


@ways
def test_a_certificate_that_is_not_trusted_is_refused_by_every_call_with_the_remedy(
    ca: PrivateCA, call: Callable[[WanConfig], object]
) -> None:
    with (
        WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1")) as server,
        pytest.raises(errors.WanError, match="ca_bundle") as raised,
    ):
        call(WanConfig(KEY, server.url))
    assert server.seen == []
    assert not isinstance(raised.value, errors.WanInDoubtError)


@ways
def test_a_ca_bundle_that_is_not_there_is_named_before_anything_is_sent(
    ca: PrivateCA, tmp_path: Path, call: Callable[[WanConfig], object]
) -> None:
    network = NetworkSettings(ca_bundle=str(tmp_path / "gone.pem"))
    with (
        WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1")) as server,
        pytest.raises(errors.WanError, match=r"gone\.pem"),
    ):
        call(WanConfig(KEY, server.url, network=network))
    assert server.seen == []


@ways
def test_a_bundle_replaces_the_certificates_that_are_trusted_otherwise(
    ca: PrivateCA, tmp_path: Path, call: Callable[[WanConfig], object]
) -> None:
    other = PrivateCA(tmp_path)
    with (
        WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1")) as server,
        pytest.raises(
            errors.WanError, match=r"not trusted \((self-signed|unable to get local issuer) certificate.*ca_bundle"
        ),
    ):
        call(WanConfig(KEY, server.url, network=NetworkSettings(ca_bundle=str(other.bundle))))


@ways
def test_a_client_certificate_is_presented(ca: PrivateCA, call: Callable[[WanConfig], object]) -> None:
    network = NetworkSettings(ca_bundle=str(ca.bundle), client_cert=str(ca.issue("client")))
    with WireServer([wire.ACCEPTED], tls=ca.server_context("127.0.0.1", client_ca=ca.bundle)) as server:
        assert call(WanConfig(KEY, server.url, network=network)) == "r1"


@ways
def test_a_proxy_that_inspects_tls_is_used_by_every_call(
    ca: PrivateCA, call: Callable[[WanConfig], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WireServer([wire.ACCEPTED]) as server:
        address = ("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
        with ForwardProxy(ca, resolve=lambda host, port: address) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.bundle))
            assert call(WanConfig(KEY, "https://api.example.com/api")) == "r1"
    assert proxy.seen == ["api.example.com:443"]
    assert len(proxy.inspected) == 1


@ways
@pytest.mark.parametrize("tls", [True, False], ids=["tls in tls", "plain in tls"])
def test_a_proxy_at_an_https_address_is_used_by_every_call(
    ca: PrivateCA, call: Callable[[WanConfig], object], tls: bool
) -> None:
    context = ca.server_context("127.0.0.1")
    with WireServer([wire.ACCEPTED], tls=context if tls else None) as server, ForwardProxy(tls=context) as proxy:
        network = NetworkSettings(ca_bundle=str(ca.bundle), proxy=proxy.url)
        assert call(WanConfig(KEY, server.url, network=network)) == "r1"
    assert len(proxy.seen) == len(server.seen) == 1


@ways
@pytest.mark.parametrize("tls", [True, False], ids=["tls in tls", "plain in tls"])
def test_a_proxy_whose_certificate_is_not_trusted_gets_no_request(
    ca: PrivateCA, tmp_path: Path, call: Callable[[WanConfig], object], tls: bool
) -> None:
    context, other = ca.server_context("127.0.0.1"), PrivateCA(tmp_path)
    with WireServer([wire.ACCEPTED], tls=context if tls else None) as server, ForwardProxy(tls=context) as proxy:
        network = NetworkSettings(ca_bundle=str(other.bundle), proxy=proxy.url)
        with pytest.raises(errors.WanError, match="not trusted") as raised:
            call(WanConfig(KEY, server.url, network=network))
    assert not isinstance(raised.value, errors.WanInDoubtError)
    assert not proxy.seen
    assert not server.seen


@ways
@pytest.mark.parametrize("of_connection", [True, False])
@pytest.mark.parametrize("bypass", ["127.0.0.0/8", "127.0.0.1", "*", "example.com, 127.0.0.1:{port}"])
def test_a_network_in_no_proxy_is_bypassed_by_every_call(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[WanConfig], object], bypass: str, of_connection: bool
) -> None:
    with WireServer([wire.ACCEPTED]) as server, ForwardProxy() as proxy:
        bypass = bypass.format(port=server.url.split(":")[2].split("/")[0])
        if of_connection:
            network = NetworkSettings(proxy=proxy.url, no_proxy=bypass)
        else:
            network = NetworkSettings()
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("NO_PROXY", bypass)
        assert call(WanConfig(KEY, server.url, network=network)) == "r1"
    assert proxy.seen == []


@ways
def test_the_proxy_of_the_connection_precedes_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[WanConfig], object]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with WireServer([wire.ACCEPTED]) as server, ForwardProxy() as proxy:
        assert call(WanConfig(KEY, server.url, network=NetworkSettings(proxy=proxy.url))) == "r1"
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("url", "bypass", "direct"),
    [
        ("https://api.example.com/a", "example.com", True),
        ("https://api.example.com/a", ".example.com", True),
        ("https://api.example.com/a", "*.example.com", True),
        ("https://example.com/a", ".example.com", True),
        ("https://badexample.com/a", "example.com", False),
        ("https://api.example.com/a", "API.EXAMPLE.COM", True),
        ("https://api.example.com:8443/a", "example.com:8443", True),
        ("https://api.example.com/a", "example.com:8443", False),
        ("https://api.example.com/a", "example.com:443", True),
        ("https://10.1.2.3/a", "10.0.0.0/8", True),
        ("https://11.1.2.3/a", "10.0.0.0/8", False),
        ("https://10.1.2.3/a", "10.1.2.3", True),
        ("https://[fd00::7]/a", "fd00::/8", True),
        ("https://[fd00::7]:8443/a", "[fd00::7]:8443", True),
        ("https://[::ffff:10.0.0.1]/a", "10.0.0.0/8", True),
        ("https://api.example.com/a", "10.0.0.0/8,nonsense/99,,", False),
        ("https://api.example.com./a", "api.example.com", True),
    ],
)
def test_no_proxy_means_the_same_everywhere(url: str, bypass: str, direct: bool) -> None:
    settings = NetworkSettings(proxy="http://proxy.example.com:3128", no_proxy=bypass)
    assert (settings.find_proxy(url) is None) is direct


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "nonsense://x", "http://"])
def test_a_proxy_that_can_not_be_used_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    with pytest.raises(errors.WanValidationError, match="proxy"):
        NetworkSettings(proxy=proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(errors.WanValidationError, match="all_proxy"):
        submit(WanConfig(KEY, "http://127.0.0.1:1/api"))


def test_the_password_of_a_proxy_is_in_no_representation() -> None:
    settings = NetworkSettings(proxy="http://me:hunter2@proxy.example.com:3128")
    assert "hunter2" not in repr(WanConfig(KEY, network=settings))
    with pytest.raises(errors.WanValidationError) as raised:
        NetworkSettings(proxy="socks5://me:hunter2@proxy.example.com:3128")
    assert "hunter2" not in str(raised.value)


def test_the_context_is_made_once_and_again_when_its_file_changes(ca: PrivateCA, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(ca.bundle.read_bytes())
    settings = NetworkSettings(ca_bundle=str(bundle))
    first = settings.ssl_context()
    assert settings.ssl_context() is first
    os.utime(bundle, (1, 1))
    assert settings.ssl_context() is not first


@pytest.mark.parametrize("changed", ["ca", "client certificate"])
def test_a_session_that_is_open_follows_a_file_that_is_replaced(tmp_path: Path, changed: str) -> None:
    old, new = PrivateCA(tmp_path / "old"), PrivateCA(tmp_path / "new")
    bundle, certificate = tmp_path / "bundle.pem", tmp_path / "client.pem"
    network = NetworkSettings(ca_bundle=str(bundle), client_cert=str(certificate))

    def install(server_ca: PrivateCA, client_ca: PrivateCA, time: int) -> ssl.SSLContext:
        for path, content in ((bundle, server_ca.bundle), (certificate, client_ca.issue("client"))):
            path.write_bytes(content.read_bytes())
            os.utime(path, (time, time))
        return server_ca.server_context("127.0.0.1", client_ca=client_ca.bundle)

    async def poll() -> tuple[str, list[str]]:
        client = AsyncWanClient(WanConfig(KEY, server.url, network=network))
        try:
            first = (await client.get_request("r1")).request_id
            server.tls = install(new if changed == "ca" else old, new, 2)
            results = []
            for _ in range(2):
                try:
                    results.append((await client.get_request("r1")).request_id)
                except errors.WanLookupError as error:
                    results.append(type(error).__name__)
            return first, results
        finally:
            await client.close()

    with WireServer([wire.ACCEPTED], tls=install(old, old, 1)) as server:
        assert asyncio.run(poll()) == ("r1", ["WanLookupError", "r1"])


def test_without_settings_the_usual_certificates_are_trusted() -> None:
    context = NetworkSettings().ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) > 50


@pytest.mark.parametrize(
    "drip", [b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 500, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b" " * 500]
)
@pytest.mark.parametrize("call", [get, get_async])
def test_a_response_that_drips_is_cut_off_in_total(
    monkeypatch: pytest.MonkeyPatch, drip: bytes, call: Callable[[WanConfig], object]
) -> None:
    monkeypatch.setattr("airflow_provider_wan.api.wire.LOOKUP_TIMEOUT", 1.0)
    monkeypatch.setattr("airflow_provider_wan.api.async_client.POLL_TIMEOUT", 1.0)
    monkeypatch.setattr("airflow_provider_wan.api.client.LOOKUP_ATTEMPTS", 1)
    stopped = threading.Event()

    def drips(connection: Any) -> None:
        for byte in drip:
            if stopped.wait(0.05):
                return
            connection.sendall(bytes([byte]))

    with WireServer([drips]) as server:
        began = time.monotonic()
        with pytest.raises(errors.WanLookupError, match="no response"):
            call(WanConfig(KEY, server.url))
        elapsed = time.monotonic() - began
        stopped.set()
    assert elapsed < 3


def test_a_proxy_may_be_written_without_its_scheme() -> None:
    settings = NetworkSettings(proxy="user:Hunter2@proxy.example.com:3128")
    assert settings.find_proxy("https://api.example.com/") == "http://user:Hunter2@proxy.example.com:3128"


@pytest.mark.parametrize("proxy", ["socks5://user:Hunter2@proxy:1080", "http://user:Hunter2@:abc"])
def test_the_password_of_a_proxy_that_is_refused_is_not_shown(proxy: str) -> None:
    with pytest.raises(errors.WanValidationError) as raised:
        NetworkSettings(proxy=proxy)
    assert "Hunter2" not in f"{raised.value} {raised.value.value}"
