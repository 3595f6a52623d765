# SPDX-License-Identifier: Apache-2.0
"""The host of results and uploads, without sockets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.rendering.mp4_boxes import padded, skeleton
from dev.testkit.sandbox import SandboxHarness

CLIP = bytes(range(256)) * 40


@pytest.fixture
def finished() -> tuple[SandboxHarness, str]:
    harness = SandboxHarness()
    harness.core.result_bytes = lambda job: CLIP
    request_id = harness.submit_id()
    harness.wait(1000)
    return harness, f"/{request_id}.mp4"


def test_a_clip_is_public_and_needs_no_key(finished: tuple[SandboxHarness, str]) -> None:
    harness, path = finished
    answer = harness.core.handle_result("GET", path)
    assert (answer.status, answer.content_type, answer.body) == (200, "video/mp4", CLIP)


def test_there_is_no_file_before_the_end_nor_under_another_name(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    assert harness.core.handle_result("GET", f"/{request_id}.mp4").status == 404
    harness.wait(1000)
    assert harness.core.handle_result("GET", f"/{request_id}.jpg").status == 404
    assert harness.core.handle_result("GET", "/nothing.mp4").status == 404
    assert harness.core.handle_result("POST", f"/{request_id}.mp4").status == 404


def test_a_key_that_is_sent_to_the_results_host_is_noticed(finished: tuple[SandboxHarness, str]) -> None:
    harness, path = finished
    harness.core.handle_result("GET", path)
    assert harness.core.journal.summary()["authorization_at_results"] == 0
    harness.core.handle_result("GET", path, {}, {"Authorization": "Bearer x"})
    assert harness.core.journal.summary()["authorization_at_results"] == 1
    assert [call.authorization for call in harness.core.journal.calls if call.host == "result"] == [False, True]


def test_a_result_may_be_gone_html_cut_off_or_shorter_than_it_says(finished: tuple[SandboxHarness, str]) -> None:
    harness, path = finished
    for fault in (Fault.RESULT_404, Fault.RESULT_HTML, Fault.RESULT_CUT, Fault.RESULT_SHORT):
        harness.core.faults.inject(fault)
    gone, page, cut, short = (harness.core.handle_result("GET", path) for _ in range(4))
    assert gone.status == 404
    assert (page.status, page.content_type) == (200, "text/html")
    assert CLIP.startswith(cut.body)
    assert (0 < len(cut.body) < len(CLIP), cut.declared_length) == (True, None)
    assert (0 < len(short.body) < len(CLIP), short.declared_length) == (True, len(CLIP))
    assert harness.core.handle_result("GET", path).body == CLIP


def test_a_result_may_redirect_to_another_host_where_it_lies(finished: tuple[SandboxHarness, str]) -> None:
    harness, path = finished
    harness.core.faults.inject(Fault.RESULT_REDIRECT)
    answer = harness.core.handle_result("GET", path)
    assert answer.status == 302
    assert answer.headers["Location"] == f"http://elsewhere.sandbox.invalid/elsewhere{path}"
    assert harness.core.handle_result("GET", f"/elsewhere{path}").body == CLIP


def test_a_rolled_result_fault_stays_with_its_request() -> None:
    harness = SandboxHarness(rates={Fault.RESULT_HTML: 1.0})
    request_id = harness.submit_id()
    harness.wait(1000)
    for _ in range(3):
        assert harness.core.handle_result("GET", f"/{request_id}.mp4").content_type == "text/html"


def test_results_expire_when_configured() -> None:
    harness = SandboxHarness(result_seconds=86_400.0)
    request_id = harness.submit_id()
    harness.wait(80)
    assert harness.core.handle_result("GET", f"/{request_id}.mp4").status == 200
    harness.wait(86_401)
    assert harness.core.handle_result("GET", f"/{request_id}.mp4").status == 403
    assert harness.get(request_id)["status"] == "success"


def test_a_huge_result_is_a_whole_file_made_while_it_is_sent(finished: tuple[SandboxHarness, str]) -> None:
    harness, path = finished
    harness.core.result_bytes = lambda job: skeleton(5)
    harness.core.config = replace(harness.core.config, huge_bytes=3_000_000)
    harness.core.faults.inject(Fault.RESULT_HUGE)
    answer = harness.core.handle_result("GET", path)
    assert answer.stream is not None
    data = b"".join(answer.stream())
    assert len(data) == answer.declared_length == 3_000_000
    position, kinds = 0, []
    while position < len(data):
        size, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16])
        kinds.append(kind)
        position += size
    assert (kinds, position) == ([b"ftyp", b"moov", b"mdat", b"free"], len(data))


def test_padding_a_clip_to_less_than_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 10"):
        list(padded(skeleton(5), 10))


@pytest.mark.parametrize(
    ("file_type", "signed"),
    [
        ("jpeg", "image/jpeg"), ("jpg", "image/jpg"), ("png", "image/png"), ("mp4", "video/mp4"),
        ("mp3", "audio/mpeg"), ("wav", "audio/wav"),
    ],
)  # fmt: skip
def test_an_upload_must_come_with_exactly_the_signed_type(harness: SandboxHarness, file_type: str, signed: str) -> None:
    urls = harness.call("POST", "/upload-url", {"file_type": file_type}).json()
    assert set(urls) == {"upload_url", "public_url"}
    path, params = _split(urls["upload_url"])
    public, _ = _split(urls["public_url"])
    assert harness.core.handle_result("PUT", path, params, {"Content-Type": signed + "; x=1"}, b"data").status == 403
    assert harness.core.handle_result("GET", public).status == 404
    assert harness.core.handle_result("PUT", path, params, {"Content-Type": signed}, b"data").status == 200
    answer = harness.core.handle_result("GET", public)
    assert (answer.body, answer.content_type) == (b"data", signed)


def test_an_upload_after_899_seconds_with_a_key_or_another_signature_is_refused(harness: SandboxHarness) -> None:
    urls = harness.call("POST", "/upload-url", {"file_type": "png"}).json()
    path, params = _split(urls["upload_url"])
    headers = {"Content-Type": "image/png"}
    forged = {**params, "X-Signature": "0" * 32}
    assert harness.core.handle_result("PUT", path, forged, headers, b"x").status == 403
    assert harness.core.handle_result("PUT", path, params, {**headers, "Authorization": "Bearer x"}, b"x").status == 400
    harness.wait(899)
    assert harness.core.handle_result("PUT", path, params, headers, b"x").status == 200
    harness.wait(1)
    assert harness.core.handle_result("PUT", path, params, headers, b"x").status == 403


@pytest.mark.parametrize("value", [{}, {"file_type": "gif"}, {"file_type": 1}, {"file_type": "PNG"}])
def test_only_the_known_file_types_can_be_uploaded(harness: SandboxHarness, value: object) -> None:
    assert harness.call("POST", "/upload-url", value).status == 400


def _split(url: str) -> tuple[str, dict[str, str]]:
    address, _, query = url.partition("?")
    path = address.removeprefix("http://results.sandbox.invalid")
    return path, dict(pair.split("=", 1) for pair in query.split("&") if pair)
