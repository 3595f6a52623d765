# SPDX-License-Identifier: Apache-2.0
"""
Reads a manifest row by row: a list, JSONL, CSV or Parquet on S3 or a local disk, or a prefix of images on S3.

Nothing is held but the row at hand. What is wrong with the whole (not UTF-8, no column of images, empty) is an error;
what is wrong with one row makes that row a :class:`RawRow` with its fault, and the others go on.

Rows are counted from 1; the header line of a CSV is no row.
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
from airflow_provider_wan.media.source import SourceMissingError, split_s3_uri

FIELD = "manifest"
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_LINE = 1_000_000  # bytes
_NOT_UTF8 = "is not UTF-8"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class RawRow:
    """
    One row as it stands there.

    :param number: from 1.
    :param values: by column; empty where there is a fault.
    :param fault: why it can't be read.
    :param typed: whether the values have types; in a CSV all is text.
    """

    number: int
    values: Mapping[str, Any]
    fault: str | None = None
    typed: bool = True


class Manifest(Protocol):
    """
    Where rows come from.

    :ivar shown: what it is, for people.
    :ivar uri: where it lies; None for a list.
    """

    @property
    def shown(self) -> str: ...

    @property
    def uri(self) -> str | None: ...

    def identity(self) -> str:
        """Return what changes when the rows change. Where that can't be told cheaply, it says less than it could."""

    def rows(self) -> Iterator[RawRow]:
        """Read it from the beginning, lazily."""


@dataclass(frozen=True)
class ListManifest:
    """Rows that are there already: mappings, or images by name."""

    items: Sequence[Any]
    uri: str | None = None

    @property
    def shown(self) -> str:
        """How many there are."""
        return f"a list of {len(self.items)}"

    def identity(self) -> str:
        """Return the hash of all rows."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(json.dumps(item, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """See :meth:`Manifest.rows`."""
        for number, item in enumerate(self.items, 1):
            if isinstance(item, str):
                yield RawRow(number, {"image": item})
            elif isinstance(item, Mapping):
                yield RawRow(number, {str(name): value for name, value in item.items()})
            else:
                yield RawRow(number, {}, f"must be a mapping or the image's address, and is {type(item).__name__}")


@dataclass(frozen=True)
class PrefixManifest:
    """
    Every image below a prefix on S3, by name.

    Folders whose names begin with ``_`` or ``.`` are left out, as Hive and Spark do: a batch whose clips go below its
    own images keeps copies and pictures in such folders, and must not take them for images.
    """

    uri: str
    s3: Callable[[], Any]

    @property
    def shown(self) -> str:
        """The prefix."""
        return self.uri

    def identity(self) -> str:
        """Return the hash of names, sizes and ETags."""
        digest = hashlib.sha256()
        for key, etag in self._keys():
            digest.update(f"{key}\n{etag}\n".encode())
        return digest.hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """See :meth:`Manifest.rows`."""
        bucket = self._place()[0]
        for number, (key, _) in enumerate(self._keys(), 1):
            yield RawRow(number, {"image": f"s3://{bucket}/{key}"})

    def _keys(self) -> Iterator[tuple[str, str]]:
        bucket, prefix = self._place()
        token: dict[str, str] = {}
        while True:
            page = self.s3().list_objects_v2(Bucket=bucket, Prefix=prefix, **token)
            for found in page.get("Contents", ()):
                path = PurePosixPath(found["Key"].removeprefix(prefix))
                hidden = any(folder.startswith(("_", ".")) for folder in path.parts[:-1])
                if path.suffix.lower() in IMAGE_TYPES and not hidden:
                    yield found["Key"], found["ETag"]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.uri.partition("://")[2].partition("/")
        return bucket, prefix


@dataclass(frozen=True)
class FileManifest:
    """A file of rows."""

    uri: str
    s3: Callable[[], Any]
    read: Callable[[IO[bytes]], Iterator[RawRow]]

    @property
    def shown(self) -> str:
        """Its address."""
        return self.uri

    def identity(self) -> str:
        """Return what S3 or the file system says of its state."""
        if self._path is None:
            bucket, key = split_s3_uri(self.uri, FIELD)
            head = self._ask(lambda: self.s3().head_object(Bucket=bucket, Key=key))
            told = f"{head['ETag']} {head['ContentLength']}"
        else:
            state = self._open_errors(self._path.stat)
            told = f"{state.st_size} {state.st_mtime_ns}"
        return hashlib.sha256(f"{self.uri} {told}".encode()).hexdigest()[:16]

    def rows(self) -> Iterator[RawRow]:
        """
        See :meth:`Manifest.rows`. The file is put on the local disk first: who reads a row may take hours before the
        next, and S3 keeps no connection open for so long.
        """
        if self._path is not None:
            with self._open_errors(lambda: open(self._path or "", "rb")) as file:
                yield from self.read(file)
            return
        bucket, key = split_s3_uri(self.uri, FIELD)
        with tempfile.TemporaryFile() as copy:
            with self._ask(lambda: self.s3().get_object(Bucket=bucket, Key=key))["Body"] as body:
                shutil.copyfileobj(body, copy, 1024 * 1024)
            copy.seek(0)
            yield from self.read(copy)

    @property
    def _path(self) -> Path | None:
        if self.uri.lower().startswith("file://"):
            return Path(unquote(urlsplit(self.uri).path))
        return None if "://" in self.uri else Path(self.uri)

    def _ask(self, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import ClientError

        try:
            return call()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "?")
            raise SourceMissingError(f"The manifest {self.uri} can't be read: {code}") from error

    def _open_errors(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise SourceMissingError(f"The manifest {self.uri} can't be read: {error.strerror}") from error


def open_manifest(given: object, s3: Callable[[], Any]) -> Manifest:
    """
    Return the manifest that is meant; nothing is read yet.

    :param given: a list, or the address of a ``.jsonl``, ``.csv`` or ``.parquet``, or an ``s3://`` prefix that ends
        in ``/``.
    :param s3: gives a boto3 S3 client when one is needed.
    :raises WanValidationError: for anything else.
    """
    rule = "must be a list, the address of a .jsonl, .csv or .parquet, or an s3:// prefix that ends in /"
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return ListManifest(given)
    if not isinstance(given, str) or not given.strip():
        raise WanValidationError(FIELD, given, rule)
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    if scheme not in ("", "file", "s3", "s3a", "s3n"):
        raise WanValidationError(FIELD, f"{scheme}://…", rule)
    if given.endswith("/") and scheme.startswith("s3"):
        return PrefixManifest(given, s3)
    reader = {
        ".jsonl": read_jsonl,
        ".ndjson": read_jsonl,
        ".csv": read_csv,
        ".parquet": read_parquet,
    }.get(PurePosixPath(given).suffix.lower())
    if reader is None:
        raise WanValidationError(FIELD, given, rule)
    return FileManifest(given, s3, reader)


def count_rows(manifest: Manifest) -> int:
    """Return the number of the last row; it costs one reading."""
    last = 0
    for raw in manifest.rows():
        last = raw.number
    return last


def read_jsonl(file: IO[bytes]) -> Iterator[RawRow]:
    """Read one JSON object a line. Empty lines are no rows, but they count: a row's number is its line's."""
    _refuse_utf16(file)
    number = 0
    for number, line in enumerate(iter(lambda: _line(file), b""), 1):
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


def _line(file: IO[bytes]) -> bytes:
    """Return the next line, and of one that is too long the beginning."""
    line = file.readline(MAX_LINE)
    rest = line
    while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE)
    return line


def read_csv(file: IO[bytes]) -> Iterator[RawRow]:
    """Read a CSV with a header line, as RFC 4180 has it. An empty cell means: not given."""
    _refuse_utf16(file)
    # Bytes that are not UTF-8 become surrogates, and so can be told row by row.
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
    """Read a Parquet file, some rows at a time."""
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
        raise WanValidationError(FIELD, "the file", f"is no Parquet: {error}"[:300]) from None
    check_columns(opened.schema_arrow.names)
    number = 0
    for batch in opened.iter_batches(batch_size=1000):
        for values in batch.to_pylist():
            number += 1
            yield RawRow(number, {name: value for name, value in values.items() if value is not None})


def check_columns(names: Sequence[str]) -> None:
    """
    Refuse a table whose columns can't be meant.

    :raises WanValidationError: where there is no image's column, one twice, or one that looks like a mistyped field.
    """
    from airflow_provider_wan.batch.item import IMAGE_COLUMNS, mistyped

    if not any(names):
        raise WanValidationError(FIELD, "the file", "is empty: it has no header")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WanValidationError(FIELD, ", ".join(twice), "is a column twice")
    if not set(IMAGE_COLUMNS) & set(names):
        shown = ", ".join(names)[:200]
        raise WanValidationError(FIELD, f"columns {shown}", f"must have a column {' or '.join(IMAGE_COLUMNS)}")
    if fault := mistyped(names):
        raise WanValidationError(FIELD, *fault)


def _refuse_utf16(file: IO[bytes]) -> None:
    start = file.read(2)
    file.seek(0)
    if start in _UTF16_MARKS:
        raise WanValidationError(FIELD, "the file", f"{_NOT_UTF8}, but UTF-16", "Save it as UTF-8")
