# SPDX-License-Identifier: Apache-2.0
"""The parameters of one clip, validated on construction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import register_prompt, strip_query

DEFAULT_MODEL = "wan2.6-i2v"
DURATIONS = (5, 10, 15)
MAX_PROMPT_LENGTH = 1500
MAX_NEGATIVE_PROMPT_LENGTH = 500
MAX_SEED = 2**31 - 1


class Resolution(StrEnum):
    """Size class of the output; the aspect ratio is that of the image."""

    P720 = "720P"
    P1080 = "1080P"


class ShotType(StrEnum):
    """One shot or several; only effective if the prompt is extended."""

    SINGLE = "single"
    MULTI = "multi"


@dataclass(frozen=True)
class I2VRequest:
    """One image-to-video request with the documented fields and defaults.

    :param img_url: http(s) URL of the image, which the API downloads.
    :param prompt: what happens in the clip; up to 1500 characters.
    :param negative_prompt: what the clip must not show; up to 500 characters.
    :param audio_url: http(s) URL of a wav or mp3 of 3-30 s; it is trimmed to ``duration``.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: length of the clip in seconds: the integer 5, 10 or 15.
    :param prompt_extend: let the service elaborate the prompt.
    :param shot_type: ``single`` or ``multi``.
    :param audio: generate audio if ``audio_url`` is not set.
    :param watermark: add the service's watermark to the clip.
    :param seed: 0-2147483647; ``None`` for a random one.
    :param model: the model id; case sensitive.
    :raises WanValidationError: naming the first invalid field, its value and the rule.

    Source: GMI Cloud, request queue API, model ``wan2.6-i2v``.
    """

    img_url: str = field(repr=False)
    prompt: str = field(default="", repr=False)
    negative_prompt: str = field(default="", repr=False)
    audio_url: str | None = field(default=None, repr=False)
    resolution: str = Resolution.P1080
    duration: int = 5
    prompt_extend: bool = True
    shot_type: str = ShotType.SINGLE
    audio: bool = True
    watermark: bool = False
    seed: int | None = None
    model: str = DEFAULT_MODEL

    def __post_init__(self) -> None:
        _check_url("img_url", self.img_url)
        _check_text("prompt", self.prompt, MAX_PROMPT_LENGTH)
        _check_text("negative_prompt", self.negative_prompt, MAX_NEGATIVE_PROMPT_LENGTH)
        register_prompt(self.prompt)
        register_prompt(self.negative_prompt)
        if self.audio_url is not None:
            _check_url("audio_url", self.audio_url)
        _check_choice("resolution", self.resolution, Resolution)
        _check_integer("duration", self.duration, f"must be one of the integers {_join(DURATIONS)} (seconds)")
        if self.duration not in DURATIONS:
            raise WanValidationError("duration", self.duration, f"must be one of {_join(DURATIONS)} (seconds)")
        _check_choice("shot_type", self.shot_type, ShotType)
        for name in ("prompt_extend", "audio", "watermark"):
            if not isinstance(value := getattr(self, name), bool):
                raise WanValidationError(name, value, "must be true or false", _TYPED_REMEDY)
        if self.seed is not None:
            rule = f"must be an integer from 0 to {MAX_SEED}"
            _check_integer("seed", self.seed, rule)
            if not 0 <= self.seed <= MAX_SEED:
                raise WanValidationError("seed", self.seed, rule)
        if not isinstance(self.model, str) or not self.model.strip():
            raise WanValidationError("model", self.model, f"must be a model id such as {DEFAULT_MODEL!r}")

    def to_payload(self) -> dict[str, Any]:
        """Return the ``payload`` of the submission as plain JSON values, without ``None``."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}
        return {
            name: str(value) if isinstance(value, StrEnum) else value
            for name, value in values.items()
            if value is not None
        }

    def with_seed(self, seed: int) -> I2VRequest:
        """Return a copy of the request with another seed."""
        return replace(self, seed=seed)


_TYPED_REMEDY = (
    "A Jinja template renders to text: pass typed values through XComArgs, "
    "or set render_template_as_native_obj=True on the Dag"
)


def _join(values: tuple[object, ...]) -> str:
    return ", ".join(str(value) for value in values)


def _check_url(field: str, value: object) -> None:
    rule = "must be an http or https URL that the API can fetch"
    if not isinstance(value, str) or not value.strip():
        raise WanValidationError(field, value, rule)
    display = strip_query(value)
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        raise WanValidationError(field, display, rule) from None
    if parts.scheme.lower() not in ("http", "https") or not host or any(c.isspace() for c in value):
        raise WanValidationError(
            field, display, rule, "S3ToWanOperator turns an S3 key, a local file or another URL into one"
        )
    if parts.username is not None or parts.password is not None:
        raise WanValidationError(field, f"{parts.scheme}://***@{host}", "must not hold a user name or password")


def _check_text(name: str, value: object, limit: int) -> None:
    if not isinstance(value, str):
        raise WanValidationError(name, value, "must be text")
    if len(value) > limit:
        rule = f"must have at most {limit} characters, and has {len(value)}"
        # Not the text itself: it would go into logs.
        raise WanValidationError(name, "…", rule, "Shorten it")


def _check_choice(field: str, value: object, choices: type[StrEnum]) -> None:
    if not isinstance(value, str) or value not in tuple(choices):
        raise WanValidationError(field, value, f"must be one of {_join(tuple(choices))}")


def _check_integer(field: str, value: object, rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WanValidationError(field, value, rule, _TYPED_REMEDY if isinstance(value, str) else "")
