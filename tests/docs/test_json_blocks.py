# SPDX-License-Identifier: Apache-2.0
"""Every JSON block is valid for what it documents."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.hooks.wan import parse_connection
from airflow_provider_wan.ledger import LedgerEntry
from airflow_provider_wan.media.clip_record import build_record, parse_record
from dev.docs.pages import Block, blocks

BLOCKS = blocks("json")
CONNECTIONS = [block for block in BLOCKS if "conn_type" in block.text]


@pytest.mark.parametrize("block", CONNECTIONS, ids=str)
def test_a_connection_is_one_that_the_hook_takes(block: Block) -> None:
    value = json.loads(block.text)
    connection = Connection(
        conn_id="wan_default",
        conn_type=value["conn_type"],
        host=value.get("host"),
        password=value["password"].replace(" ", "-"),
        extra=json.dumps(value["extra"]),
    )
    config = parse_connection(connection)
    assert value["conn_type"] == "wan"
    assert config.prices == {"720P": 0.10, "1080P": 0.15}


def test_the_connection_of_the_reference_has_every_field_of_the_form() -> None:
    from airflow_provider_wan.get_provider_info import get_provider_info

    block = next(block for block in CONNECTIONS if block.page.name == "connection.md")
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    assert set(json.loads(block.text)["extra"]) == set(fields)


def one(word: str) -> str:
    (found,) = [block.text for block in BLOCKS if word in block.text]
    return found


def test_the_ledger_entry_is_as_the_ledger_writes_it() -> None:
    text = one("payload_sha256")
    assert json.loads(LedgerEntry.from_json(text).to_json()) == json.loads(text)


def test_the_record_of_a_clip_is_as_the_archive_writes_it() -> None:
    text = one("airflow-provider-wan/clip/1")
    example = json.loads(text)
    clip = parse_record(text.encode(), "my-bucket", "clips/cat.mp4")
    assert clip is not None
    answer = {"request_id": example["request_id"], "status": "success", "payload": example["parameters"]}
    written = json.loads(build_record(clip, RequestRecord.parse(answer), example["cost_usd"]))
    assert list(written) == list(example)
    measured = ("request_id", "parameters", "cost_usd", "uri", "sha256", "etag", "size", "width", "height", "seconds")
    assert {name: written[name] for name in measured} == {name: example[name] for name in measured}


def test_no_json_block_is_left_unchecked() -> None:
    assert len(BLOCKS) == len(CONNECTIONS) + 2
