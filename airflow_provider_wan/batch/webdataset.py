# SPDX-License-Identifier: Apache-2.0
"""Reads WebDataset shards: a tar in which files of one sample follow each other, with the same name but the extension.

A sample becomes a row: its image, the fields of its ``.json``, and each text by its extension; ``.txt`` is the prompt,
if nothing else is.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import BY_NAME, FIELD, ColumnMapping
from airflow_provider_wan.batch.rows import IMAGE_COLUMNS, RawRow
from airflow_provider_wan.batch.tables import map_row
from airflow_provider_wan.media.image import MAX_SOURCE_BYTES

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif", "jp2")
_TEXT_EXTENSIONS = ("txt", "caption", "text")
_MAX_TEXT_BYTES = 1_000_000


def read_webdataset(file: IO[bytes], columns: ColumnMapping = BY_NAME) -> Iterator[RawRow]:
    """Yield one row per sample.

    :param file: the open file.
    :param columns: the columns to read.
    :raises WanValidationError: if it is not a tar, or is cut off.
    """
    number, key = 0, ""
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not member.isfile() or member.name.rpartition("/")[2].startswith("."):
                    continue
                member_key, extension = _split_name(member.name)
                if member_key != key and sample:
                    number += 1
                    yield _build_row(number, sample, columns)
                    sample = {}
                key = member_key
                _add_member(sample, archive, member, extension)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise WanValidationError(FIELD, f"after row {number}", f"is not a tar, or is cut off: {error}"[:300]) from None
    if sample:
        yield _build_row(number + 1, sample, columns)


def _split_name(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}", extension.lower()


def _add_member(sample: dict[str, Any], archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> None:
    is_image = extension in IMAGE_EXTENSIONS
    if not is_image and extension != "json" and extension not in _TEXT_EXTENSIONS:
        return
    if member.size > (MAX_SOURCE_BYTES if is_image else _MAX_TEXT_BYTES):
        sample["__fault__"] = f"{member.name} has {member.size} bytes"
        return
    opened = archive.extractfile(member)
    data = opened.read() if opened is not None else b""
    if is_image:
        sample["image"] = {"bytes": data, "path": member.name}
        return
    try:
        text = data.decode("utf-8")
        values = json.loads(text) if extension == "json" else {extension: text.strip()}
    except (ValueError, RecursionError) as error:
        sample["__fault__"] = f"{member.name} cannot be read ({error})"[:200]
        return
    if not isinstance(values, dict):
        sample["__fault__"] = f"{member.name} must be a JSON object"
        return
    for name, value in values.items():
        sample.setdefault(name, value)


def _build_row(number: int, sample: dict[str, Any], columns: ColumnMapping) -> RawRow:
    if fault := sample.pop("__fault__", None):
        return RawRow(number, {name: sample[name] for name in IMAGE_COLUMNS if name in sample}, fault)
    if (
        "txt" in sample
        and "prompt" not in sample
        and not {"prompt"} & (columns.columns.keys() | columns.templates.keys())
    ):
        sample["prompt"] = sample["txt"]
    return map_row(number, sample, columns)
