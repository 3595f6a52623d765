# SPDX-License-Identifier: Apache-2.0
"""Tables as spreadsheets, pandas, Spark and dataset authors write them."""

from __future__ import annotations

import bz2
import contextlib
import datetime
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch import json_stream, tables
from airflow_provider_wan.batch.columns import ColumnMapping
from airflow_provider_wan.batch.manifest import ListManifest, count_rows, open_manifest
from airflow_provider_wan.batch.rows import InvalidRow, Item, parse_row
from airflow_provider_wan.batch.tables import find_reader
from airflow_provider_wan.media.source import MediaSource, SourceMissingError

HEADER = "image;prompt;duration\r\n"
DEFAULTS = {"resolution": "720P", "prompt": "the default"}


def no_s3() -> None:
    raise AssertionError("S3 is not needed")


def read(name: str, data: bytes, **mapping: Any) -> list[Any]:
    reader = find_reader(name)
    assert reader is not None
    rows = reader(io.BytesIO(data), ColumnMapping.parse(mapping.get("columns"), mapping.get("row_templates")))
    return [parse_row(row, DEFAULTS) for row in rows]


def read_list(*rows: Any) -> list[Any]:
    return [parse_row(row, DEFAULTS) for row in ListManifest(rows).rows()]


def prompts(items: list[Any]) -> list[Any]:
    return [each.request.to_payload()["prompt"] if isinstance(each, Item) else each.reason for each in items]


# --- CSV dialects ---------------------------------------------------------------------------------
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_delimiter_is_the_one_that_gives_the_columns(delimiter: str, mark: bytes, newline: str) -> None:
    lines = ["image,prompt,duration", 's3://b/é.png,"a, b; c|d",10', "s3://b/b.png,x,5"]
    text = newline.join(line.replace(",", "\0") for line in lines).replace('"a\0 b; c|d"', '"a, b; c|d"')

    first, second = read("rows.csv", mark + text.replace("\0", delimiter).encode())

    assert (first.image.text, first.request.prompt, first.request.duration) == ("s3://b/é.png", "a, b; c|d", 10)
    assert second.request.duration == 5


def test_a_line_may_name_the_delimiter() -> None:
    (item,) = read("rows.csv", b"\xef\xbb\xbfsep=;\r\nimage;prompt\r\ns3://b/a.png;x, y\r\n")

    assert item.request.prompt == "x, y"


def test_a_csv_of_a_western_spreadsheet_is_read_as_windows_1252() -> None:
    (item,) = read("rows.csv", (HEADER + "s3://b/a.png;ein Käfer für 5 €;5\r\n").encode("cp1252"))

    assert item.request.prompt == "ein Käfer für 5 €"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Кошка медленно идёт по снежной улице к дому"),
        ("shift_jis", "猫が雪の道をゆっくり歩いて家に帰ります"),
    ],
)
def test_text_of_another_alphabet_is_not_read_as_windows_1252(encoding: str, text: str) -> None:
    with pytest.raises(WanValidationError, match="Save it as UTF-8"):
        read("rows.csv", (HEADER + f"s3://b/a.png;{text};5\r\n" * 5).encode(encoding))


def test_line_breaks_and_quotes_in_cells_are_kept() -> None:
    items = read("rows.csv", b'image,prompt\r\ns3://b/a.png,"one\r\n""two"""\r\ns3://b/b.png,x\r\n')

    assert prompts(items) == ['one\r\n"two"', "x"]


def test_a_huge_cell_of_a_column_that_is_not_used_does_not_matter() -> None:
    data = b"image,prompt,note\ns3://b/a.png,x," + b"y" * 3_000_000 + b"\ns3://b/b.png,y,\n"

    assert prompts(read("rows.csv", data)) == ["x", "y"]


def test_a_huge_cell_of_a_used_column_is_a_fault_of_its_row() -> None:
    first, second = read("rows.csv", b'image,prompt\ns3://b/a.png,"' + b"y\n" * 200_000 + b'"\ns3://b/b.png,y\n')

    assert isinstance(first, InvalidRow)
    assert "at most 1500 characters" in first.reason
    assert (second.row, second.request.prompt) == (2, "y")


def test_a_broken_record_is_a_fault_of_its_row() -> None:
    first, second, third = read("rows.csv", b'image,prompt\ns3://b/a.png,x\ns3://b/b.png,"x"y\ns3://b/c.png,z\n')

    assert (first.row, third.row) == (1, 3)
    assert "row 2 is not CSV" in second.reason


def test_lines_of_delimiters_only_are_no_rows() -> None:
    assert len(read("rows.csv", (HEADER + "s3://b/a.png;x;5\r\n;;\r\n;;\r\n").encode())) == 1


def test_empty_cells_at_the_end_of_a_row_may_be_too_many_or_missing() -> None:
    assert prompts(read("rows.csv", b"image,prompt\ns3://b/a.png,x,\ns3://b/b.png,y, ,\n")) == ["x", "y"]
    assert prompts(read("rows.csv", b"image,prompt,note,id\ns3://b/a.png,x\ns3://b/b.png,y,n\n")) == ["x", "y"]
    one, two = read("rows.csv", b"image,prompt,seed\ns3://b/a.png,a cat\nin the snow,5\n")
    for bad in (one, two):
        assert f"row {bad.row} has 2 cells, and the header has 3" in bad.reason
        assert "Quote" in bad.reason


def test_spaces_after_the_delimiter_are_no_part_of_the_cells_if_the_header_has_them() -> None:
    data = b'image, prompt, name\n s3://b/a.png, "a, b", x\ns3://b/b.png , c, "y"\n'

    one, two = read("rows.csv", data)

    assert (one.image.text, one.request.prompt, one.name) == ("s3://b/a.png", "a, b", "x")
    assert (two.image.text, two.request.prompt, two.name) == ("s3://b/b.png", "c", "y")
    assert prompts(read("rows.csv", b"image,prompt\ns3://b/a.png, c\n")) == [" c"]


def test_a_quotation_mark_begins_a_cell_of_a_tsv_only_if_another_one_ends_it() -> None:
    cells = ['"open', '"Best" shot', '"a ""b"" c"', '"', 'say "x"', '"two\nlines"', '"x" "', '"tab\tin"', '"']
    data = "image\tprompt\n" + "".join(f"s3://b/{number}.png\t{cell}\n" for number, cell in enumerate(cells))

    found = prompts(read("rows.tsv", data.encode()))

    assert found == ['"open', '"Best" shot', 'a "b" c', '"', 'say "x"', "two\nlines", '"x" "', "tab\tin", '"']


def test_the_delimiter_is_the_one_that_gives_the_columns_of_the_templates() -> None:
    templates = {"image": "s3://b/{{ id }}.jpg", "prompt": "{{ row['title, short'] }}, {{ row['place, time'] }}"}

    (item,) = read("rows.csv", b"id;title, short;place, time, more;place, time\n5;hello;y;z\n", row_templates=templates)

    assert (item.image.text, item.request.prompt) == ("s3://b/5.jpg", "hello, z")


def test_columns_without_a_name_may_repeat() -> None:
    assert prompts(read("rows.csv", b"image,prompt,,\ns3://b/a.png,x,,\n")) == ["x"]


@pytest.mark.parametrize("mark", ["NaN", "nan", "None", "null", "NULL", "<NA>", "NA", "N/A", " NaN ", ""])
def test_a_mark_of_a_missing_value_is_unset_in_every_column(mark: str) -> None:
    header = "image,prompt,duration,seed,audio\n"
    (item,) = read("rows.csv", f"{header}s3://b/a.png,{mark},{mark},{mark},{mark}\n".encode())

    assert (item.request.prompt, item.request.duration, item.request.seed) == ("the default", 5, None)
    assert item.request.audio is True


@pytest.mark.parametrize(("text", "value"), [("10.0", 10), (" 10 ", 10), ("10,0", 10), ("10.00", 10)])
def test_integers_as_pandas_and_spreadsheets_write_them(text: str, value: int) -> None:
    (item,) = read("rows.csv", f"image;duration\ns3://b/a.png;{text}\n".encode())

    assert item.request.duration == value


@pytest.mark.parametrize("text", ["10.5", "1_0", "٥", "1e1", "ten", "0x5"])
def test_what_is_not_exactly_an_integer_is_refused(text: str) -> None:
    (bad,) = read("rows.csv", f"image;duration\ns3://b/a.png;{text}\n".encode())

    assert "must be an integer" in bad.reason


@pytest.mark.parametrize("text", ["42,000", "1.000", "-7.000"])
def test_three_zeros_after_a_separator_may_be_thousands_and_are_refused(text: str) -> None:
    (bad,) = read("rows.csv", f"image;seed\ns3://b/a.png;{text}\n".encode())

    assert f"seed={text!r}: must be an integer, and may be one with a thousands separator" in bad.reason
    assert f"Write {text.replace(',', '').replace('.', '')} or {text[:-4]}" in bad.reason


# --- formats and compression ----------------------------------------------------------------------
def compress_zstd(data: bytes) -> bytes:
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return bytes(zstd.compress(data))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".zst", compress_zstd), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "image,prompt\ns3://b/a.png,x\ns3://b/b.png,y\n"),
        ("rows.tsv", "image\tprompt\ns3://b/a.png\tx\ns3://b/b.png\ty\n"),
        ("rows.jsonl", '{"image": "s3://b/a.png", "prompt": "x"}\n{"image": "s3://b/b.png", "prompt": "y"}\n'),
        ("rows.json", '[{"image": "s3://b/a.png", "prompt": "x"},\n {"image": "s3://b/b.png", "prompt": "y"}]'),
        ("rows.json", '{"image": "s3://b/a.png", "prompt": "x"}\n{"image": "s3://b/b.png", "prompt": "y"}\n'),
    ],
)
def test_each_format_is_read_with_each_compression(name: str, text: str, suffix: str, compress: Any) -> None:
    assert prompts(read(name + suffix, compress(text.encode()))) == ["x", "y"]


def test_two_gzip_members_are_one_file() -> None:
    data = gzip.compress(b'{"image": "s3://b/a.png"}\n') + gzip.compress(b'{"image": "s3://b/b.png"}\n')

    assert len(read("rows.jsonl.gz", data)) == 2


@pytest.mark.parametrize("compress", [gzip.compress, compress_zstd, bz2.compress, lzma.compress])
def test_a_compressed_file_that_is_cut_off_is_an_error(compress: Any) -> None:
    data = compress(b"".join(b'{"image": "s3://b/%d.png"}\n' % number for number in range(5000)))

    with pytest.raises(WanValidationError, match="cut off"):
        read("rows.jsonl", data[: len(data) // 2])


@pytest.mark.parametrize("text", ["", '{"rows": []}\n', "[1, 2", '[{"image": "a"} {}]'])
def test_json_that_holds_no_rows_is_an_error_or_a_fault(text: str) -> None:
    try:
        found = read("rows.json", text.encode())
    except WanValidationError:
        return
    assert all(isinstance(each, InvalidRow) for each in found)


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        (b'{"image": "caf\xe9.png"}', "is not UTF-8"),
        (b'{"image": nothing}', "is not JSON (Expecting value)"),
        (b'{"image": "a.png" "x": [1, 2}}', "is not JSON"),
        (b'{"image": "a\nb.png"}', "is not JSON (Invalid control character at)"),
        (b"", "is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "is not JSON (it is nested too deep)"),
    ],
)
def test_an_element_that_can_not_be_read_is_named_and_the_next_one_is_read(element: bytes, fault: str) -> None:
    data = b'\xef\xbb\xbf [ {"image": "s3://b/a, ]}.png"},' + element + b', {"image": "s3://b/\xc3\xa4.png"} ]\n'

    first, bad, last = read("rows.json", data)

    assert first.image.text == "s3://b/a, ]}.png"
    assert f"row 2 {fault}" in bad.reason
    assert last.image.text == "s3://b/ä.png"


def test_numbers_of_any_size_and_half_an_emoji_concern_their_row_only() -> None:
    rows = [
        '{"image": "s3://b/a.png", "id": 18446744073709551615, "score": NaN, "big": 1e999, "x": -Infinity}',
        '{"image": "s3://b/b.png", "prompt": "a \\ud83d"}',
        '{"image": "s3://b/c.png", "seed": 18446744073709551615}',
        '{"image": "s3://b/d.png", "duration": 5.0}',
    ]

    for text in (f"[{','.join(rows)}]", "\n".join(rows)):
        first, half, big, last = read("rows.json", text.encode())
        assert isinstance(first, Item)
        assert "prompt=" in half.reason
        assert "seed=" in big.reason
        assert last.request.duration == 5


def test_elements_may_be_longer_than_what_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"image": f"s3://b/{number}.png", "prompt": 'ä\\"' * (number % 40), "n": 12345678} for number in range(200)]
    data = json.dumps(rows, ensure_ascii=False).encode()
    for size in (1, 7, 64):
        monkeypatch.setattr(json_stream, "_CHUNK", size)
        assert [item.request.prompt for item in read("rows.json", data) if item.row > 1] == [
            row["prompt"] or "the default" for row in rows[1:]
        ]
    monkeypatch.setattr(json_stream, "MAX_ELEMENT", 50)
    with pytest.raises(WanValidationError, match="a quote may not be closed"):
        read("rows.json", data)


@pytest.mark.parametrize("rest", [b"", b",", b", {", b', {"image": "b', b"] x", b" {}]", b"}"])
def test_an_array_that_does_not_end_is_an_error_after_its_rows(rest: bytes) -> None:
    reader = find_reader("rows.json")
    assert reader is not None
    rows = reader(io.BytesIO(b'[{"image": "s3://b/a.png"}' + rest), ColumnMapping())

    assert next(rows).values["image"] == "s3://b/a.png"
    with pytest.raises(WanValidationError, match=r"after row 1.*is not JSON"):
        list(rows)


def test_a_long_array_is_not_held_in_memory() -> None:
    row = json.dumps({"image": "s3://b/a.png", "text": "x" * 500}).encode()
    file = io.BytesIO(b"[" + b",".join([row] * 40_000) + b"]")

    tracemalloc.start()
    try:
        assert sum(1 for _ in tables.read_json(file)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_elements_that_are_no_objects_are_faults() -> None:
    bad, good = read("rows.json", b'[7, {"image": "s3://b/a.png"}]')

    assert "must be a JSON object, and is int" in bad.reason
    assert good.row == 2


# --- Parquet --------------------------------------------------------------------------------------
def parquet(table: Any, **options: Any) -> bytes:
    from pyarrow import parquet as writer

    buffer = io.BytesIO()
    writer.write_table(table, buffer, **options)
    return buffer.getvalue()


def test_only_the_used_columns_of_a_parquet_are_read() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(
        {
            "image": ["s3://b/a.png", "s3://b/b.png"],
            "prompt": ["x", "y"],
            "taken": arrow.array([1, 2], arrow.timestamp("ns")),
            "nested": [{"a": [{"b": 1}]}, None],
            "broken": arrow.array([b"\xff", b"\xfe"]).view(arrow.string()),
        }
    )

    assert prompts(read("rows.parquet", parquet(table))) == ["x", "y"]


def test_a_value_of_a_used_column_that_can_not_be_read_is_a_fault_of_its_row() -> None:
    arrow = pytest.importorskip("pyarrow")
    texts = arrow.array([b"x", b"\xff\xfe", b"z"]).view(arrow.string())

    first, bad, last = read("rows.parquet", parquet(arrow.table({"image": ["s3://b/a.png"] * 3, "prompt": texts})))

    assert (first.request.prompt, last.request.prompt) == ("x", "z")
    assert "row 2 cannot be read" in bad.reason


def test_a_broken_row_group_is_set_aside() -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as reader

    images = [f"s3://b/{number}-{'x' * 50}.png" for number in range(30)]
    data = parquet(arrow.table({"image": images}), row_group_size=10, compression="none", use_dictionary=False)
    column = reader.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0)
    start = column.data_page_offset
    broken = data[:start] + b"\xff" * 40 + data[start + 40 :]

    found = read("rows.parquet", broken)

    assert [each.row for each in found] == list(range(1, 31))
    assert [each.row for each in found if isinstance(each, InvalidRow)] == list(range(11, 21))


def test_a_frame_of_pandas_keeps_its_meaning(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "image": ["s3://b/a.png", "s3://b/b.png", "s3://b/c.png"],
            "prompt": ["x", None, float("nan")],
            "duration": [5, None, 10.0],
            "seed": pandas.array([7, None, 2**31 - 1], dtype="Int64"),
            "audio": [1.0, 0.0, None],
            "watermark": pandas.array([True, None, False], dtype="boolean"),
            "at": pandas.date_range("2026-01-01", periods=3),
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True, date_format="iso")
    frame.to_json(tmp_path / "rows.json", orient="records", date_format="iso")

    for name in ("rows.parquet", "rows.csv", "rows.jsonl", "rows.json"):
        first, second, third = read(name, (tmp_path / name).read_bytes())
        assert [each.request.prompt for each in (first, second, third)] == ["x", "the default", "the default"]
        assert [each.request.duration for each in (first, second, third)] == [5, 5, 10]
        assert [each.request.seed for each in (first, second, third)] == [7, None, 2**31 - 1]
        assert [each.request.audio for each in (first, second, third)] == [True, False, True]
        assert [each.request.watermark for each in (first, second, third)] == [True, False, False]

    assert prompts(read_list(*frame.to_dict("records"))) == ["x", "the default", "the default"]


@pytest.mark.parametrize("value", [5.5, Decimal("5.5"), float("inf"), "5", True, [5], datetime.timedelta(seconds=5)])
def test_a_typed_value_that_is_no_integer_is_refused(value: Any) -> None:
    (bad,) = read_list({"image": "s3://b/a.png", "duration": value})

    assert isinstance(bad, InvalidRow)
    assert "duration" in bad.reason


def test_numpy_and_decimal_values_are_plain_values() -> None:
    numpy = pytest.importorskip("numpy")
    row = {
        "image": numpy.str_("s3://b/a.png"),
        "duration": Decimal("10"),
        "seed": numpy.int64(7),
        "audio": numpy.bool_(False),
        "prompt": numpy.float64("nan"),
    }

    (item,) = read_list(row)

    assert (item.request.duration, item.request.seed, item.request.audio) == (10, 7, False)
    assert item.request.prompt == "the default"
    assert json.dumps(item.request.to_payload())


# --- columns by any name --------------------------------------------------------------------------
def test_columns_are_mapped_by_their_names_in_the_table() -> None:
    data = b"URL,TEXT,names,duration\ns3://b/a.png,x,n,37.2\n"

    (item,) = read("rows.csv", data, columns={"image": "URL", "prompt": "TEXT", "duration": None, "name": None})

    assert (item.image.text, item.request.prompt, item.request.duration) == ("s3://b/a.png", "x", 5)


def test_a_mapping_may_be_the_text_that_a_template_renders_to() -> None:
    for text in ("{'image': 'URL', 'prompt': None}", '{"image": "URL", "prompt": null}'):
        (item,) = read("rows.csv", b"URL,prompt\ns3://b/a.png,x\n", columns=text)
        assert item.request.prompt == "the default"


def test_a_template_is_rendered_over_the_row() -> None:
    data = b"URL,TEXT,a b,n\ns3://b/a.png,a cat,snow,10\ns3://b/b.png,,snow,5\n"
    templates = {
        "prompt": "{{ TEXT }} in the {{ row['a b'] }}, 8 mm film",
        "duration": "{{ n }}",
        "name": "set/{{ TEXT | replace(' ', '-') }}",
    }

    first, bad = read("rows.csv", data, columns={"image": "URL"}, row_templates=templates)

    assert (first.request.prompt, first.request.duration, first.name) == (
        "a cat in the snow, 8 mm film",
        10,
        "set/a-cat",
    )
    assert isinstance(bad, InvalidRow)
    assert "row 2" in bad.reason
    assert "TEXT" in bad.reason


def test_a_template_may_have_a_default_and_a_constant_is_a_template() -> None:
    data = b'{"url": "s3://b/a.png"}\n'
    templates = {"image": "{{ url }}", "prompt": "{{ text | default('a cat') }}", "duration": "10"}

    (item,) = read("rows.jsonl", data, row_templates=templates)

    assert (item.request.prompt, item.request.duration) == ("a cat", 10)


def test_templates_and_columns_apply_to_addresses_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    mapping = ColumnMapping.parse(None, {"prompt": "slow zoom of {{ image.rpartition('/')[2] }}", "duration": "10"})

    for manifest in (ListManifest([f"{tmp_path}/a.png"], mapping), open_manifest(f"{tmp_path}/", no_s3, mapping)):
        (item,) = [parse_row(row, DEFAULTS) for row in manifest.rows()]
        assert isinstance(item, Item)
        assert (item.request.prompt, item.request.duration) == ("slow zoom of a.png", 10)


@pytest.mark.parametrize(
    "mapping",
    [{"columns": {"image": "URL"}}, {"columns": {"prompt": "TEXT"}}, {"row_templates": {"prompt": "{{ TEXT }}"}}],
)
def test_addresses_alone_have_no_other_column(tmp_path: Path, mapping: dict[str, Any]) -> None:
    (tmp_path / "a.png").touch()
    columns = ColumnMapping.parse(mapping.get("columns"), mapping.get("row_templates"))

    with pytest.raises(WanValidationError, match=r"is not a column.*image"):
        list(open_manifest(f"{tmp_path}/", no_s3, columns).rows())
    with contextlib.suppress(WanValidationError):
        assert all(isinstance(parse_row(row, DEFAULTS), InvalidRow) for row in ListManifest(["a.png"], columns).rows())


MISSPELLED = {
    "rows.jsonl": b'{"image": "s3://b/a.png", "txt": "x"}\n{"image": "s3://b/b.png"}\n',
    "rows.json": b'[{"image": "s3://b/a.png", "txt": "x"}, {"image": "s3://b/b.png"}]',
}


@pytest.mark.parametrize("name", MISSPELLED)
def test_a_column_that_no_row_has_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(MISSPELLED[name])
    columns = ColumnMapping.parse({"prompt": "caption"})

    for uri in (f"{tmp_path}/{name}", f"{tmp_path}/"):
        with pytest.raises(
            WanValidationError, match=r"columns\['prompt'\]='caption': is not a column of any row; the.* image, txt"
        ):
            next(open_manifest(uri, no_s3, columns).rows())
    with pytest.raises(WanValidationError, match="is not a column of any row"):
        next(ListManifest([{"image": "s3://b/a.png", "txt": "x"}, "s3://b/b.png"], columns).rows())


def test_a_column_that_few_rows_have_is_unset_in_the_others(tmp_path: Path) -> None:
    lines = [{"image": f"s3://b/{number}.png"} for number in range(50)]
    lines[40]["caption"] = "a cat"
    (tmp_path / "0.jsonl").write_text(json.dumps(lines[0]))
    (tmp_path / "1.json").write_text(json.dumps(lines[1:]))
    columns = ColumnMapping.parse({"prompt": "caption", "seed": None})

    for manifest in (open_manifest(f"{tmp_path}/", no_s3, columns), ListManifest(lines, columns)):
        rows = list(manifest.rows())
        assert [row.fault for row in rows] == [None] * 50
        assert [row.values.get("prompt") for row in rows].index("a cat") == 40
    assert list(ListManifest([], columns).rows()) == []


def test_another_spelling_of_a_mapped_column_is_a_fault_of_its_row() -> None:
    data = (
        b'{"image": "s3://b/a.png", "TEXT": "x"}\n{"image": "s3://b/b.png", "text": "y"}\n{"image": "s3://b/c.png"}\n'
    )

    good, bad, sparse = read("rows.jsonl", data, columns={"prompt": "TEXT"})

    assert prompts([good, sparse]) == ["x", "the default"]
    assert "columns['prompt']='TEXT': is not a column of this row, which has 'text'" in bad.reason


def test_columns_that_resemble_the_other_name_of_a_given_file_are_ignored() -> None:
    for name, data in (
        ("rows.csv", b"image,image_url,img_urls\ns3://b/a.png,x,y\n"),
        ("rows.jsonl", b'{"image": "s3://b/a.png", "image_url": "x", "img_urls": ["y"]}\n'),
    ):
        (item,) = read(name, data)
        assert item.image.text == "s3://b/a.png"


def test_a_row_is_data_and_no_template() -> None:
    (item,) = read(
        "rows.jsonl", b'{"image": "s3://b/a.png", "t": "{{ 7 * 7 }}"}\n', row_templates={"prompt": "{{ t }}"}
    )

    assert item.request.prompt == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    ("columns", "templates", "rule"),
    [
        ({"picture": "URL"}, None, "is not a field"),
        ({"image": ""}, None, "must be the name of a column"),
        ({"image": "LINK"}, None, "is not a column; there are URL, TEXT"),
        ({"image": "URL"}, {"prompt": "{{ TITLE }}"}, "is not a column"),
        ({"image": "URL"}, {"prompt": "{{ TEXT"}, "is not a Jinja template"),
        ({"image": "URL"}, {"prompt": "{{ ['slow', 'fast'] | random }} zoom"}, "No filter named 'random'"),
        ({"image": "URL"}, {"prompt": "{{ lipsum(1) }}"}, "lipsum"),
        ({"image": "URL", "prompt": "TEXT"}, {"prompt": "{{ TEXT }}"}, "already given"),
        ({"image": "URL", "img_url": "URL"}, None, "give only one of them"),
        ("[1]", None, "must map fields"),
        ("no", None, "must map fields"),
        ({"prompt": "TEXT"}, None, "must have a column image or img_url"),
    ],
)
def test_a_mapping_that_can_not_be_meant_is_refused(columns: Any, templates: Any, rule: str) -> None:
    with pytest.raises(WanValidationError, match=rule):
        read("rows.csv", b"URL,TEXT\ns3://b/a.png,x\n", columns=columns, row_templates=templates)


def test_a_template_can_not_reach_python() -> None:
    (bad,) = read("rows.jsonl", b'{"image": "s3://b/a.png"}\n', row_templates={"prompt": "{{ ''.__class__.mro() }}"})

    assert isinstance(bad, InvalidRow)


def test_a_mapping_changes_the_identity_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("image,URL\ns3://b/a.png,s3://b/b.png\n")

    plain = open_manifest(str(path), no_s3)
    mapped = open_manifest(str(path), no_s3, ColumnMapping.parse({"image": "URL"}))

    assert plain.identity() != mapped.identity()


# --- folders --------------------------------------------------------------------------------------
def test_a_folder_of_parts_is_one_manifest(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    for part in range(3):
        images = [f"s3://b/{part}-{number}.png" for number in range(2)]
        (tmp_path / f"part-{part}.parquet").write_bytes(parquet(arrow.table({"image": images})))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "part-9.parquet").write_bytes(b"none")
    manifest = open_manifest(f"{tmp_path}/", no_s3)
    before = manifest.identity()

    rows = list(manifest.rows())

    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[2].values["image"] == "s3://b/1-0.png"
    assert count_rows(manifest) == 6
    (tmp_path / "part-3.parquet").write_bytes(parquet(arrow.table({"image": ["s3://b/9.png"]})))
    assert manifest.identity() != before


def test_a_local_folder_of_images_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.png", "a/c.JPG", "notes.csv", "x.txt"):
        (tmp_path / name).touch()

    images = [row.values["image"] for row in open_manifest(f"file://{tmp_path}/", no_s3).rows()]

    assert sorted(images) == sorted([str(tmp_path / "a/c.JPG"), str(tmp_path / "b.png")])


def list_images(folder: Path, **mapping: Any) -> list[Any]:
    manifest = open_manifest(f"{folder}/", no_s3, ColumnMapping.parse(mapping.get("columns")))
    assert manifest.identity() == manifest.identity()
    return [row.values.get("image") for row in manifest.rows()]


def test_hidden_files_of_a_folder_are_ignored(tmp_path: Path) -> None:
    for name in ("b.png", "._b.png", ".hidden.png", "_DSC0001.jpg"):
        (tmp_path / name).touch()
    (tmp_path / ".#lock").symlink_to("nowhere")

    assert list_images(tmp_path) == [f"{tmp_path}/_DSC0001.jpg", f"{tmp_path}/b.png"]


def test_a_link_to_nowhere_is_a_row_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("gone.png")

    assert list_images(tmp_path) == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    source = MediaSource.parse(f"{tmp_path}/b.png")
    with pytest.raises(SourceMissingError, match=r"b\.png can't be read"):
        source.read(no_s3, 9, "image", "")


def test_a_file_whose_name_is_not_utf8_is_a_row_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    manifest = open_manifest(f"{tmp_path}/", no_s3)

    assert manifest.identity()
    good, bad = [parse_row(row, DEFAULTS) for row in manifest.rows()]
    assert isinstance(good, Item)
    assert isinstance(bad, InvalidRow)
    assert "Rename the file" in bad.reason
    assert f"{bad.image}{bad.reason}".encode()


def test_empty_parts_of_a_folder_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").touch()
    (tmp_path / "part-1.csv").write_text("image\ns3://b/a.png\n")
    (tmp_path / "part-2.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "part-3.jsonl").touch()
    (tmp_path / "part-4.jsonl").write_text('{"image": "s3://b/b.png"}\n')

    assert list_images(tmp_path) == ["s3://b/a.png", "s3://b/b.png"]
    assert list_images(tmp_path, columns={"image": "image"}) == ["s3://b/a.png", "s3://b/b.png"]
    with pytest.raises(WanValidationError, match=r"part-0\.csv': is empty"):
        list(open_manifest(f"{tmp_path}/part-0.csv", no_s3).rows())


def test_of_shards_and_what_describes_them_only_the_shards_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    (tmp_path / "dataset_infos.json").write_text('{\n "default": {}\n}')
    (tmp_path / "00000_stats.json").write_text('{\n "count": 1\n}')
    (tmp_path / "README.csv").write_text("no,image column\n")
    (tmp_path / "00000.parquet").write_bytes(parquet(arrow.table({"image": ["s3://b/a.png"]})))
    (tmp_path / "._00000.parquet").write_bytes(b"\0\5\x16\7")
    (tmp_path / "00001.pq").touch()

    assert list_images(tmp_path) == ["s3://b/a.png"]
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    (tmp_path / "00001.tar").touch()
    assert [image["path"] for image in list_images(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("part-1.csv", b"picture\ns3://b/b.png\n"),
        ("part-1.csv", b'image\n"s3://b/b.png'),
        ("part-1.json", b'[{"image": "s3://b/b.png"}'),
        ("part-1.jsonl", "x".encode("utf-16")),
        ("part-1.csv.gz", gzip.compress(b"image\n" * 99, mtime=0)[:-9]),
    ],
    ids=["no image", "an open quote", "an open array", "UTF-16", "cut off"],
)
def test_an_error_of_a_file_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "part-0.csv").write_text("image\ns3://b/a.png\n")
    (tmp_path / name).write_bytes(content)

    for uri in (f"{tmp_path}/", f"{tmp_path}/{name}"):
        with pytest.raises(WanValidationError) as raised:
            list(open_manifest(uri, no_s3).rows())
        assert f"{tmp_path}/{name}" in str(raised.value)


def test_rows_of_parquet_that_unpack_to_a_vast_size_are_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(tables, "MAX_ROW_BYTES", 100_000)
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, arrow.schema([("image", arrow.string())]), compression="zstd") as writer:
        for text in ("a.jpg", "x" * 1_000_000, "b.jpg"):
            writer.write_table(arrow.table({"image": [text]}))
    buffer.seek(0)

    rows = list(tables.read_parquet(buffer))

    assert len(buffer.getvalue()) < 10_000
    assert [row.number for row in rows] == [1, 2, 3]
    assert [row.values.get("image") for row in rows] == ["a.jpg", None, "b.jpg"]
    assert "at most 100000 are read" in str(rows[1].fault)


@pytest.mark.parametrize("start", [b"\n", b"\r\n \r\n", b"sep=;\r\n\r\n"], ids=["line", "lines", "after sep"])
def test_blank_lines_before_the_header_do_not_make_a_csv_empty(start: bytes) -> None:
    file = io.BytesIO(start + b"image;prompt\n" + b"https://images.example.com/1.png;a cat\n")

    (row,) = tables.read_csv(file)

    assert (row.number, dict(row.values)) == (1, {"image": "https://images.example.com/1.png", "prompt": "a cat"})
