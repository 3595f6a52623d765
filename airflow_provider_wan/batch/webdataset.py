# SPDX-License-Identifier: Apache-2.0
"""Reads WebDataset shards: a tar in which the files of one sample follow each other, with the same name up to a dot.

A sample becomes a row: its image, the fields of its ``.json``, and each text by its extension; ``.txt`` is the prompt,
if nothing else is.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Set
from itertools import groupby
from typing import IO, Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import BY_NAME, FIELD, ColumnMapping
from airflow_provider_wan.batch.rows import IMAGE_COLUMNS, RawRow
from airflow_provider_wan.batch.tables import decompress, map_row
from airflow_provider_wan.media.image import MAX_SOURCE_BYTES

IMAGE_EXTENSIONS = frozenset(
    ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif", "jp2", "j2k")
)
_TEXT_EXTENSIONS = ("txt", "caption", "text")
_MAX_TEXT_BYTES = 1_000_000


def read_webdataset(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield one row per sample.

    :param file: the open file, which is read twice.
    :param columns: the columns to read.
    :raises WanValidationError: if it is not a tar, or is cut off.
    """
    start, number = file.tell(), 0
    try:
        scattered = _find_scattered(file)
        file.seek(start)
        with decompress(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for number, (key, members) in enumerate(groupby(_list_members(archive), _get_key), 1):
                sample = _Sample(archive, members)
                if hash(key) in scattered:
                    rule = f"is one of several parts of the sample {key.strip('/')}: its files do not follow each other"
                    sample.fault = f"{rule}. Sort the tar, as tar --sort=name does"
                yield sample.build_row(number, columns)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise WanValidationError(FIELD, f"after row {number}", f"is not a tar, or is cut off: {error}"[:300]) from None


def _find_scattered(file: IO[bytes]) -> Set[int]:
    """Return the hashes of the samples whose files do not follow each other: one part would lack the prompt."""
    seen: set[int] = set()
    scattered: set[int] = set()
    with decompress(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for key, _ in groupby(_list_members(archive), _get_key):
            digest = hash(key)
            (scattered if digest in seen else seen).add(digest)
    return scattered


def _list_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files and the links, but for hidden ones."""
    for member in archive:
        if not member.isdir() and not member.name.rpartition("/")[2].startswith("."):
            yield member


def _get_key(member: tarfile.TarInfo) -> str:
    folder, _, file = member.name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


class _Sample:
    """The files of one sample."""

    def __init__(self, archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> None:
        self.fault: str | None = None
        self._names: list[str] = []
        self._values: dict[str, Any] = {}
        # The image of the clip is a.jpg rather than a.mask.png. Only the first of each kind is in memory.
        self._images: list[dict[str, Any]] = []
        self._other_images: list[dict[str, Any]] = []
        for member in members:
            self._names.append(member.name)
            self._add(archive, member)

    def build_row(self, number: int, columns: ColumnMapping) -> RawRow:
        """Return the row."""
        values, images = self._values, self._images or self._other_images
        if len(images) > 1:
            names = ", ".join(image["path"] for image in images)
            self.fault = self.fault or f"has several images: {names[:300]}. Rename all but one"
        elif not images and not values:
            self.fault = self.fault or f"has no image: its files are {', '.join(self._names)[:300]}"
        if images:
            values["image"] = images[0]
        if self.fault is not None:
            return RawRow(number, {name: values[name] for name in IMAGE_COLUMNS if name in values}, self.fault)
        if "txt" in values and "prompt" not in {*values, *columns.columns, *columns.templates}:
            values["prompt"] = values["txt"]
        return map_row(number, values, columns)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        stem, _, extension = member.name.rpartition("/")[2].rpartition(".")
        extension = extension.lower()
        is_image = extension in IMAGE_EXTENSIONS
        if not is_image and extension != "json" and extension not in _TEXT_EXTENSIONS:
            return
        if not member.isfile():
            remedy = "Store the file itself, with tar --hard-dereference --dereference"
            self.fault = f"{member.name} is a link to {member.linkname}. {remedy}"
        elif member.size > (MAX_SOURCE_BYTES if is_image else _MAX_TEXT_BYTES):
            self.fault = f"{member.name} has {member.size} bytes"
        elif is_image:
            images = self._other_images if "." in stem else self._images
            images.append({"bytes": None if images else _read(archive, member), "path": member.name})
        else:
            self._add_text(member.name, extension, _read(archive, member))

    def _add_text(self, name: str, extension: str, data: bytes) -> None:
        try:
            text = data.decode("utf-8-sig")
            values = json.loads(text) if extension == "json" else {extension: text.strip()}
        except (ValueError, RecursionError) as error:
            self.fault = f"{name} cannot be read ({error})"[:200]
            return
        if not isinstance(values, dict):
            self.fault = f"{name} must be a JSON object"
            return
        for field, value in values.items():
            self._values.setdefault(field, value)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    return b"" if opened is None else opened.read()
