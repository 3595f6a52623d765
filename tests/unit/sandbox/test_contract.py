# SPDX-License-Identifier: Apache-2.0
"""Headers, models and payloads are validated by the contract, and rejected with its messages."""

from __future__ import annotations

from typing import Any

import pytest

from dev.testkit.sandbox import MODEL, PAYLOAD, SandboxHarness


def test_a_plain_submission_is_answered_with_the_fields_of_the_contract(harness: SandboxHarness) -> None:
    answer = harness.submit()
    body = answer.json()
    assert answer.status == 200
    assert set(body) == {"request_id", "model", "status", "created_at", "updated_at", "queued_at"}
    assert (body["model"], body["status"]) == (MODEL, "queued")
    assert body["created_at"] == body["queued_at"] == 1_800_000_000


@pytest.mark.parametrize(
    "header", ["", "Bearer wrong", "Bearer", "sandbox-key", "bearer sandbox-key", "Basic sandbox-key"]
)
def test_a_wrong_key_is_401_on_every_call(harness: SandboxHarness, header: str) -> None:
    for method, path in (("POST", "/requests"), ("GET", "/requests"), ("GET", "/requests/x"), ("GET", "/models")):
        assert harness.call(method, path, Authorization=header).status == 401
    assert harness.core.journal.accepted == []


def test_a_foreign_organization_is_403_and_each_sees_its_own_requests_only() -> None:
    harness = SandboxHarness(organizations=("org-a", "org-b"))
    request_id = harness.submit_id()
    assert harness.call("GET", f"/requests/{request_id}", X_Organization_ID="org-a").json()["org_id"] == "org-a"
    assert harness.call("GET", f"/requests/{request_id}", X_Organization_ID="org-b").status == 404
    assert harness.call("GET", "/requests", X_Organization_ID="org-b").json()["requests"] == []
    assert harness.call("GET", "/models", X_Organization_ID="org-c").status == 403


def test_a_submission_that_is_not_declared_as_json_is_refused(harness: SandboxHarness) -> None:
    value = {"model": MODEL, "payload": PAYLOAD}
    assert harness.call("POST", "/requests", value, Content_Type="text/plain").status == 400
    assert harness.call("POST", "/requests", value, Content_Type="application/json; charset=utf-8").status == 200


@pytest.mark.parametrize("model", ["WAN2.6-I2V", "wan2.6-t2v"])
def test_model_ids_are_case_sensitive_and_an_unknown_one_is_404(harness: SandboxHarness, model: str) -> None:
    answer = harness.call("POST", "/requests", {"model": model, "payload": PAYLOAD})
    assert (answer.status, answer.json()) == (404, {"error": f"model {model} does not exist"})
    assert harness.call("GET", f"/models/{model}").status == 404


def test_a_missing_image_is_refused_with_the_words_that_were_seen_live(harness: SandboxHarness) -> None:
    answer = harness.call("POST", "/requests", {"model": MODEL, "payload": {}})
    assert answer.status == 400
    assert answer.json() == {"error": "invalid payload parameters: img_url (Required parameter is missing)"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("img_url", "ftp://example.com/a.jpg"), ("img_url", 7), ("img_url", None), ("img_url", "http:///a.jpg"),
        ("prompt", "é" * 1501), ("prompt", None), ("negative_prompt", "x" * 501),
        ("audio_url", "file:///a.mp3"), ("audio_url", 1),
        ("resolution", "4K"), ("resolution", "720p"), ("resolution", 720),
        ("duration", "5"), ("duration", 7), ("duration", 5.0), ("duration", True),
        ("prompt_extend", "true"), ("prompt_extend", 1), ("shot_type", "dual"), ("audio", None),
        ("watermark", 0), ("seed", -1), ("seed", 2**31), ("seed", 1.5), ("seed", True), ("seed", None),
        ("webhook", "https://example.com"),
    ],
)  # fmt: skip
def test_a_parameter_that_breaks_its_rule_is_named_and_refused(harness: SandboxHarness, name: str, value: Any) -> None:
    answer = harness.submit(**{name: value})
    assert answer.status == 400
    assert answer.json()["error"].startswith(f"invalid payload parameters: {name} (")
    assert harness.core.journal.accepted == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "é" * 1500), ("negative_prompt", "x" * 500), ("audio_url", None),
        ("audio_url", "https://a.example/a.wav"), ("resolution", "1080P"), ("duration", 15),
        ("prompt_extend", False), ("shot_type", "multi"), ("audio", False), ("watermark", True),
        ("seed", 0), ("seed", 2**31 - 1),
    ],
)  # fmt: skip
def test_a_value_at_the_edge_of_its_rule_is_accepted_and_echoed(harness: SandboxHarness, name: str, value: Any) -> None:
    request_id = harness.submit_id(**{name: value})
    assert harness.get(request_id)["payload"][name] == value


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "wan2.6-i2v"}', b'{"payload": {}}'])
def test_a_body_that_is_no_submission_is_400(harness: SandboxHarness, body: bytes) -> None:
    headers = {"Authorization": "Bearer sandbox-key", "Content-Type": "application/json"}
    assert harness.core.handle("POST", "/requests", {}, headers, body).status == 400


def test_an_unknown_field_beside_the_payload_is_refused(harness: SandboxHarness) -> None:
    value = {"model": MODEL, "payload": PAYLOAD, "idempotency_key": "x"}
    assert harness.call("POST", "/requests", value).status == 400


def test_models_are_listed_and_described_with_a_price_in_micro_dollars(harness: SandboxHarness) -> None:
    assert harness.call("GET", "/models").json() == {"model_ids": [MODEL, "wan2.7-i2v"]}
    body = harness.call("GET", f"/models/{MODEL}").json()
    assert body["price_info"] == {"price": 100_000, "pricing_type": "per_second", "unit": "second"}
    assert {parameter["name"] for parameter in body["parameters"]} >= {"img_url", "prompt", "seed"}


@pytest.mark.parametrize(("method", "path"), [("PUT", "/requests"), ("POST", "/models"), ("POST", "/requests/x")])
def test_a_wrong_method_is_405(harness: SandboxHarness, method: str, path: str) -> None:
    assert harness.call(method, path, {}).status == 405


def test_the_base_path_may_be_given_or_left_out(harness: SandboxHarness) -> None:
    assert harness.call("GET", "/api/v1/ie/requestqueue/apikey/models").status == 200
    assert harness.call("GET", "/nowhere").status == 404


def test_the_second_model_has_parameters_and_durations_of_its_own(harness: SandboxHarness) -> None:
    def submit(**payload: Any) -> int:
        return harness.call("POST", "/requests", {"model": "wan2.7-i2v", "payload": payload}).status

    assert submit(first_frame="https://example.com/a.jpg", duration=7) == 200
    assert submit(img_url="https://example.com/a.jpg") == 400
    assert submit(first_frame="https://example.com/a.jpg", duration=16) == 400
    names = [each["name"] for each in harness.call("GET", "/models/wan2.7-i2v").json()["parameters"]]
    assert "last_frame" in names
    assert "img_url" not in names


def test_unknown_parameters_are_dropped_without_a_word_on_demand() -> None:
    harness = SandboxHarness(drop_unknown=True)
    request_id = harness.submit_id(first_frame="https://example.com/a.jpg")
    assert "first_frame" not in harness.get(request_id)["payload"]
