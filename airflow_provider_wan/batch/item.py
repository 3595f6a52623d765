# SPDX-License-Identifier: Apache-2.0
"""What a row asks for: one clip, checked as far as that goes without looking at its image."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redact import redact
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.batch.manifest import RawRow
from airflow_provider_wan.ledger.fingerprint import comparable
from airflow_provider_wan.media.source import Origin, Source

IMAGE_COLUMNS = ("image", "img_url")
AUDIO_COLUMNS = ("audio_file", "audio_url")
NAME_COLUMN = "name"
#: Columns beside those of the image and the sound that are fields of the payload.
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
COLUMNS = (*IMAGE_COLUMNS, *AUDIO_COLUMNS, NAME_COLUMN, *PARAMETERS)
# What stands for the image until it is ingested, so that everything else can be checked before that.
_PLACEHOLDER = "https://image.invalid/"
_INTEGERS = ("duration", "seed")
_SWITCHES = ("prompt_extend", "audio", "watermark")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_NAME = re.compile(r"[^\x00-\x1f\x7f\\]{1,200}")


@dataclass(frozen=True)
class Item:
    """
    One clip that is wanted.

    :param row: number of its row.
    :param image: where the image lies.
    :param audio: where the sound lies, or None.
    :param name: of the clip below the output prefix, without ``.mp4``; None: made of the image's name and the
        clip's fingerprint.
    :param request: what is asked for, with placeholders for what is not ingested yet.
    :param digest: of all that; equal for equal items.
    """

    row: int
    image: Source = field(repr=False)
    audio: Source | None = field(repr=False)
    name: str | None
    request: I2VRequest = field(repr=False)
    digest: str

    @property
    def stem(self) -> str:
        """The image's name, as far as a key can carry it."""
        path = self.image.text if self.image.origin is not Origin.WEB else urlsplit(self.image.text).path
        stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(path).stem).strip("._")
        return stem[:80] or "clip"

    def with_sources(self, image_url: str, audio_url: str | None) -> I2VRequest:
        """Return the request, with what was ingested in it."""
        return replace(self.request, img_url=image_url, audio_url=audio_url)


@dataclass(frozen=True)
class BadRow:
    """A row that can't be made into an item. :param reason: names the field, the value and the rule."""

    row: int
    image: str | None
    reason: str


def read_item(raw: RawRow, defaults: Mapping[str, Any]) -> Item | BadRow:
    """
    Make an item of a row.

    :param raw: the row.
    :param defaults: fields of the payload, for rows that don't have them.
    """
    values = dict(raw.values)
    shown = _shown_image(values)
    if raw.fault is not None:
        return BadRow(raw.number, shown, f"row {raw.number} {raw.fault}")
    try:
        return _item(raw, values, defaults)
    except WanValidationError as error:
        return BadRow(raw.number, shown, str(error))


def _item(raw: RawRow, values: dict[str, Any], defaults: Mapping[str, Any]) -> Item:
    if raw.typed and (fault := mistyped(values)):
        raise WanValidationError(f"row {raw.number}", *fault)
    image_text = _one_of(values, IMAGE_COLUMNS)
    if image_text is None:
        raise WanValidationError("image", None, f"must name the image; the row has {', '.join(values) or 'nothing'}")
    image = _source("image", image_text)
    audio_text = _one_of(values, AUDIO_COLUMNS) or defaults.get("audio_url")
    audio = None if audio_text is None else _source("audio_url", audio_text)
    parameters = {name: value for name, value in defaults.items() if name in PARAMETERS and value is not None}
    for name in PARAMETERS:
        if values.get(name) is not None:
            parameters[name] = values[name] if raw.typed else typed_text(name, str(values[name]))
    request = I2VRequest(
        img_url=image.text if image.origin is Origin.WEB else _PLACEHOLDER,
        audio_url=None if audio is None else audio.text if audio.origin is Origin.WEB else _PLACEHOLDER,
        **parameters,
    )
    wished = _checked_name(values.get(NAME_COLUMN))
    told = [image.shown, audio and audio.shown, wished, request.model, comparable(request.to_payload())]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return Item(raw.number, image, audio, wished, request, digest)


def mistyped(names: Iterable[str]) -> tuple[str, str, str] | None:
    """
    Look for a column that looks like one of ours and is none: left alone, its values would be missed.

    :return: the name, the rule and the remedy; None where there is none. Other columns are the user's own.
    """
    known = {name.lower(): name for name in COLUMNS}
    for name in names:
        if name in COLUMNS:
            continue
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.84)
        if near:
            return name, f"is no column that is read; did you mean {known[near[0]]!r}?", "Rename it, or leave it out"
    return None


def _one_of(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    given = [name for name in names if values.get(name) is not None]
    if len(given) > 1:
        raise WanValidationError(given[1], values[given[1]], f"is given beside {given[0]}: one of them is enough")
    return values[given[0]] if given else None


def _source(name: str, text: Any) -> Source:
    try:
        return Source.parse(text)
    except WanValidationError as error:
        raise WanValidationError(name, error.value, error.rule) from None


def typed_text(name: str, text: str) -> Any:
    """
    Give the text of a CSV's cell, or of a template, the type of its field.

    :raises WanValidationError: where it has none.
    """
    text = text.strip() if name not in ("prompt", "negative_prompt") else text
    if name in _INTEGERS:
        try:
            return int(text)
        except ValueError:
            raise WanValidationError(name, text, "must be an integer") from None
    if name in _SWITCHES:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise WanValidationError(name, text, "must be true or false")
        return text.lower() in _TRUE
    return text


def _checked_name(value: Any) -> str | None:
    """Return a name that stays below the output prefix."""
    if value is None:
        return None
    rule = "must be a relative name such as cats/tom, without '..', backslashes and control characters"
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise WanValidationError(NAME_COLUMN, value, rule)
    name = value.removesuffix(".mp4")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or parts[0].startswith("_"):
        raise WanValidationError(NAME_COLUMN, value, f"{rule}, and not begin with '_'")
    return name


def _shown_image(values: Mapping[str, Any]) -> str | None:
    """Return the image of a row for people."""
    for name in IMAGE_COLUMNS:
        if isinstance(values.get(name), str):
            return redact(str(values[name]))[:500]
    return None
