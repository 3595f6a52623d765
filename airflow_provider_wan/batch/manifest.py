# SPDX-License-Identifier: Apache-2.0
"""Where the rows of a batch come from: a list, a file, or a folder of images or of files.

They are on S3, in other object storage, or on a local disk.

The formats are those of :mod:`airflow_provider_wan.batch.tables`. Only the current row is in memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, TypeVar

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import BY_NAME, FIELD, ColumnCollector, ColumnMapping
from airflow_provider_wan.batch.errors import EmptyManifestError
from airflow_provider_wan.batch.rows import RawRow
from airflow_provider_wan.batch.tables import Reader, find_reader, map_row, read_csv, read_parquet
from airflow_provider_wan.batch.values import dump_stably
from airflow_provider_wan.batch.webdataset import IMAGE_EXTENSIONS, read_webdataset
from airflow_provider_wan.media.object_storage import ObjectStorage, is_object_uri, require_storage
from airflow_provider_wan.media.source import SourceMissingError, parse_local_path, shorten_address
from airflow_provider_wan.s3.objects import find_object, list_objects, open_object
from airflow_provider_wan.s3.uri import SCHEMES, build_s3_uri, is_s3_uri, parse_s3_uri, split_s3_uri

T = TypeVar("T")
log = logging.getLogger(__name__)

_SHARD = re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz)$", re.IGNORECASE)
_COPY_BYTES = 1024 * 1024
METADATA_IMAGE = "file_name"
_METADATA_NAMES = frozenset(("metadata.jsonl", "metadata.csv", "metadata.parquet"))
_RULE = (
    "must be a list; the address of a .jsonl, .json, .csv, .tsv, .parquet or .tar; or a folder of images or of "
    "such files, whose address ends in /"
)


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
    columns: ColumnMapping = BY_NAME
    uri: str | None = None

    @property
    def description(self) -> str:
        """Number of items."""
        return f"a list of {len(self.items)}"

    def identity(self) -> str:
        """Return a hash of all rows."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(dump_stably(item).encode())
        return _mix(digest.hexdigest(), self.columns)

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`."""
        self.columns.check_rows(_list_columns(item) for item in self.items)
        for number, item in enumerate(self.items, 1):
            if isinstance(item, str):
                yield map_row(number, {"image": item}, self.columns)
            elif isinstance(item, Mapping):
                yield map_row(number, {str(name): value for name, value in item.items()}, self.columns)
            else:
                yield RawRow(number, {}, f"must be a mapping or the address of an image, and is {type(item).__name__}")


def _list_columns(item: Any) -> list[str]:
    """Return the names of the columns of an item of a list."""
    return [str(name) for name in item] if isinstance(item, Mapping) else ["image"] if isinstance(item, str) else []


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder.

    :param uri: address of the file.
    :param path: path below the folder.
    :param version: changes with the content.
    """

    uri: str
    path: PurePosixPath
    version: str


@dataclass(frozen=True)
class FolderManifest:
    """Every image below a folder, in the order of the names; or, if there is none, the rows of all files below it.

    Folders whose names begin with ``_`` or ``.`` are excluded, as in Hive and Spark: a batch that writes its clips
    below its own images stores copies and thumbnails in such folders. So are such files, but for images that begin with
    ``_``. Of shards, Parquet and other files, only the first kind is read that there is: the others describe it. Files
    without content are no fault, as Spark writes them for parts without rows. The record of a clip, ``cat.json`` beside
    ``cat.mp4``, is no file of rows: a batch may write its clips into the folder itself.

    A folder with a file ``metadata.jsonl``, ``.csv`` or ``.parquet``, as the library ``datasets`` reads it, has the
    rows of such files.

    :param uri: ``s3://``, ``gs://``, ``abfs://`` or ``file://`` URI, or a local path.
    :param s3: returns a boto3 S3 client.
    :param columns: the columns to read of files.
    :param storage: reads other object storage than S3.
    """

    uri: str
    s3: Callable[[], Any]
    columns: ColumnMapping = BY_NAME
    storage: ObjectStorage | None = None

    @property
    def description(self) -> str:
        """The folder."""
        return self.uri

    def identity(self) -> str:
        """Return a hash of the names and versions of the files that have rows, and of all images."""
        all_files, images, has_images = hashlib.sha256(), hashlib.sha256(), False
        for found in self._list():
            line = f"{found.path}\n{found.version}\n".encode("utf-8", "surrogatepass")
            all_files.update(line)
            if is_image(found.path) or is_metadata(found.path.name):
                has_images = True
                images.update(line)
        return _mix((images if has_images else all_files).hexdigest(), self.columns)

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`."""
        if any(is_metadata(found.path.name) for found in self._list()):
            yield from self._read_files(is_metadata)
            return
        if any(is_image(found.path) for found in self._list()):
            self.columns.select(["image"])
            images = (found.uri for found in self._list() if is_image(found.path))
            for number, image in enumerate(images, 1):
                yield map_row(number, {"image": image}, self.columns)
            return
        kinds = {_find_reader(found.path.name) for found in self._list()}
        main = next((kind for kind in (read_webdataset, read_parquet) if kind in kinds), None)
        yield from self._read_files(lambda name: main is None or _find_reader(name) is main)

    def _read_files(self, is_chosen: Callable[[str], bool]) -> Iterator[RawRow]:
        self.columns.check_rows(row for file in self._list_files(is_chosen) for row in _skip_empty(file.read_columns()))
        last = 0
        for file in self._list_files(is_chosen):
            number = last
            for row in _skip_empty(file.read_rows()):
                number = last + row.number
                yield replace(row, number=number)
            last = number

    def _list_files(self, is_chosen: Callable[[str], bool]) -> Iterator[FileManifest]:
        for found in self._list():
            if (read := _find_reader(found.path.name)) is not None and is_chosen(found.path.name):
                yield FileManifest(found.uri, self.s3, read, self.columns, self.storage)

    def _list(self) -> Iterator[StoredFile]:
        previous: StoredFile | None = None
        for each in self._list_all():
            if previous is not None and not _is_record(previous.path, each.path):
                yield from _select(previous)
            previous = each
        if previous is not None:
            yield from _select(previous)

    def _list_all(self) -> Iterator[StoredFile]:
        if is_s3_uri(self.uri):
            return _list_s3(self.uri, self.s3())
        if is_object_uri(self.uri):
            return _list_storage(self.uri, require_storage(self.storage, FIELD, self.uri))
        return _list_local(self.uri)


def _select(found: StoredFile) -> Iterator[StoredFile]:
    """Yield a file if it can have rows or be one."""
    path = found.path
    hidden = any(name.startswith(("_", ".")) for name in path.parts[:-1]) or path.name[:1] == "."
    is_table = path.name[:1] != "_" and _find_reader(path.name) is not None
    if not hidden and (is_image(path) or is_table):
        yield found


def _is_record(path: PurePosixPath, following: PurePosixPath) -> bool:
    """Return whether a file is the record of a clip, which follows it in the order of the names."""
    return path.suffix == ".json" and following == path.with_suffix(".mp4")


def _skip_empty(rows: Iterator[T]) -> Iterator[T]:
    """Yield the rows of a file in a folder; none if it has no content."""
    try:
        yield from rows
    except EmptyManifestError as error:
        log.info("%s", error)


def _find_reader(name: str) -> Reader | None:
    is_shard = _SHARD.search(name) is not None
    return read_webdataset if is_shard else find_reader(name)


def is_metadata(name: str) -> bool:
    """Return whether a file describes the images beside it, in a column ``file_name``.

    :param name: name of a file.
    """
    return name.lower() in _METADATA_NAMES


def is_image(path: PurePosixPath) -> bool:
    """Return whether a name is that of an image.

    :param path: name of a file.
    """
    return path.suffix[1:].lower() in IMAGE_EXTENSIONS


def _list_s3(uri: str, client: Any) -> Iterator[StoredFile]:
    bucket, prefix = split_s3_uri(uri)
    for found in list_objects(client, bucket, prefix):
        key = found["Key"]
        yield StoredFile(build_s3_uri(bucket, key), PurePosixPath(key.removeprefix(prefix)), found["ETag"])


def _list_storage(uri: str, storage: ObjectStorage) -> Iterator[StoredFile]:
    with _explained(uri):
        for path, version in storage.list_objects(uri):
            yield StoredFile(uri + path, PurePosixPath(path), version)


def _list_local(uri: str) -> Iterator[StoredFile]:
    root = parse_local_path(uri)

    def fail(error: OSError) -> None:
        raise SourceMissingError(f"The manifest {uri} can't be read: {error.strerror}") from error

    for folder, folders, files in os.walk(root, onerror=fail):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            try:
                state = path.stat()
                version = f"{state.st_size} {state.st_mtime_ns}"
            except OSError as error:  # a link to nowhere: its row says so
                version = str(error.strerror)
            yield StoredFile(str(path), PurePosixPath(path.relative_to(root).as_posix()), version)


@dataclass(frozen=True)
class FileManifest:
    """A file of rows.

    :param uri: ``s3://``, ``gs://``, ``abfs://`` or ``file://`` URI, or a local path.
    :param s3: returns a boto3 S3 client.
    :param read: reads rows from the open file.
    :param columns: the columns to read.
    :param storage: reads other object storage than S3.
    """

    uri: str
    s3: Callable[[], Any]
    read: Reader = field(repr=False)
    columns: ColumnMapping = BY_NAME
    storage: ObjectStorage | None = None

    @property
    def description(self) -> str:
        """URI of the file."""
        return self.uri

    def identity(self) -> str:
        """Return a hash of the ETag, or of the modification time, and the size."""
        if is_s3_uri(self.uri):
            bucket, key = parse_s3_uri(self.uri, FIELD)
            with _explained(self.uri):
                head = find_object(self.s3(), bucket, key)
            if head is None:
                raise SourceMissingError(f"The manifest {self.uri} can't be read: 404")
            version = f"{head['ETag']} {head['ContentLength']}"
        elif is_object_uri(self.uri):
            with _explained(self.uri):
                version = require_storage(self.storage, FIELD, self.uri).get_version(self.uri)
        else:
            with _explained(self.uri):
                state = parse_local_path(self.uri).stat()
            version = f"{state.st_size} {state.st_mtime_ns}"
        identity = f"{self.uri} {version}".encode("utf-8", "surrogatepass")
        return _mix(hashlib.sha256(identity).hexdigest(), self.columns)

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows, see :meth:`Manifest.rows`."""
        self.columns.check_rows(self.read_columns())
        yield from self.read_rows()

    def read_columns(self) -> Iterator[Sequence[str]]:
        """Yield the names of the columns of each row; nothing if the file has a header, which is checked by itself."""
        if not any(self.columns.columns.values()) or self.read in (read_csv, read_parquet):
            return
        collector = ColumnCollector()
        for _ in self._read_file(collector):
            yield collector.last_row

    def read_rows(self) -> Iterator[RawRow]:
        """Yield the rows.

        An object is first copied to the local disk: hours may pass between two rows, and no store keeps a connection
        open for so long.
        """
        is_described = is_metadata(self.uri.rpartition("/")[2])
        columns = self.columns.with_default("image", METADATA_IMAGE) if is_described else self.columns
        for row in self._read_file(columns):
            yield self._resolve_image(row) if row.is_relative or is_described else row

    def _read_file(self, columns: ColumnMapping) -> Iterator[RawRow]:
        try:
            with self._open_local() as file:
                if not file.read(1):
                    raise EmptyManifestError
                file.seek(0)
                yield from self.read(file, columns)
        except WanValidationError as error:
            name = shorten_address(self.uri)
            value, rule = (name, error.rule) if error.value == "the file" else (error.value, f"{error.rule}, in {name}")
            raise type(error)(error.field, value, rule, error.remedy) from None

    @contextmanager
    def _open_local(self) -> Iterator[IO[bytes]]:
        """Yield the open file, or a copy of the object."""
        if not is_s3_uri(self.uri) and not is_object_uri(self.uri):
            with _explained(self.uri):
                file: IO[bytes] = parse_local_path(self.uri).open("rb")
            with file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            with _explained(self.uri):
                self._copy_object(copy)
            copy.seek(0)
            yield copy

    def _copy_object(self, copy: IO[bytes]) -> None:
        if is_object_uri(self.uri):
            with require_storage(self.storage, FIELD, self.uri).open(self.uri) as file:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            return
        bucket, key = parse_s3_uri(self.uri, FIELD)
        with open_object(self.s3(), bucket, key) as (body, _):
            shutil.copyfileobj(body, copy, _COPY_BYTES)

    def _resolve_image(self, row: RawRow) -> RawRow:
        """Return a row whose image, if it is a path, is relative to this file."""
        image = row.values.get("image")
        if not isinstance(image, str) or "://" in image or image.startswith("/"):
            return row
        if not is_s3_uri(self.uri) and not is_object_uri(self.uri):
            return replace(row, values={**row.values, "image": str(parse_local_path(self.uri).parent / image)})
        scheme, _, place = self.uri.partition("://")
        bucket, *folders = place.split("/")[:-1]
        for part in image.split("/"):
            if part == ".." and not folders:
                fault = WanValidationError("image", image, f"leads above {scheme}://{bucket}")
                return replace(row, fault=str(fault))
            folders = folders[:-1] if part == ".." else folders if part == "." else [*folders, part]
        return replace(row, values={**row.values, "image": f"{scheme}://{'/'.join([bucket, *folders])}"})


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Say of a manifest that can't be read which one it is."""
    from airflow_provider_wan.s3.errors import S3ResponseError, get_error_code

    try:
        yield
    except S3ResponseError as error:
        raise SourceMissingError(f"The manifest {uri} can't be read: {get_error_code(error) or '?'}") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceMissingError(f"The manifest {uri} can't be read: {reason}") from error


def open_manifest(
    value: object, s3: Callable[[], Any], columns: ColumnMapping = BY_NAME, storage: ObjectStorage | None = None
) -> Manifest:
    """Return a manifest. Nothing is read yet.

    :param value: a list; the address of a file; or that of a folder, which ends in ``/``.
    :param s3: returns a boto3 S3 client; called only if one is needed.
    :param columns: the columns to read.
    :param storage: reads other object storage than S3.
    :raises WanValidationError: if the value is anything else.
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ListManifest(value, columns)
    if not isinstance(value, str) or not value.strip():
        raise WanValidationError(FIELD, value, _RULE)
    scheme = value.partition("://")[0].lower() if "://" in value else ""
    if scheme not in ("", "file", *SCHEMES) and not is_object_uri(value):
        raise WanValidationError(FIELD, f"{scheme}://…", _RULE)
    if value.endswith("/"):
        return FolderManifest(value, s3, columns, storage)
    reader = _find_reader(value)
    if reader is None:
        raise WanValidationError(FIELD, value, _RULE)
    return FileManifest(value, s3, reader, columns, storage)


def count_rows(manifest: Manifest) -> int:
    """Return the number of the last row. This reads the whole manifest.

    :param manifest: the manifest.
    """
    last = 0
    for raw in manifest.rows():
        last = raw.number
    return last


def _mix(digest: str, columns: ColumnMapping) -> str:
    """Return the identity of rows that are read with a mapping."""
    if columns:
        digest = hashlib.sha256(f"{digest} {columns.identity()}".encode()).hexdigest()
    return digest[:16]
