# SPDX-License-Identifier: Apache-2.0
"""Each message names what to do."""

from __future__ import annotations

import json
import re

import pytest
import requests

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.wire import (
    HttpResponse,
    no_response_message,
    parse_lookup_response,
    parse_request,
    parse_submit_response,
)
from airflow_provider_wan.media import fetch

REMEDY = re.compile(
    r"\b(check|correct|add|set|name|retry|allow|see|look|reconcile|ask|polled again|asks again|remove)\b", re.IGNORECASE
)
BODIES = {
    "the service's error": json.dumps({"error": "no"}).encode(),
    "nothing": b"",
    "a page": b"<html><title>Blocked</title></html>",
    "a wrapped 400": json.dumps({"error": "Backend error (400). Please try again."}).encode(),
    "a wrapped 429": json.dumps({"error": "API request failed with status 429: {}"}).encode(),
    "another request": json.dumps({"request_id": "r2", "status": "queued"}).encode(),
}
STATUSES = (200, 302, 400, 401, 402, 403, 404, 408, 409, 410, 413, 415, 422, 429, 451, 499, 500, 502, 503, 504)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", STATUSES)
def test_the_message_of_a_refused_lookup_names_a_remedy(status: int, body: str) -> None:
    kind = "text/html" if body == "a page" else "application/json"
    response = HttpResponse(status, {"content-type": kind}, BODIES[body])
    with pytest.raises(WanError) as raised:
        parse_request(response, "r1")
    assert REMEDY.search(str(raised.value)), str(raised.value)


@pytest.mark.parametrize("status", [status for status in STATUSES if status != 200])
def test_the_message_of_a_list_that_is_refused_names_a_remedy(status: int) -> None:
    with pytest.raises(WanError) as raised:
        parse_lookup_response(HttpResponse(status, {}, b""), "The list of requests")
    assert REMEDY.search(str(raised.value)), str(raised.value)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429, 503])
def test_the_message_of_a_submission_that_the_service_refuses_names_a_remedy(status: int) -> None:
    response = HttpResponse(status, {"content-type": "application/json"}, BODIES["the service's error"])
    with pytest.raises(WanError) as raised:
        parse_submit_response(response)
    assert REMEDY.search(str(raised.value)), str(raised.value)


def test_the_message_of_no_response_names_a_remedy() -> None:
    assert REMEDY.search(no_response_message("Request r1", "TimeoutError"))


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410, 418, 429, 500, 503])
def test_the_message_of_a_result_that_is_refused_names_a_remedy(status: int) -> None:
    response = requests.Response()
    response.status_code = status
    with pytest.raises(WanError) as raised:
        fetch._check_status(response, "https://storage.example.com/clip.mp4?sig=c0ffee")
    assert REMEDY.search(str(raised.value)), str(raised.value)
    assert "c0ffee" not in str(raised.value)
