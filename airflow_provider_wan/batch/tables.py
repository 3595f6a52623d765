# SPDX-License-Identifier: Apache-2.0
"""Reads the rows of one file: JSON, JSONL, CSV, TSV or Parquet, compressed or not.

Only the columns that are used are read, and only the current rows are in memory. A fault of the whole file (no image
column, empty) is an error. A fault of one row makes it a :class:`~airflow_provider_wan.batch.rows.RawRow` with that
fault, and the next row is read.

Rows are counted from 1. A CSV header and empty lines are not counted; in JSONL the row number is the line number.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO, Any, cast

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import BY_NAME, FIELD, ColumnMapping
from airflow_provider_wan.batch.errors import EmptyManifestError
from airflow_provider_wan.batch.json_stream import InvalidElement, JsonReader, JsonStructureError
from airflow_provider_wan.batch.rows import IMAGE_COLUMNS, RawRow

log = logging.getLogger(__name__)

MAX_LINE = 1_000_000  # bytes of a line of JSON
#: Characters of one record of a CSV, quoted line breaks included. A quote that is never closed ends there.
MAX_RECORD = 32_000_000
MAX_ROW_BYTES = 100_000_000  # of a row of Parquet, unpacked
_QUOTED, _UNQUOTED = re.compile(r'"(?:[^"]|"")*+"(?=\t|$)'), re.compile(r"[^\t]*")
_OPEN = re.compile(r'"(?:[^"]|"")*+')
_DELIMITERS = (",", ";", "\t", "|")
_NOT_UTF8 = "is not UTF-8"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ENCODING_SAMPLE = 200_000
_COCO_FIELDS = {"images": "file_name", "annotations": "image_id"}
_CHUNK = 1024 * 1024
_PARQUET_BATCH = 1000
_FILES_BATCH = 8

Reader = Callable[[IO[bytes], ColumnMapping], Iterator[RawRow]]


def find_reader(path: str) -> Reader | None:
    """Return what reads a file, by the extensions of its name; None if it is not a table.

    :param path: name of the file.
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes[-2:]]
    compressed = bool(suffixes) and suffixes[-1] in _COMPRESSIONS
    if compressed:
        suffixes.pop()
    read = _READERS.get(suffixes[-1]) if suffixes else None
    if read is None or (compressed and read is read_parquet):
        return None
    return read


# --- JSON ---------------------------------------------------------------------------------------
def read_jsonl(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield one row per line of JSON. Empty lines are ignored, but counted: the row number is the line number.

    :param file: the open file.
    :param columns: the columns to read.
    """
    with decompress(file) as stream:
        _refuse_utf16(stream)
        number = 0
        for number, line in enumerate(iter(lambda: _read_line(stream), b""), 1):
            line = line.removeprefix(codecs.BOM_UTF8)  # files with a mark may have been joined
            if not line.strip():
                continue
            if len(line) >= MAX_LINE:
                yield RawRow(number, {}, f"has {MAX_LINE} bytes or more")
                continue
            try:
                value = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield RawRow(number, {}, _NOT_UTF8)
            except (ValueError, RecursionError) as error:
                yield RawRow(number, {}, f"is not JSON ({error})"[:200])
            else:
                yield _build_object_row(number, value, columns)
        if number == 0:
            raise EmptyManifestError


def read_json(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield one row per object of a JSON array, which is read piece by piece.

    A file of one object per line is read as JSONL, and a COCO dataset by its images.

    :param file: the open file.
    :param columns: the columns to read.
    """
    start = file.tell()
    with decompress(file) as stream:
        _refuse_utf16(stream)
        head = stream.peek(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
        if not head:
            raise EmptyManifestError
        is_coco = head.startswith(b"{") and _is_coco(head)
        if not is_coco:
            yield from _read_json_stream(stream, head, columns)
    if is_coco:
        yield from _read_coco(file, start, columns)


def _read_json_stream(stream: io.BufferedReader, head: bytes, columns: ColumnMapping) -> Iterator[RawRow]:
    if head.startswith(b"{"):
        if b"\n" not in head.strip() or _is_json(head.partition(b"\n")[0]):
            yield from read_jsonl(stream, columns)
            return
        rule = "must be an array of objects, one object per line, or a COCO dataset"
        raise WanValidationError(FIELD, "the JSON object", rule)
    reader = JsonReader(stream)
    number = 0
    try:
        for number, value in enumerate(reader.read_elements(), 1):
            yield _build_object_row(number, value, columns)
        reader.check_end()
    except JsonStructureError as error:
        raise WanValidationError(FIELD, f"after row {number}", f"is not JSON: {error}") from None


# --- COCO ---------------------------------------------------------------------------------------
def _is_coco(head: bytes) -> bool:
    """Return whether JSON is a COCO dataset, by its first bytes: an object with lists of images and annotations."""
    reader = JsonReader(io.BytesIO(head))
    try:
        for name in reader.read_arrays(_COCO_FIELDS):
            for each in reader.read_elements():
                if isinstance(each, dict) and isinstance(each.get(_COCO_FIELDS[name]), str | int | float):
                    return True
    except JsonStructureError:  # the head ends anywhere
        pass
    return False


def _read_coco(file: IO[bytes], start: int, columns: ColumnMapping) -> Iterator[RawRow]:
    """Yield a row for each image of a COCO dataset, with its fields, and its first caption.

    The image is ``file_name``, a path relative to the file, and the prompt is ``caption``, unless the mapping gives
    others. The captions are held in memory.
    """
    columns = columns.with_default("image", "file_name").with_default("prompt", "caption")
    captions: dict[str, str] = {}
    number = 0
    try:
        for count, each in enumerate(_read_items(file, start, "annotations"), 1):
            if isinstance(each, InvalidElement):
                raise WanValidationError(FIELD, f"annotation {count}", each.reason)
            if isinstance(each, dict) and isinstance(caption := each.get("caption"), str):
                captions.setdefault(_format_id(each.get("image_id")), caption)
        for number, each in enumerate(_read_items(file, start, "images"), 1):
            if isinstance(each, dict):
                each = {**each, "caption": captions.get(_format_id(each.get("id")))}
            yield replace(_build_object_row(number, each, columns), is_relative=True)
    except JsonStructureError as error:
        raise WanValidationError(FIELD, f"after row {number}", f"is not JSON: {error}") from None


def _format_id(value: Any) -> str:
    """Return the id of an image as text: tools write 1, 1.0 and "1" for the same one."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _read_items(file: IO[bytes], start: int, name: str) -> Iterator[Any]:
    file.seek(start)
    with decompress(file) as stream:
        reader = JsonReader(stream)
        for _ in reader.read_arrays((name,)):
            yield from reader.read_elements()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _build_object_row(number: int, value: Any, columns: ColumnMapping) -> RawRow:
    if isinstance(value, InvalidElement):
        return RawRow(number, {}, value.reason)
    if not isinstance(value, dict):
        return RawRow(number, {}, f"must be a JSON object, and is {type(value).__name__}")
    return map_row(number, value, columns)


def map_row(number: int, values: Mapping[str, Any], columns: ColumnMapping, *, typed: bool = True) -> RawRow:
    """Return a row with the fields that its columns are for.

    :param number: row number.
    :param values: values by column.
    :param columns: the mapping.
    :param typed: whether the values have types; else all are text.
    """
    try:
        fields = columns.apply(values, typed=typed)
    except WanValidationError as error:
        return RawRow(number, _get_images(values), f"cannot be used: {error}", typed=typed)
    if columns and not set(IMAGE_COLUMNS) & fields.keys():
        names = ", ".join(values)[:200] or "no columns"
        return RawRow(number, fields, f"must name the image; the row has {names}", typed=typed)
    return RawRow(number, fields, typed=typed)


def _get_images(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in IMAGE_COLUMNS if isinstance(values.get(name), str)}


def _read_line(file: IO[bytes]) -> bytes:
    """Return the next line, truncated if it is too long."""
    line = file.readline(MAX_LINE)
    rest = line
    while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE)
    return line


# --- CSV ----------------------------------------------------------------------------------------
def read_csv(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield the rows of a CSV with a header. A cell that is empty, or holds a mark such as NaN, is treated as unset.

    The delimiter is what ``sep=`` in the first line says, or else that of comma, semicolon, tab and bar by which the
    header has the columns that are needed. Text is UTF-8, with or without a byte order mark, or Windows-1252.

    :param file: the open file.
    :param columns: the columns to read.
    """
    encoding = _detect_encoding(file)
    with decompress(file) as stream:
        # Bytes that are not UTF-8 become surrogates, so that they are a fault of their row only.
        text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
        csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
        lines = _RecordLines(text)
        try:
            delimiter, header_line = _detect_delimiter(lines, columns)
            if not header_line.strip():
                raise EmptyManifestError
            spaces = re.findall(rf"{re.escape(delimiter)}( ?)", header_line)
            options: dict[str, Any] = {"delimiter": delimiter, "strict": True}
            options["skipinitialspace"] = bool(spaces) and all(spaces)
            header = [name.strip() for name in next(csv.reader([header_line], **options), [])]
            used = set(columns.select(header))
            positions = [(index, name) for index, name in enumerate(header) if name in used]
            lines.width = len(header) if delimiter == "\t" else None
            yield from _read_records(lines, csv.reader(lines, **options), len(header), positions, columns)
        finally:
            text.detach()


def _read_records(
    lines: _RecordLines,
    reader: Iterator[list[str]],
    width: int,
    positions: list[tuple[int, str]],
    columns: ColumnMapping,
) -> Iterator[RawRow]:
    last_used = positions[-1][0] if positions else 0
    number = 0
    while True:
        lines.start_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.exhausted:
                raise WanValidationError(FIELD, f"line {lines.record_line}", f"is not CSV: {error}") from None
            number += 1
            yield RawRow(number, {}, f"is not CSV: {error} (line {lines.record_line})", typed=False)
            continue
        if not any(cell.strip() for cell in cells):
            continue  # an empty line, or what a spreadsheet writes for one
        number += 1
        # Spreadsheets leave out empty cells at the end. Where they are used, it may be a line break without quotes.
        if len(cells) <= last_used or any(cell.strip() for cell in cells[width:]):
            fault = f"has {len(cells)} cells, and the header has {width}"
            remedy = "Quote cells that hold the delimiter or a line break"
            yield RawRow(number, {}, f"{fault}. {remedy}", typed=False)
            continue
        values = {name: cells[index] for index, name in positions if cells[index].strip()}
        if any(_has_surrogates(cell) for cell in values.values()):
            yield RawRow(number, {}, _NOT_UTF8, typed=False)
        else:
            yield map_row(number, values, columns, typed=False)


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


class _RecordLines:
    """The lines of a CSV, for :func:`csv.reader`; a record of too many characters is an error.

    Most tools write tab-separated values without quotes: there, a quote that begins a cell and does not end it is one
    of its characters. ``width`` is the number of cells then.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._size = 0
        self._line = 0
        self._rest: list[str] = []
        self._is_quoted = False
        self.record_line = 0
        self.exhausted = False
        self.width: int | None = None

    def start_record(self) -> None:
        """Begin a record."""
        self._size = 0
        self._is_quoted = False
        self.record_line = self._line + 1

    def push_back(self, line: str) -> None:
        """Return a line, which is then the next one."""
        self._rest.append(line)
        self._line -= 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._rest.pop() if self._rest else self._text.readline(MAX_RECORD)
        self._size += len(line)
        if self._size >= MAX_RECORD:
            rule = f"has a record of {MAX_RECORD} characters or more: a quote may not be closed"
            raise WanValidationError(FIELD, f"line {self.record_line}", rule, "Close the quote, or save as JSONL")
        if not line:
            self.exhausted = True
            raise StopIteration
        self._line += 1
        if self.width is None or self._is_quoted or '"' not in line:
            return line
        return self._escape_quotes(line)

    def _escape_quotes(self, line: str) -> str:
        """Return the first line of a record of tab-separated values, with quotes that are characters doubled."""
        text = line.rstrip("\r\n")
        cells, open_cell = _split_cells(text)
        if open_cell is not None and not self._is_record(cells):
            self._is_quoted = True
            return line
        escaped = (cell if _QUOTED.fullmatch(cell) or cell[:1] != '"' else _double_quotes(cell) for cell in cells)
        return "\t".join(escaped) + line[len(text) :]

    def _is_record(self, cells: list[str]) -> bool:
        """Return whether a line is a record by itself, although a quote is not closed in it: so is the next line."""
        if len(cells) != self.width:
            return False
        if not self._rest:
            self._rest.append(self._text.readline(MAX_RECORD))
        following = self._rest[-1]
        return not following or len(_split_cells(following.rstrip("\r\n"))[0]) == self.width


def _split_cells(text: str) -> tuple[list[str], int | None]:
    """Return the cells of a line of tab-separated values, and where a quote begins one that is not closed in it."""
    cells: list[str] = []
    open_cell = None
    at = 0
    while at <= len(text):
        match = _QUOTED.match(text, at) or _UNQUOTED.match(text, at)
        cell = "" if match is None else match[0]
        if open_cell is None and _OPEN.fullmatch(text, at) and not _QUOTED.fullmatch(cell):
            open_cell = at
        cells.append(cell)
        at += len(cell) + 1
    return cells, open_cell


def _double_quotes(cell: str) -> str:
    doubled = cell.replace('"', '""')
    return f'"{doubled}"'


def _detect_delimiter(lines: _RecordLines, columns: ColumnMapping) -> tuple[str, str]:
    """Return the delimiter, and the line of the header, which is consumed."""
    header = _skip_blank(lines)
    if header.lower().startswith("sep=") and len(header.strip("\r\n")) == 5:
        delimiter = header[4]
        return delimiter, _complete_header(_skip_blank(lines), lines)
    header = _complete_header(header, lines)
    needed = {*columns.names, *IMAGE_COLUMNS}
    best, best_score = ",", (0, 0)
    for delimiter in _DELIMITERS:
        try:
            names = {name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])}
        except csv.Error:
            continue
        score = (len(needed & names), len(names))
        if score > best_score:
            best, best_score = delimiter, score
    return best, header


def _skip_blank(lines: _RecordLines) -> str:
    """Return the first line that is not blank; nothing if there is none."""
    return next((line for line in lines if line.strip()), "")


def _complete_header(line: str, lines: _RecordLines) -> str:
    """Return the header with the lines that belong to it: a name of a column may hold a line break."""
    while line.count('"') % 2:
        following = next(lines, "")
        if not following:
            break
        line += following
    return line


def _detect_encoding(file: IO[bytes]) -> str:
    """Return ``utf-8-sig``, or ``cp1252`` if the file is not UTF-8 anywhere.

    A file with valid UTF-8 besides ASCII is UTF-8, and other bytes in it are faults of their rows.
    """
    start = file.tell()
    decoder = codecs.getincrementaldecoder("utf-8")()
    sample = b""
    try:
        with decompress(file) as stream:
            _refuse_utf16(stream)
            while chunk := stream.read(_CHUNK):
                try:
                    if not decoder.decode(chunk).isascii():
                        return "utf-8-sig"
                except UnicodeDecodeError as error:
                    if not error.object[: error.start].isascii():
                        return "utf-8-sig"
                    sample = _sample_lines(chunk)
                    break
    finally:
        file.seek(start)
    if not sample:
        return "utf-8-sig"
    _refuse_other_encoding(sample)
    log.warning("The manifest is not UTF-8: it is read as Windows-1252. Save it as UTF-8 if its text is wrong")
    return "cp1252"


def _sample_lines(chunk: bytes) -> bytes:
    """Return lines that are not ASCII, as far as a detector needs them."""
    lines = [line for line in chunk.splitlines(keepends=True) if not line.isascii()]
    return b"".join(lines)[:_ENCODING_SAMPLE]


def _refuse_other_encoding(sample: bytes) -> None:
    """Refuse text that is not of a Western alphabet: read as Windows-1252 it would become a wrong prompt."""
    from charset_normalizer import from_bytes

    remedy = "Save it as UTF-8"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        raise WanValidationError(FIELD, "the file", f"{_NOT_UTF8}, nor Windows-1252", remedy) from None
    best = from_bytes(sample).best()
    foreign = [] if best is None else [each for each in best.alphabets if "Latin" not in each and _is_script(each)]
    if best is not None and foreign and len(sample) >= 24:
        raise WanValidationError(FIELD, "the file", f"{_NOT_UTF8}, but perhaps {best.encoding}", remedy)


def _is_script(unicode_range: str) -> bool:
    return any(
        word in unicode_range
        for word in ("Cyrillic", "Greek", "Hebrew", "Arabic", "CJK", "Hiragana", "Katakana", "Hangul", "Thai")
    )


# --- Parquet ------------------------------------------------------------------------------------
def read_parquet(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file, which is read in blocks, and of which only the used columns are read.

    :param file: the open file.
    :param columns: the columns to read.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise WanValidationError(
            FIELD, ".parquet", "needs pyarrow", "pip install 'airflow-provider-wan[parquet]'"
        ) from None
    try:
        opened = parquet.ParquetFile(file)
        names = [opened.schema_arrow.field(index).name for index in range(len(opened.schema_arrow))]
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise WanValidationError(FIELD, "the file", f"is not Parquet: {error}"[:300]) from None
    used = columns.select(names)
    number, size = 0, _PARQUET_BATCH
    if any(_holds_files(opened.schema_arrow.field(name).type) for name in used):
        size = _FILES_BATCH
    for group in range(opened.num_row_groups):
        end = number + opened.metadata.row_group(group).num_rows
        row_bytes = _average_row_bytes(opened.metadata.row_group(group), used)
        if row_bytes > MAX_ROW_BYTES:
            while number < end:
                number += 1
                yield RawRow(number, {}, f"has {row_bytes} bytes, and at most {MAX_ROW_BYTES} are read")
            continue
        try:
            for batch in opened.iter_batches(size, row_groups=[group], columns=used, use_threads=False):
                for values in _iterate_batch(batch):
                    number += 1
                    if isinstance(values, Exception):
                        yield RawRow(number, {}, f"cannot be read: {values}"[:300])
                    else:
                        yield map_row(number, values, columns)
        except (arrow.ArrowException, OSError, ValueError) as error:
            while number < end:
                number += 1
                yield RawRow(number, {}, f"cannot be read: {error}"[:300])


def _average_row_bytes(group: Any, used: Collection[str]) -> int:
    """Return how many bytes a row of a row group has in the columns that are used, once it is unpacked."""
    columns = (group.column(index) for index in range(group.num_columns))
    size = sum(each.total_uncompressed_size for each in columns if each.path_in_schema.partition(".")[0] in used)
    return size // group.num_rows if group.num_rows else 0


def _holds_files(arrow_type: Any) -> bool:
    """Return whether values may be files, of which only a few are kept in memory."""
    from pyarrow import types

    return bool(types.is_struct(arrow_type) or types.is_binary(arrow_type) or types.is_large_binary(arrow_type))


def _iterate_batch(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """Yield the values of each row by column, or why they cannot be read."""
    try:
        yield from cast("list[dict[str, Any]]", batch.to_pylist())
        return
    except Exception as error:  # such as a text that is not UTF-8, or a time beyond datetime
        log.debug("Rows are read one by one: %s", error)
    for index in range(batch.num_rows):
        try:
            yield {name: column[index].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        except Exception as error:
            yield error


# --- compression --------------------------------------------------------------------------------
@contextmanager
def decompress(file: IO[bytes]) -> Iterator[io.BufferedReader]:
    """Open what a file holds. The compression is known by the first bytes, whatever the name is.

    :param file: the open file.
    """
    if isinstance(file, io.BufferedReader) and not file.seekable():
        yield file
        return
    start = file.tell()
    magic = file.read(6)
    file.seek(start)
    opened = next((open_(file) for mark, open_ in _OPENERS.items() if magic.startswith(mark)), None)
    stream: io.BufferedReader[Any] = io.BufferedReader(
        _RawStream(file) if opened is None else _CompressedStream(opened), _CHUNK
    )
    try:
        yield stream
    finally:
        stream.detach()


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    import gzip

    return cast("IO[bytes]", gzip.GzipFile(fileobj=file))


def _open_bzip2(file: IO[bytes]) -> IO[bytes]:
    import bz2

    return bz2.BZ2File(file)


def _open_xz(file: IO[bytes]) -> IO[bytes]:
    import lzma

    return lzma.LZMAFile(file)


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        remedy = "pip install 'airflow-provider-wan[zstd]'"
        raise WanValidationError(FIELD, ".zst", "needs backports.zstd", remedy) from None
    return cast("IO[bytes]", zstd.ZstdFile(file))


_OPENERS = {
    b"\x1f\x8b": _open_gzip,
    b"BZh": _open_bzip2,
    b"\xfd7zXZ\x00": _open_xz,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}


class _RawStream(io.RawIOBase):
    """A file as a raw stream, for a buffer that can be detached without closing the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _CompressedStream(_RawStream):
    """A compressed file; if it is cut off or broken, the error says so."""

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        try:
            return super().readinto(buffer)
        except Exception as error:  # each library raises errors of its own
            raise WanValidationError(FIELD, "the file", f"is cut off or broken: {error}"[:300]) from None


def _refuse_utf16(stream: io.BufferedReader) -> None:
    if stream.peek(2)[:2] in _UTF16_MARKS:
        raise WanValidationError(FIELD, "the file", f"{_NOT_UTF8}, but UTF-16", "Save it as UTF-8")


_COMPRESSIONS = frozenset({".gz", ".zst", ".bz2", ".xz"})
_READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
}
