# SPDX-License-Identifier: Apache-2.0
"""Rows of a manifest, and their validation as items. No image is read here."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import redact
from airflow_provider_wan.api.request import DEFAULT_MODEL, ClipRequest, build_clip_request
from airflow_provider_wan.batch.values import IMAGES, NAME, convert_value, parse_cell, parse_literal
from airflow_provider_wan.ledger.fingerprint import normalize_payload, parse_idempotency_key
from airflow_provider_wan.media.source import MediaSource, Origin, shorten_address

log = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "img_url")
AUDIO_COLUMNS = ("audio_file", "audio_url")
#: Columns of other files, of models that have them.
OTHER_MEDIA = ("last_frame", "first_clip")
NAME_COLUMN = NAME
IDEMPOTENCY_COLUMN = "idempotency_key"
#: Columns, other than those of files, that are fields of the payload.
PARAMETERS = (
    "prompt",
    "negative_prompt",
    "resolution",
    "duration",
    "prompt_extend",
    "shot_type",
    "audio",
    "watermark",
    "seed",
    "model",
)
COLUMNS = (*IMAGE_COLUMNS, *AUDIO_COLUMNS, *OTHER_MEDIA, NAME_COLUMN, IDEMPOTENCY_COLUMN, *PARAMETERS)
# Replaces a URL that is known only after the ingest, so that everything else can be validated before it.
_PLACEHOLDER = "https://image.invalid/"
_NAME = re.compile(r"[^\x00-\x1f\x7f\\\ud800-\udfff]{1,200}")


@dataclass(frozen=True)
class RawRow:
    """One row as it was read.

    :param number: row number, from 1.
    :param values: values by column; empty if there is a fault.
    :param fault: why the row cannot be read.
    :param typed: whether the values have types; in a CSV every value is text.
    :param is_relative: whether the path of the image is relative to the manifest.
    """

    number: int
    values: Mapping[str, Any]
    fault: str | None = None
    typed: bool = True
    is_relative: bool = False


@dataclass(frozen=True)
class Item:
    """One requested clip.

    :param row: row number.
    :param image: where the image is.
    :param media: where its other files are, by the arguments' names: ``audio_url``, ``last_frame``, ``first_clip``.
    :param name: name of the clip below the output prefix, without ``.mp4``; None: derived from the image's name and
        the clip's fingerprint.
    :param request: the request, with placeholders for media that are not ingested yet.
    :param digest: hash of all else but the row number; equal for equal items.
    :param idempotency_key: text that makes it another clip, or None.
    """

    row: int
    image: MediaSource = field(repr=False)
    media: Mapping[str, MediaSource] = field(repr=False)
    name: str | None
    request: ClipRequest = field(repr=False)
    digest: str
    idempotency_key: str | None = None

    @property
    def label(self) -> str:
        """Row and image, for logs."""
        return f"Row {self.row} ({shorten_address(self.image.public_uri)})"

    @property
    def stem(self) -> str:
        """Name of the image, reduced to characters that are safe in a key."""
        return build_stem(self.image.text)


def build_stem(address: str) -> str:
    """Return the name of a file, reduced to characters that are safe in a key.

    :param address: its path or URI. Only in an http(s) URL, ``?`` and ``#`` end the path.
    """
    is_url = address.lower().startswith(("http://", "https://"))
    path = urlsplit(address).path if is_url else address
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(path).stem).strip("._")[:80] or "clip"


@dataclass(frozen=True)
class InvalidRow:
    """A row that cannot be submitted.

    :param row: row number.
    :param image: the image for display, without a query string.
    :param reason: names the field, the value and the rule.
    """

    row: int
    image: str | None
    reason: str


def parse_row(raw: RawRow, defaults: Mapping[str, Any]) -> Item | InvalidRow:
    """Validate a row.

    :param raw: the row.
    :param defaults: payload fields and idempotency key for rows that do not have them.
    :returns: the item, or what is wrong with the row.
    """
    if raw.fault is not None:
        return InvalidRow(raw.number, _display_image(raw.values), f"row {raw.number} {raw.fault}")
    try:
        if raw.typed and (problem := suggest_column(tuple(raw.values))):
            raise WanValidationError(f"row {raw.number}", *problem)
        converted = {name: convert_value(name, value) for name, value in raw.values.items() if name in COLUMNS}
        values = {name: value for name, value in converted.items() if value is not None}
        return _build_item(raw, values, defaults)
    except WanValidationError as error:
        return InvalidRow(raw.number, _display_image(raw.values), str(error))
    except Exception as error:  # nothing about one row may stop the others
        log.exception("Row %d cannot be read", raw.number)
        return InvalidRow(
            raw.number, _display_image(raw.values), f"row {raw.number} cannot be read: {type(error).__name__}"
        )


def _build_item(raw: RawRow, values: dict[str, Any], defaults: Mapping[str, Any]) -> Item:
    image_text = _pick_column(values, IMAGE_COLUMNS)
    if image_text is None:
        columns = ", ".join(raw.values) or "no columns"
        raise WanValidationError("image", None, f"must name the image; the row has {columns}")
    image = _parse_media("image", image_text)
    given = {"audio_url": _pick_column(values, AUDIO_COLUMNS) or defaults.get("audio_url")}
    given |= {name: values.get(name) for name in OTHER_MEDIA}
    media = {name: _parse_media(name, value) for name, value in given.items() if value is not None}
    if "first_clip" in media and media["first_clip"].origin is not Origin.WEB:
        value = media["first_clip"].public_uri
        raise WanValidationError("first_clip", value, "must be an http or https URL that the API can fetch")
    parameters = {name: value for name, value in defaults.items() if name in PARAMETERS and value is not None}
    for name in PARAMETERS:
        if name in values:
            value = values[name]
            parameters[name] = parse_cell(name, value) if isinstance(value, str) and not raw.typed else value
    request = build_clip_request(
        parameters.pop("model", DEFAULT_MODEL),
        {
            name: each.text if each.origin is Origin.WEB else _PLACEHOLDER
            for name, each in {"img_url": image, **media}.items()
        },
        **parameters,
    )
    clip_name = _validate_name(values.get(NAME_COLUMN))
    key = parse_idempotency_key(values.get(IDEMPOTENCY_COLUMN)) or defaults.get(IDEMPOTENCY_COLUMN)
    payload = normalize_payload(request.to_payload(), request.model)
    uris = {name: each.public_uri for name, each in media.items()}
    identity = [image.public_uri, uris, clip_name, key, request.model, payload]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Item(raw.number, image, media, clip_name, request, digest, key)


@lru_cache(maxsize=256)
def suggest_column(names: tuple[str, ...], given: frozenset[str] = frozenset()) -> tuple[str, str, str] | None:
    """Find a column that is likely a typo of a known one. Other unknown columns are ignored.

    :param names: names of the columns, or of those that have no other meaning.
    :param given: fields that have a value from elsewhere, for which no column can be meant.
    :returns: the name, the problem and the remedy; None if there is no likely typo.
    """
    known = {name.lower(): name for name in COLUMNS if name not in given}
    for name in names:
        if name in COLUMNS:
            continue
        similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.84)
        if similar:
            return (
                name,
                f"is not a known column; did you mean {known[similar[0]]!r}?",
                f"Rename it, or ignore it: columns={{{known[similar[0]]!r}: None}}",
            )
    return None


def _pick_column(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    given = [name for name in names if values.get(name) is not None]
    if len(given) > 1:
        raise WanValidationError(given[1], values[given[1]], f"duplicates {given[0]}: give only one of them")
    return values[given[0]] if given else None


def _parse_media(name: str, value: Any) -> MediaSource:
    remedy = f'Take the address out of the column: row_templates={{"{name}": "{{{{ images[0].url }}}}"}}'
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise WanValidationError(name, value, f"must be one file, and is a list of {len(value)}", remedy)
        value = value[0]
    path, content = name, value
    if isinstance(value, Mapping) and not isinstance(value.get("bytes"), str):  # as the library datasets stores images
        path = str(value.get("path") or name)
        content = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(content, bytes) and name in IMAGES:
        return MediaSource.embed(content, path)
    if not isinstance(content, str):
        raise WanValidationError(name, value, "must be an address, bytes, or a struct of bytes and path", remedy)
    try:
        return MediaSource.parse(content)
    except WanValidationError as error:
        raise WanValidationError(name, error.value, error.rule, error.remedy) from None


def parse_row_range(value: Any) -> tuple[int, int] | None:
    """Validate a range of rows.

    :param value: the first and the last row number, or the text that a template renders them to; or None.
    :raises WanValidationError: if the value is not such a range.
    """
    if value is None:
        return None
    rule = "must be the first and the last row number, such as [1, 500]"
    if isinstance(value, str):
        try:
            value = parse_literal(value)
        except ValueError:
            raise WanValidationError("rows", value, rule) from None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise WanValidationError("rows", value, rule)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in value) or not 1 <= value[0] <= value[1]:
        raise WanValidationError("rows", value, rule)
    return int(value[0]), int(value[1])


def _validate_name(value: Any) -> str | None:
    """Return a name that stays below the output prefix."""
    if value is None:
        return None
    rule = "must be a relative name such as cats/tom, without '..', backslashes and control characters"
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise WanValidationError(NAME_COLUMN, value, rule)
    name = value.removesuffix(".mp4")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or parts[0].startswith("_"):
        raise WanValidationError(NAME_COLUMN, value, f"{rule}, and must not begin with '_'")
    return name


def build_name_fault(name: str, other: int) -> WanValidationError:
    """Return what is wrong with a row whose name another row has.

    :param name: name of the clip.
    :param other: number of the other row.
    """
    return WanValidationError(NAME_COLUMN, name, f"is also the name of row {other}", "Use unique names")


def _display_image(values: Mapping[str, Any]) -> str | None:
    for name in IMAGE_COLUMNS:
        value = values.get(name)
        if isinstance(value, Mapping):
            value = value.get("path")
        if isinstance(value, str):
            return shorten_address(redact(value, 500), 500)
    return None
