# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.manifest import ListManifest, open_manifest
from airflow_provider_wan.batch.rows import InvalidRow, Item, RawRow, parse_row
from airflow_provider_wan.batch.tables import read_csv, read_jsonl, read_parquet
from airflow_provider_wan.media.source import SourceMissingError


def no_s3() -> None:
    raise AssertionError("S3 is not needed")


def items(rows: Any) -> Any:
    return [parse_row(row, {"resolution": "720P"}) for row in rows]


def jsonl(*lines: Any) -> Any:
    return read_jsonl(io.BytesIO(b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)))


def csv(text: Any) -> Any:
    return read_csv(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


def test_jsonl_has_a_row_a_line_with_its_types() -> None:
    good, second = items(jsonl('{"image": "s3://b/a.png", "duration": 10}\n', '{"image": "s3://b/b.png"}'))

    assert (good.row, good.image.text, good.request.duration) == (1, "s3://b/a.png", 10)
    assert second.row == 2


def test_csv_gets_its_types_from_its_columns() -> None:
    (item,) = items(csv("image,duration,audio,seed,prompt\ns3://b/a.png, 10 ,FALSE,7, a cat \n"))

    assert (item.request.duration, item.request.audio, item.request.seed) == (10, False, 7)
    assert item.request.prompt == " a cat "


def test_an_empty_cell_means_the_default() -> None:
    (item,) = items(csv("image,duration,resolution\ns3://b/a.png,,\n"))

    assert (item.request.duration, item.request.resolution) == (5, "720P")


def test_a_cell_may_hold_a_line_break_and_a_bom_may_come_first() -> None:
    (item,) = items(csv('\ufeffimage,prompt\ns3://b/a.png,"one\ntwo"\n'))

    assert item.request.prompt == "one\ntwo"


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"image": ["s3://b/a.png", None], "duration": [15, 5]}), path)

    with path.open("rb") as file:
        good, bad = items(read_parquet(file))

    assert good.request.duration == 15
    assert isinstance(bad, InvalidRow)
    assert bad.row == 2


def test_what_is_no_parquet_is_an_error() -> None:
    with pytest.raises(WanValidationError, match="not Parquet"):
        list(read_parquet(io.BytesIO(b"none")))


def test_a_wrong_type_on_row_7_is_a_fault_of_row_7_alone() -> None:
    rows = [f"s3://b/{number}.png,{'five' if number == 7 else 5}\n" for number in range(1, 10)]

    found = items(csv("image,duration\n" + "".join(rows)))

    assert [each.row for each in found if isinstance(each, InvalidRow)] == [7]
    assert "duration='five': must be an integer" in found[6].reason


def test_json_text_where_an_integer_belongs_is_refused() -> None:
    (bad,) = items(jsonl('{"image": "s3://b/a.png", "duration": "5"}'))

    assert "duration='5'" in bad.reason


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"image": "caf\xe9.png"}', "row 1 is not UTF-8"),
        (b"{nothing}", "row 1 is not JSON"),
        (b"[1]", "row 1 must be a JSON object, and is list"),
        (b'"s3://b/a.png"', "row 1 must be a JSON object, and is str"),
        (b"{" + b" " * 1_000_000 + b"}", "row 1 has 1000000 bytes or more"),
        (b"[" * 100_000, "row 1 is not JSON"),
    ],
)
def test_a_line_that_can_not_be_read_is_named_and_the_next_one_is_read(line: Any, fault: str) -> None:
    bad, good = items(jsonl(line, "\n", '{"image": "s3://b/a.png"}\n'))

    assert fault in bad.reason
    assert (good.row, good.image.text) == (2, "s3://b/a.png")


def test_a_csv_row_that_is_not_utf8_is_named_and_the_others_are_read() -> None:
    good, bad, last = items(csv(b"image\ns3://b/\xc3\xa9.png\ns3://b/caf\xe9.png\ns3://b/c.png\n"))

    assert bad.reason == "row 2 is not UTF-8"
    assert (good.row, last.row) == (1, 3)


def test_a_csv_row_with_too_many_cells_is_named() -> None:
    (bad,) = items(csv("image,prompt\ns3://b/a.png,one, two\n"))

    assert bad.reason == "row 1 has 3 cells, and the header has 2. Quote cells that hold the delimiter or a line break"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("name,prompt\nx,y\n", "must have a column image or img_url"),
        ("image,promt\nx,y\n", "did you mean 'prompt'"),
        ("image,image\nx,y\n", "occurs as a column more than once"),
        ("", "is empty"),
        ('image\n"s3://b/a', "is not CSV"),
        ("image\n".encode("utf-16"), "Save it as UTF-8"),
    ],
)
def test_a_csv_that_can_not_be_meant_is_refused_as_a_whole(text: Any, rule: str) -> None:
    with pytest.raises(WanValidationError, match=rule):
        list(csv(text))


def test_an_empty_jsonl_is_refused() -> None:
    with pytest.raises(WanValidationError, match="is empty"):
        list(jsonl())


def test_columns_of_the_users_own_are_left_alone() -> None:
    assert isinstance(items(jsonl('{"image": "s3://b/a.png", "customer": 7, "tags": ["x"]}'))[0], Item)


def test_a_misspelled_field_of_a_row_is_refused() -> None:
    (bad,) = items(jsonl('{"image": "s3://b/a.png", "negativ_prompt": "text"}'))

    assert "did you mean 'negative_prompt'" in bad.reason


@pytest.mark.parametrize("name", ["../x", "a/../b", "/x", "a//b", "a\\b", "_batch/x", "a\nb", "", ".", True, "x" * 201])
def test_a_name_that_leads_elsewhere_is_refused(name: Any) -> None:
    (bad,) = items(ListManifest([{"image": "s3://b/a.png", "name": name}]).rows())

    assert isinstance(bad, InvalidRow)
    assert "name=" in bad.reason


def test_a_name_may_have_folders_and_loses_its_extension() -> None:
    (item,) = items(ListManifest([{"image": "s3://b/a.png", "name": "cats/tom.mp4"}]).rows())

    assert item.name == "cats/tom"


def test_a_list_may_hold_addresses_alone_and_what_is_neither_is_named() -> None:
    good, bad = items(ListManifest(["s3://b/a.png", 7]).rows())

    assert good.image.text == "s3://b/a.png"
    assert "is int" in bad.reason


def test_no_query_string_and_no_password_is_in_a_reason_or_digest() -> None:
    url = "https://h.example.com/a.png?X-Amz-Signature=secret"
    rows = [
        {"image": url, "duration": 7},
        {"image": url, "img_url": url},
        {"image": url.replace("h.", "user:secret@h.")},
        {"image": url},
        {"image": url.replace("secret", "other")},
    ]
    *bad, one, other = items(ListManifest(rows).rows())

    assert all(isinstance(each, InvalidRow) for each in bad)
    assert "secret" not in "".join(f"{each.image}{each.reason}" for each in bad) + str(one)
    assert one.digest == other.digest


@pytest.mark.parametrize("given", [None, 7, "", "rows.txt", "https://h.example.com/rows.csv", "s3://b/rows"])
def test_what_is_no_manifest_is_refused(given: int | str | None) -> None:
    with pytest.raises(WanValidationError, match="manifest"):
        open_manifest(given, no_s3)


def test_a_manifest_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError):
        list(open_manifest(str(tmp_path / "rows.jsonl"), no_s3).rows())


def test_the_identity_of_a_file_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image": "s3://b/a.png"}\n')
    manifest = open_manifest(f"file://{path}", no_s3)
    first = manifest.identity()
    path.write_text('{"image": "s3://b/a.png"}\n{"image": "s3://b/b.png"}\n')

    assert (first == manifest.identity(), len(list(manifest.rows()))) == (False, 2)


@pytest.mark.parametrize("name", ["cat.jpg", "rows.jsonl", "metadata.jsonl"])
def test_clips_and_records_that_are_written_into_a_folder_do_not_change_its_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"image": "https://images.example.com/1.png"}\n')
    folder = open_manifest(f"{tmp_path}/", lambda: None)
    before = folder.identity(), len(list(folder.rows()))
    for suffix in (".json", ".mp4"):
        (tmp_path / f"cat-0123456789{suffix}").write_text('{"request_id": "r1"}')

    assert (folder.identity(), len(list(folder.rows()))) == before


def test_an_image_that_is_added_to_a_folder_changes_its_rows_and_a_table_beside_images_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"")
    folder = open_manifest(f"{tmp_path}/", lambda: None)
    before = folder.identity()
    (tmp_path / "log.csv").write_text("time\n")
    beside = folder.identity()
    (tmp_path / "dog.jpg").write_bytes(b"")

    assert beside == before != folder.identity()


def test_columns_whose_names_are_numbers_beside_texts_are_no_fault() -> None:
    listed = open_manifest([{"image": "https://images.example.com/1.png", 0: 7}], lambda: None)

    assert listed.identity() == open_manifest(listed.items, lambda: None).identity()  # type: ignore[attr-defined]
    assert [row.fault for row in listed.rows()] == [None]


def test_a_long_manifest_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"image": "s3://b/a.png", "prompt": "x" * 500}) + "\n"
    path.write_text(line * 20_000)
    tracemalloc.start()
    count = sum(isinstance(row, RawRow) for row in open_manifest(str(path), no_s3).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 20_000
    assert peak < 3_000_000
