# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_wan.api.errors import WanAuthError, WanLookupError
from airflow_provider_wan.batch.looks import look
from dev.testkit.ledger import Api


@pytest.fixture
def api():
    api = Api()
    for number in range(250):
        api.add({"n": number}, "success" if number % 2 else "queued", video_url="https://h/x.mp4")
    return api


def test_few_are_asked_for_one_by_one(api):
    told = look(api, "m", ["r1", "r2"], most_calls=10)

    assert set(told.records) == {"r1", "r2"}
    assert api.pages == []


def test_many_are_found_by_pages(api):
    wanted = [f"r{number}" for number in range(100, 251)]

    told = look(api, "m", wanted, most_calls=50)

    assert set(told.records) == set(wanted)
    assert (len(api.pages), told.calls) == (2, 2)


def test_those_that_no_page_shows_are_asked_for_one_by_one_within_the_limit(api):
    api.page_of = lambda limit, offset: Api().list_requests()

    told = look(api, "m", [f"r{number}" for number in range(1, 30)], most_calls=11)

    assert (len(told.records), told.calls) == (10, 11)


def test_a_list_that_fails_is_no_end(api):
    api.list_error = WanLookupError("500")

    told = look(api, "m", ["r1", "r2", "r3", "r4"], most_calls=10)

    assert len(told.records) == 4
    assert isinstance(told.error, WanLookupError)


def test_a_success_without_its_file_is_asked_for_again(api):
    bare = api.add({}, "success")

    told = look(api, "m", [bare.request_id, "r1", "r2", "r3"], most_calls=10)

    assert told.calls > 1
    assert bare.request_id in told.records


def test_a_request_that_is_unknown_is_told_apart(api):
    assert look(api, "m", ["none", "r1"], most_calls=10).unknown == {"none"}


def test_a_refused_key_ends_it(api):
    api.list_error = WanAuthError("401")

    with pytest.raises(WanAuthError):
        look(api, "m", ["r1", "r2", "r3", "r4"], most_calls=10)
