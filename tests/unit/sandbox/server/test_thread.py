# SPDX-License-Identifier: Apache-2.0
"""The sandbox over real sockets: responses, broken connections, and shutdown."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from airflow_provider_wan.sandbox.config import RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.server.app import SandboxApp
from airflow_provider_wan.sandbox.server.thread import SandboxServer
from dev.testkit.sandbox import SandboxClient


@pytest.fixture
def client() -> Iterator[SandboxClient]:
    with SandboxServer(speed=2000, render="none", hang_seconds=30.0, slow_seconds=0.4) as server:
        yield SandboxClient(server)


def finished_url(client: SandboxClient) -> str:
    record = client.finished(client.submit_id())
    return str(record["outcome"]["media_urls"][0]["url"])


def test_a_request_goes_its_way_over_http(client: SandboxClient) -> None:
    answer = client.submit()
    assert answer.status_code == 200
    assert answer.headers["Server"] == "wan-sandbox"
    record = client.finished(answer.json()["request_id"])
    assert record["status"] == "success"
    assert client.download(record)[4:8] == b"ftyp"
    assert [each["request_id"] for each in client.server.charges()] == [record["request_id"]]
    assert len(client.server.accepted()) == 1


def test_it_says_that_it_is_a_sandbox(client: SandboxClient) -> None:
    root = requests.get(client.server.admin_url.removesuffix("admin"), timeout=5)
    assert "sandbox" in root.text
    assert requests.get(client.server.admin_url, timeout=5).json()["server"] == "wan-sandbox"


def test_the_api_answers_under_its_base_path_only(client: SandboxClient) -> None:
    root = client.server.admin_url.removesuffix("/admin")
    assert requests.get(f"{root}/requests", headers=client.headers, timeout=5).status_code == 404
    assert client.call("GET", "/models").status_code == 200


def test_results_lie_on_another_origin_that_notices_a_key(client: SandboxClient) -> None:
    url = finished_url(client)
    assert url.startswith(client.server.result_url + "/")
    assert not url.startswith(client.server.admin_url.removesuffix("/admin"))
    requests.get(url, timeout=5)
    assert client.server.counters()["authorization_at_results"] == 0
    requests.get(url, headers=client.headers, timeout=5)
    assert client.server.counters()["authorization_at_results"] == 1


@pytest.mark.parametrize(("fault", "accepted"), [("reset_after_accept", 1), ("reset_before_accept", 0)])
def test_a_submission_may_end_in_a_connection_reset(client: SandboxClient, fault: str, accepted: int) -> None:
    client.server.inject(fault)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        client.submit()
    assert len(client.server.accepted()) == accepted
    assert len(client.call("GET", "/requests").json()["requests"]) == accepted


@pytest.mark.parametrize(("fault", "accepted"), [("hang_after_accept", 1), ("hang_before_accept", 0)])
def test_a_submission_may_be_left_without_an_answer(client: SandboxClient, fault: str, accepted: int) -> None:
    client.server.inject(fault)
    with pytest.raises(requests.ReadTimeout):
        client.submit(timeout=0.3)
    assert len(client.server.accepted()) == accepted


def test_a_hanging_answer_does_not_keep_the_others_waiting_nor_the_server_from_stopping() -> None:
    with SandboxServer(render="none", hang_seconds=60.0) as server:
        client = SandboxClient(server)
        server.inject(Fault.GET_HANG)
        request_id = client.submit_id()
        hung = threading.Thread(target=lambda: _swallow(client, request_id))
        hung.start()
        while server.counters()["counters"].get("api GET /requests/{id} hang") != 1:
            time.sleep(0.01)
        assert client.call("GET", f"/requests/{request_id}").status_code == 200
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    hung.join(5)
    assert not hung.is_alive()


def _swallow(client: SandboxClient, request_id: str) -> None:
    with pytest.raises(requests.RequestException):
        client.call("GET", f"/requests/{request_id}", timeout=60)


def test_a_slow_answer_comes_late(client: SandboxClient) -> None:
    client.server.inject(Fault.LIST_SLOW)
    begun = time.monotonic()
    assert client.call("GET", "/requests").status_code == 200
    assert time.monotonic() - begun >= 0.4


def test_a_success_may_be_the_answer_to_the_submission(client: SandboxClient) -> None:
    client.server.inject(Fault.IMMEDIATE_SUCCESS)
    submitted = client.submit().json()
    assert submitted["status"] == "success"
    assert client.download(submitted)[4:8] == b"ftyp"


def test_a_result_may_break_off_before_the_length_of_its_header(client: SandboxClient) -> None:
    url = finished_url(client)
    client.server.inject(Fault.RESULT_SHORT)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url, timeout=5)
    client.server.inject(Fault.RESULT_RESET)
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
    assert requests.get(url, timeout=5).status_code == 200


def test_a_result_may_come_without_its_length(client: SandboxClient) -> None:
    url = finished_url(client)
    whole = requests.get(url, timeout=5).content
    client.server.inject(Fault.RESULT_NO_LENGTH)
    answer = requests.get(url, timeout=5)
    assert "Content-Length" not in answer.headers
    assert answer.content == whole


def test_a_redirected_result_is_found_at_another_host(client: SandboxClient) -> None:
    url = finished_url(client)
    client.server.inject(Fault.RESULT_REDIRECT, count=2)
    stayed = requests.get(url, timeout=5, allow_redirects=False)
    assert stayed.status_code == 302
    assert stayed.headers["Location"].startswith("http://localhost:")
    assert requests.get(url, timeout=5).content == requests.get(url, timeout=5).content


def test_a_slow_result_trickles() -> None:
    with SandboxServer(speed=2000, render="none", slow_bytes_per_second=1000) as server:
        url = finished_url(SandboxClient(server))
        size = len(requests.get(url, timeout=5).content)
        server.inject(Fault.RESULT_SLOW)
        begun = time.monotonic()
        assert len(requests.get(url, timeout=5).content) == size
        assert time.monotonic() - begun >= size / 1000


def test_a_huge_result_is_streamed_whole(client: SandboxClient) -> None:
    size = 48 * 1024 * 1024
    client.server.call(lambda core: core.configure(huge_bytes=size))
    url = finished_url(client)
    client.server.inject(Fault.RESULT_HUGE)
    with requests.get(url, timeout=10, stream=True) as answer:
        assert answer.headers["Content-Length"] == str(size)
        assert sum(len(piece) for piece in answer.iter_content(1 << 20)) == size
    with requests.get(f"{client.server.result_url}/huge/5000000.mp4", timeout=10) as answer:
        assert len(answer.content) == 5_000_000


def test_an_upload_goes_up_and_can_be_fetched(client: SandboxClient) -> None:
    urls = client.call("POST", "/upload-url", {"file_type": "jpg"}).json()
    data = b"\xff\xd8" + bytes(100_000)
    wrong = requests.put(urls["upload_url"], data=data, headers={"Content-Type": "image/jpeg"}, timeout=5)
    assert wrong.status_code == 403
    right = requests.put(urls["upload_url"], data=data, headers={"Content-Type": "image/jpg"}, timeout=5)
    assert right.status_code == 200
    assert client.fetch(urls["public_url"]) == data


def test_a_clip_can_be_fetched_in_parts_and_its_head_alone(tmp_path: Path) -> None:
    with SandboxServer(speed=2000, render="none", data_dir=tmp_path) as server:
        client = SandboxClient(server)
        record = client.finished(client.submit_id())
        (tmp_path / f"{record['request_id']}.mp4").write_bytes(b"0123456789")
        url = record["outcome"]["media_urls"][0]["url"]
        part = requests.get(url, headers={"Range": "bytes=2-4"}, timeout=5)
        assert (part.status_code, part.content) == (206, b"234")
        head = requests.head(url, timeout=5)
        assert (head.headers["Content-Length"], head.headers["Content-Type"]) == ("10", "video/mp4")


def test_a_restart_on_the_same_state_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    with SandboxServer(speed=2000, render="none", state=state) as server:
        client = SandboxClient(server)
        done = client.finished(client.submit_id(seed=1))
        server.inject(Fault.NEVER_RUNS)
        waiting = client.submit_id(seed=2)
    with SandboxServer(speed=2000, render="none", state=state) as server:
        client = SandboxClient(server)
        assert client.call("GET", f"/requests/{waiting}").json()["status"] == "queued"
        again = client.call("GET", f"/requests/{done['request_id']}").json()
        assert again["outcome"]["media_urls"][0]["url"].startswith(server.result_url)
        assert (len(server.accepted()), len(server.charges())) == (2, 1)


@pytest.mark.parametrize("iterations", range(4))
async def test_it_stops_although_a_call_came_a_moment_before(iterations: int) -> None:
    app = SandboxApp(SandboxConfig(render=RenderMode.NONE))
    await app.start()
    app.core.admin.seed(1)
    async with aiohttp.ClientSession() as session, session.get(f"{app.api_root}/admin") as answer:
        assert answer.status == 200
    app._wake.set()
    for _ in range(iterations):
        await asyncio.sleep(0)
    stopping = asyncio.ensure_future(app.stop())
    done, _ = await asyncio.wait([stopping], timeout=5)
    assert done == {stopping}


def test_a_taken_port_is_an_error_and_a_stopped_server_leaves_its_port_free() -> None:
    with SandboxServer(render="none") as server:
        port = int(server.admin_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="in use"), SandboxServer(render="none", port=port):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass
    server.stop()
