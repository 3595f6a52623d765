# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.api.errors import WanResultError, WanResultRefusedError
from airflow_provider_wan.api.network import NetworkSettings
from airflow_provider_wan.api.redaction import public_url
from airflow_provider_wan.media.fetch import ResultHosts

PUBLIC_API = "https://8.8.8.8/api"  # an address, so that no name has to be looked up
LISTED = ResultHosts(allowed=("Storage.example.com", "*.cdn.example.com", "files.example.com:8443"))


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.example.com/a.mp4?sig=1",
        "http://storage.example.com:8080/a.mp4",
        "https://eu.cdn.example.com/a.mp4",
        "https://files.example.com:8443/a.mp4",
    ],
)
def test_a_listed_host_is_allowed(url: str) -> None:
    LISTED.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.mp4",
        "https://storage.example.com.evil.org/a.mp4",
        "https://cdn.example.com/a.mp4",
        "https://evilcdn.example.com/a.mp4",
        "https://files.example.com/a.mp4",
        "http://127.0.0.1/a.mp4",
    ],
)
def test_a_host_that_is_not_listed_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(WanResultRefusedError, match=r"not among result_hosts.*add the host"):
        LISTED.check(url)


@pytest.mark.parametrize("url", ["ftp://8.8.8.8/a", "file:///etc/passwd", "https:///a", "s3://b/k", "a.mp4"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(WanResultRefusedError, match="neither http nor https"):
        ResultHosts().check(url)


def test_a_user_name_in_the_url_is_refused() -> None:
    with pytest.raises(WanResultRefusedError, match="user name"):
        ResultHosts().check("https://user:pw@8.8.8.8/a.mp4")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "192.168.1.1", "[::1]", "[::ffff:10.0.0.1]"])
def test_a_private_address_is_refused_where_the_api_is_public_and_allowed_where_it_is_private_too(address: str) -> None:
    url = f"http://{address}/a.mp4"
    with pytest.raises(WanResultRefusedError, match="private address"):
        ResultHosts(api_base_url=PUBLIC_API).check(url)
    ResultHosts(api_base_url="http://127.0.0.1:8080/api").check(url)
    ResultHosts(required=((address,),), api_base_url=PUBLIC_API).check(url)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254"])
@pytest.mark.parametrize("network", [NetworkSettings(), NetworkSettings(proxy="http://127.0.0.1:9")])
def test_what_a_connection_says_does_not_permit_a_private_address(address: str, network: NetworkSettings) -> None:
    hosts = ResultHosts(allowed=(address,), api_base_url=PUBLIC_API, network=network)
    with pytest.raises(WanResultRefusedError, match=r"(private|link-local) address.*of the task or of \[wan\]"):
        hosts.check(f"http://{address}/a.mp4")


def test_a_connection_narrows_the_list_of_a_task_and_does_not_widen_it() -> None:
    hosts = ResultHosts(
        allowed=("a.example.com", "b.example.com"), required=(("*.example.com",), ("b.example.com", "c.org"))
    )
    hosts.check("https://b.example.com/a.mp4")
    for name in ("a.example.com", "c.org", "d.example.com"):
        with pytest.raises(WanResultRefusedError, match="not among result_hosts"):
            hosts.check(f"https://{name}/a.mp4")


def test_a_link_local_address_such_as_a_clouds_metadata_is_refused_always() -> None:
    for api in (PUBLIC_API, "http://127.0.0.1/api"):
        with pytest.raises(WanResultRefusedError, match="link-local"):
            ResultHosts(api_base_url=api).check("http://169.254.169.254/latest/meta-data")


def test_a_public_address_is_allowed() -> None:
    ResultHosts(api_base_url=PUBLIC_API).check("https://1.1.1.1/a.mp4")


@pytest.mark.parametrize(
    "target",
    ["https://9.9.9.9/a.mp4", "https://8.8.8.8:8443/a.mp4", "http://8.8.8.8/a.mp4"],
    ids=["host", "port", "http"],
)
def test_a_redirect_to_another_place_is_refused(target: str) -> None:
    hosts = ResultHosts(api_base_url=PUBLIC_API)
    hosts.check_redirect("https://8.8.8.8/a.mp4", "https://8.8.8.8/b.mp4?sig=1")
    hosts.check_redirect("http://8.8.8.8/a.mp4", "https://8.8.8.8/b.mp4")
    with pytest.raises(WanResultRefusedError, match="redirects"):
        hosts.check_redirect("https://8.8.8.8/a.mp4", target)


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert public_url("https://me:pw@host:8/a/b.mp4?X-Amz-Signature=s#f") == "https://host:8/a/b.mp4"


@pytest.mark.parametrize(
    "url", ["https://[bad]/c.mp4", "https://[::1/c.mp4", "https://8.8.8.8:99999/c.mp4", "https://8.8.8.8:abc/c.mp4"]
)
def test_what_is_no_url_is_an_error_of_the_result(url: str) -> None:
    for hosts in (ResultHosts(), LISTED):
        with pytest.raises(WanResultError, match="is not a URL"):
            hosts.check(url)
    with pytest.raises(WanResultError, match="is not a URL"):
        ResultHosts().check_redirect("https://8.8.8.8/a.mp4", url)


@pytest.mark.parametrize("name", ["a..b", "a" * 70 + ".example"])
def test_a_name_that_no_host_can_have_is_left_to_the_connection(name: str) -> None:
    ResultHosts(api_base_url=PUBLIC_API).check(f"https://{name}/c.mp4")


def test_a_file_in_a_url_is_not_repeated_whole() -> None:
    with pytest.raises(WanResultRefusedError) as raised:
        ResultHosts().check("data:video/mp4;base64," + "A" * 5000)
    assert len(str(raised.value)) < 400
