# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore import utils

from airflow_provider_wan.s3 import client
from airflow_provider_wan.s3.client import parse_time

AT = datetime(2026, 11, 28, 22, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-28T22:00:00Z", AT),
        ("2026-11-28T22:00:00.000Z", AT),
        ("2026-11-28T22:00:00.123456789Z", AT + timedelta(microseconds=123456)),
        ("2026-11-28T23:30:00+01:30", AT),
        ("20261128T220000Z", AT),
        ("2026-11-28 22:00:00Z", AT),
        ("Sat, 28 Nov 2026 22:00:00 GMT", AT),
        ("1795903200", AT),
        (1795903200, AT),
        (1795903200.0, AT),
    ],
)
def test_times_are_what_botocore_reads(value: Any, expected: datetime) -> None:
    assert parse_time(value) == expected == utils.parse_timestamp(value)


def test_a_time_without_an_offset_is_what_botocore_reads() -> None:
    value = "2026-11-28T22:00:00"
    assert parse_time(value) == utils.parse_timestamp(value)


@pytest.mark.parametrize("value", ["Tomorrow", "2026-13-45T00:00:00Z", ""])
def test_what_is_no_time_is_an_error_as_with_botocore(value: str) -> None:
    for parse in (parse_time, utils.parse_timestamp):
        with pytest.raises(ValueError, match=r"timestamp|string|month"):
            parse(value)


def test_the_times_of_lists_are_not_left_to_the_slow_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "parse_timestamp", lambda value: pytest.fail(f"{value} was"))
    assert parse_time("2026-11-28T22:00:00.000Z") == AT
    assert parse_time("2026-11-28T22:00:00+00:00") == AT
