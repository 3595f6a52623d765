# SPDX-License-Identifier: Apache-2.0
"""Reads a manifest row by row: a list; JSONL, CSV or Parquet on S3 or a local disk; or a prefix of images on S3.

Only the current row is in memory. A fault of the whole manifest (not UTF-8, no image column, empty) is an error. A
fault of one row makes it a :class:`~airflow_provider_wan.batch.rows.RawRow` with that fault, and the next row is read.

Rows are counted from 1. A CSV header is not counted; in JSONL the row number is the line number.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.rows import IMAGE_COLUMNS, RawRow, suggest_column
from airflow_provider_wan.media.source import SourceMissingError
from airflow_provider_wan.s3.objects import list_objects
from airflow_provider_wan.s3.uri import SCHEMES, build_s3_uri, is_s3_uri, parse_s3_uri, split_s3_uri

FIELD = "manifest"
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_LINE = 1_000_000  # bytes
_NOT_UTF8 = "is not UTF-8"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Manifest(Protocol):
    """A source of rows."""

    @property
    def description(self) -> str:
        """Description for display."""

    @property
    def uri(self) -> str | None:
        """Where it is stored; None for a list."""

    def identity(self) -> str:
        """Return a hash that changes when the rows change, as far as that is cheap to find out."""

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows from the beginning, lazily."""


@dataclass(frozen=True)
class ListManifest:
    """Rows in memory: mappings, or the addresses of images."""

    items: Sequence[Any]
    uri: str | None = None

    @property
    def description(self) -> str:
        """Number of items."""
        return f"a list of {len(self.items)}"

    def identity(self) -> str:
        """Return a hash of all rows."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(json.dumps(item, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`."""
        for number, item in enumerate(self.items, 1):
            if isinstance(item, str):
                yield RawRow(number, {"image": item})
            elif isinstance(item, Mapping):
                yield RawRow(number, {str(name): value for name, value in item.items()})
            else:
                yield RawRow(number, {}, f"must be a mapping or the address of an image, and is {type(item).__name__}")


@dataclass(frozen=True)
class PrefixManifest:
    """Every image below a prefix on S3, in the order of the keys.

    Folders whose names begin with ``_`` or ``.`` are excluded, as in Hive and Spark: a batch that writes its clips
    below its own images stores copies and thumbnails in such folders.

    :param uri: ``s3://`` prefix.
    :param s3: returns a boto3 S3 client.
    """

    uri: str
    s3: Callable[[], Any]

    @property
    def description(self) -> str:
        """The prefix."""
        return self.uri

    def identity(self) -> str:
        """Return a hash of the keys and ETags."""
        digest = hashlib.sha256()
        for key, etag in self._list_keys():
            digest.update(f"{key}\n{etag}\n".encode())
        return digest.hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`."""
        bucket, _ = split_s3_uri(self.uri)
        for number, (key, _) in enumerate(self._list_keys(), 1):
            yield RawRow(number, {"image": build_s3_uri(bucket, key)})

    def _list_keys(self) -> Iterator[tuple[str, str]]:
        bucket, prefix = split_s3_uri(self.uri)
        for found in list_objects(self.s3(), bucket, prefix):
            path = PurePosixPath(found["Key"].removeprefix(prefix))
            hidden = any(folder.startswith(("_", ".")) for folder in path.parts[:-1])
            if path.suffix.lower() in IMAGE_TYPES and not hidden:
                yield found["Key"], found["ETag"]


@dataclass(frozen=True)
class FileManifest:
    """A file of rows.

    :param uri: ``s3://`` or ``file://`` URI, or a local path.
    :param s3: returns a boto3 S3 client.
    :param read: reads rows from the open file.
    """

    uri: str
    s3: Callable[[], Any]
    read: Callable[[IO[bytes]], Iterator[RawRow]]

    @property
    def description(self) -> str:
        """URI of the file."""
        return self.uri

    def identity(self) -> str:
        """Return a hash of the ETag, or of the modification time, and the size."""
        if self._path is None:
            bucket, key = parse_s3_uri(self.uri, FIELD)
            head = self._call_s3(lambda: self.s3().head_object(Bucket=bucket, Key=key))
            version = f"{head['ETag']} {head['ContentLength']}"
        else:
            state = self._convert_os_errors(self._path.stat)
            version = f"{state.st_size} {state.st_mtime_ns}"
        return hashlib.sha256(f"{self.uri} {version}".encode()).hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`.

        An object is first copied to the local disk: hours may pass between two rows, and S3 does not keep a connection
        open for so long.
        """
        if self._path is not None:
            with self._convert_os_errors(lambda: open(self._path or "", "rb")) as file:
                yield from self.read(file)
            return
        bucket, key = parse_s3_uri(self.uri, FIELD)
        with tempfile.TemporaryFile() as copy:
            with self._call_s3(lambda: self.s3().get_object(Bucket=bucket, Key=key))["Body"] as body:
                shutil.copyfileobj(body, copy, 1024 * 1024)
            copy.seek(0)
            yield from self.read(copy)

    @property
    def _path(self) -> Path | None:
        if self.uri.lower().startswith("file://"):
            return Path(unquote(urlsplit(self.uri).path))
        return None if "://" in self.uri else Path(self.uri)

    def _call_s3(self, call: Callable[[], Any]) -> Any:
        from airflow_provider_wan.s3.errors import S3ResponseError, get_error_code

        try:
            return call()
        except S3ResponseError as error:
            raise SourceMissingError(
                f"The manifest {self.uri} can't be read: {get_error_code(error) or '?'}"
            ) from error

    def _convert_os_errors(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise SourceMissingError(f"The manifest {self.uri} can't be read: {error.strerror}") from error


def open_manifest(value: object, s3: Callable[[], Any]) -> Manifest:
    """Return a manifest. Nothing is read yet.

    :param value: a list; the address of a ``.jsonl``, ``.csv`` or ``.parquet`` file; or an ``s3://`` prefix that ends
        in ``/``.
    :param s3: returns a boto3 S3 client; called only if one is needed.
    :raises WanValidationError: if the value is anything else.
    """
    rule = "must be a list, the address of a .jsonl, .csv or .parquet, or an s3:// prefix that ends in /"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ListManifest(value)
    if not isinstance(value, str) or not value.strip():
        raise WanValidationError(FIELD, value, rule)
    scheme = value.partition("://")[0].lower() if "://" in value else ""
    if scheme not in ("", "file", *SCHEMES):
        raise WanValidationError(FIELD, f"{scheme}://…", rule)
    if value.endswith("/") and is_s3_uri(value):
        return PrefixManifest(value, s3)
    reader = {
        ".jsonl": read_jsonl,
        ".ndjson": read_jsonl,
        ".csv": read_csv,
        ".parquet": read_parquet,
    }.get(PurePosixPath(value).suffix.lower())
    if reader is None:
        raise WanValidationError(FIELD, value, rule)
    return FileManifest(value, s3, reader)


def count_rows(manifest: Manifest) -> int:
    """Return the number of the last row. This reads the whole manifest.

    :param manifest: the manifest.
    """
    last = 0
    for raw in manifest.rows():
        last = raw.number
    return last


def read_jsonl(file: IO[bytes]) -> Iterator[RawRow]:
    """Yield one row per line of JSON. Empty lines are ignored, but counted: the row number is the line number.

    :param file: the open file.
    """
    _refuse_utf16(file)
    number = 0
    for number, line in enumerate(iter(lambda: _read_line(file), b""), 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
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
            if isinstance(value, dict):
                yield RawRow(number, value)
            else:
                yield RawRow(number, {}, f"must be a JSON object, and is {type(value).__name__}")
    if number == 0:
        raise WanValidationError(FIELD, "the file", "is empty")


def _read_line(file: IO[bytes]) -> bytes:
    """Return the next line, truncated if it is too long."""
    line = file.readline(MAX_LINE)
    rest = line
    while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE)
    return line


def read_csv(file: IO[bytes]) -> Iterator[RawRow]:
    """Yield the rows of a CSV with a header, as in RFC 4180. An empty cell is treated as unset.

    :param file: the open file.
    """
    _refuse_utf16(file)
    # Bytes that are not UTF-8 become surrogates, so that they are a fault of their row only.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        check_columns(header)
        number = 0
        for cells in lines:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                yield RawRow(number, {}, f"has {len(cells)} cells, and the header has {len(header)}", typed=False)
            elif any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
                yield RawRow(number, {}, _NOT_UTF8, typed=False)
            else:
                values = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
                yield RawRow(number, values, typed=False)
    except csv.Error as error:
        raise WanValidationError(FIELD, f"line {lines.line_num}", f"is not CSV: {error}") from None
    finally:
        text.detach()


def read_parquet(file: IO[bytes]) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file, which is read in blocks.

    :param file: the open file.
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
    except (arrow.ArrowException, OSError) as error:
        raise WanValidationError(FIELD, "the file", f"is not Parquet: {error}"[:300]) from None
    check_columns(opened.schema_arrow.names)
    number = 0
    for batch in opened.iter_batches(batch_size=1000):
        for values in batch.to_pylist():
            number += 1
            yield RawRow(number, {name: value for name, value in values.items() if value is not None})


def check_columns(names: Sequence[str]) -> None:
    """Validate the columns of a table.

    :param names: names of the columns.
    :raises WanValidationError: if there is no image column, a column occurs twice, or one is likely a typo.
    """
    if not any(names):
        raise WanValidationError(FIELD, "the file", "is empty: it has no header")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise WanValidationError(FIELD, ", ".join(repeated), "occurs as a column more than once")
    if not set(IMAGE_COLUMNS) & set(names):
        columns = ", ".join(names)[:200]
        raise WanValidationError(FIELD, f"columns {columns}", f"must have a column {' or '.join(IMAGE_COLUMNS)}")
    if problem := suggest_column(names):
        raise WanValidationError(FIELD, *problem)


def _refuse_utf16(file: IO[bytes]) -> None:
    start = file.read(2)
    file.seek(0)
    if start in _UTF16_MARKS:
        raise WanValidationError(FIELD, "the file", f"{_NOT_UTF8}, but UTF-16", "Save it as UTF-8")
