# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy
import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch import rows
from airflow_provider_wan.batch.rows import InvalidRow, Item, RawRow, parse_row, suggest_column
from airflow_provider_wan.batch.values import parse_cell

IMAGE = "https://images.example.com/cat.png"


def parse(values: dict[str, Any], **more: Any) -> Any:
    return parse_row(RawRow(3, values, **more), {"resolution": "720P"})


def test_a_row_is_an_item_with_the_defaults() -> None:
    item = parse({"image": IMAGE, "duration": 10})

    assert isinstance(item, Item)
    assert (item.row, item.request.resolution, item.request.duration) == (3, "720P", 10)
    assert item.stem == "cat"


def test_a_fault_of_the_row_is_its_reason() -> None:
    assert parse({}, fault="is not UTF-8") == InvalidRow(3, None, "row 3 is not UTF-8")


def test_a_row_without_an_image_or_with_two_is_invalid() -> None:
    assert "must name the image" in parse({"prompt": "a cat"}).reason
    assert "give only one of them" in parse({"image": IMAGE, "img_url": IMAGE}).reason


def test_an_address_that_can_not_be_parsed_is_a_fault_of_its_row() -> None:
    reason = parse({"image": "http://[bad/x.jpg"}).reason

    assert reason.startswith("image='http://[bad/x.jpg': must be a URL that can be parsed")
    assert "data:image" in parse({"image": "data:image/png;base64," + "QUJD" * 9000}).reason
    assert parse({"audio_url": "x\0.wav", "image": IMAGE}).reason.startswith("audio_url=")


def test_whatever_happens_while_a_row_is_read_is_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("nobody expected it")

    monkeypatch.setattr(rows, "_build_item", fail)

    assert parse({"image": IMAGE}) == InvalidRow(3, IMAGE, "row 3 cannot be read: RuntimeError")


def test_a_label_is_one_short_line() -> None:
    item = parse({"image": f"https://images.example.com/{'a' * 3000}.png"})

    assert len(item.label) < 250
    assert len(item.image.public_uri) > 3000
    assert parse({"image": "a\nb", "promt": "x"}).image == "a b"


@pytest.mark.parametrize(
    "value",
    [["s3://b/a.png"], {"path": "s3://b/a.png"}, [{"path": "s3://b/a.png", "bytes": None}], ("s3://b/a.png",)],
)
def test_an_image_may_be_a_list_of_one_or_a_struct(value: Any) -> None:
    assert parse({"image": value}).image.text == "s3://b/a.png"


def test_embedded_images_may_be_lists_of_one() -> None:
    for value in ([b"x"], [{"bytes": b"x", "path": "a.png"}]):
        assert parse({"image": value}).image.read(None, 1, "image", "") == b"x"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (["s3://b/a.png", "s3://b/b.png"], "must be one file, and is a list of 2"),
        ([], "must be one file, and is a list of 0"),
        ({"bytes": "QUJD", "path": "a.png"}, "must be an address, bytes, or"),
        ({"url": "s3://b/a.png"}, "must be an address, bytes, or"),
        (7, "must be an address, bytes, or"),
    ],
)
def test_what_is_no_single_file_is_refused_with_a_remedy(value: Any, rule: str) -> None:
    reason = parse({"image": value}).reason

    assert rule in reason
    assert "row_templates" in reason


def test_equal_items_have_equal_digests() -> None:
    first, same, other = parse({"image": IMAGE}), parse({"img_url": IMAGE}), parse({"image": IMAGE, "name": "tom"})

    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("duration", " 10 ", 10), ("audio", "FALSE", False), ("watermark", "1", True), ("prompt", " a ", " a ")],
)
def test_a_cell_gets_the_type_of_its_field(name: str, text: str, value: Any) -> None:
    assert parse_cell(name, text) == value


@pytest.mark.parametrize(("name", "text"), [("duration", "five"), ("audio", "maybe")])
def test_a_cell_of_another_type_is_refused(name: str, text: str) -> None:
    with pytest.raises(WanValidationError, match=name):
        parse_cell(name, text)


def test_a_likely_typo_is_found_and_other_columns_are_ignored() -> None:
    problem = suggest_column(("image", "promt", "customer"))

    assert problem is not None
    assert problem[0] == "promt"
    assert "'prompt'" in problem[1]
    assert suggest_column(("image", "customer", "tags")) is None


def test_a_row_of_a_model_with_more_files_may_name_them() -> None:
    values = {"model": "wan2.7-i2v", "last_frame": "s3://bucket/end.png", "first_clip": "https://x.example/a.mp4"}
    item = parse({"image": IMAGE, **values})

    assert [each.text for each in item.media.values()] == ["s3://bucket/end.png", "https://x.example/a.mp4"]
    assert item.digest != parse({"image": IMAGE, **values, "last_frame": "s3://bucket/other.png"}).digest
    assert (
        "first_clip='s3://bucket/a.mp4': must be an http"
        in parse({"image": IMAGE, "first_clip": "s3://bucket/a.mp4"}).reason
    )
    assert "last_frame" in parse({"image": IMAGE, "last_frame": "https://x.example/end.png"}).reason


def test_an_idempotency_key_of_a_row_makes_it_another_clip_than_its_image_twice() -> None:
    rows = [{"image": "s3://b/a.png", "idempotency_key": key} for key in (None, "", "take 2", "take 2", 3)]
    items = [parse_row(RawRow(number, row), {}) for number, row in enumerate(rows, 1)]
    assert [item.idempotency_key for item in items] == [None, None, "take 2", "take 2", "3"]
    assert len({item.digest for item in items}) == 3


def test_the_operator_s_idempotency_key_is_that_of_rows_without_one() -> None:
    rows = [{"image": "s3://b/a.png"}, {"image": "s3://b/a.png", "idempotency_key": "mine"}]
    keys = [parse_row(RawRow(1, row), {"idempotency_key": "all"}).idempotency_key for row in rows]
    assert keys == ["all", "mine"]


def test_a_row_whose_idempotency_key_names_no_clip_is_rejected() -> None:
    found = parse_row(RawRow(3, {"image": "s3://b/a.png", "idempotency_key": True}), {})
    assert "idempotency_key=True: must be text that names the clip" in found.reason


@pytest.mark.parametrize("value", [7, 7.0, Decimal("7"), numpy.int64(7), numpy.float64(7)], ids=repr)
def test_an_id_of_a_typed_table_is_a_name_or_a_key_as_in_a_csv(value: Any) -> None:
    item = parse({"image": IMAGE, "name": value, "idempotency_key": value})

    assert isinstance(item, Item)
    assert (item.name, item.idempotency_key) == ("7", "7")


@pytest.mark.parametrize("value", [True, 7.5, ["7"]], ids=repr)
def test_what_is_no_id_is_no_name(value: Any) -> None:
    item = parse({"image": IMAGE, "name": value})

    assert isinstance(item, InvalidRow)
    assert "must be a relative name" in item.reason
