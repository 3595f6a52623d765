# SPDX-License-Identifier: Apache-2.0
"""The parameters of one clip, validated on construction, and the registry of the models whose rules are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import find_prompts, is_clean, register_prompt, strip_query

DEFAULT_MODEL = "wan2.6-i2v"
WAN27_MODEL = "wan2.7-i2v"
DURATIONS = (5, 10, 15)
#: Shortest and longest clip of ``wan2.7-i2v``, in seconds.
WAN27_DURATIONS = (2, 15)
MAX_PROMPT_LENGTH = 1500
MAX_NEGATIVE_PROMPT_LENGTH = 500
MAX_SEED = 2**31 - 1
#: Arguments that name files, of all models.
MEDIA_ARGUMENTS = ("img_url", "audio_url", "last_frame", "first_clip")
#: Parameters of a payload that hold a prompt, whatever the model is.
PROMPT_PARAMETERS = ("prompt", "negative_prompt", "text")


class Resolution(StrEnum):
    """Size class of the output; the aspect ratio is that of the image."""

    P720 = "720P"
    P1080 = "1080P"


class ShotType(StrEnum):
    """One shot or several; only effective if the prompt is extended."""

    SINGLE = "single"
    MULTI = "multi"


class WanRequest(Protocol):
    """One request to any model of the queue."""

    #: Fields of the payload that hold URLs of files, by the arguments' names; empty if it is unknown which they are.
    MEDIA_FIELDS: ClassVar[Mapping[str, str]]

    @property
    def model(self) -> str:
        """The model id; case sensitive."""

    @property
    def resolution(self) -> str:
        """Size class of the clip; empty if unknown."""

    @property
    def duration(self) -> int:
        """Length of the clip in seconds; 0 if unknown."""

    @property
    def seed(self) -> int | None:
        """The seed; ``None`` for a random one."""

    def to_payload(self) -> dict[str, Any]:
        """Return the ``payload`` of the submission as plain JSON values, without ``None``."""

    def with_seed(self, seed: int) -> WanRequest:
        """Return a copy of the request with another seed."""


class ClipRequest(WanRequest, Protocol):
    """One request to a model whose rules are known."""

    @property
    def prompt(self) -> str:
        """What happens in the clip."""

    def with_media(self, urls: Mapping[str, str]) -> ClipRequest:
        """Return a copy of the request with other URLs of its files, by the arguments' names."""


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

    MEDIA_FIELDS: ClassVar[Mapping[str, str]] = {"img_url": "img_url", "audio_url": "audio_url"}

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
        _check_flags(self, "prompt_extend", "audio", "watermark")
        _check_seed(self.seed)
        _check_model(self.model)

    def to_payload(self) -> dict[str, Any]:
        """Return the ``payload`` of the submission as plain JSON values, without ``None``."""
        return _build_payload(self)

    def with_seed(self, seed: int) -> I2VRequest:
        """Return a copy of the request with another seed."""
        return replace(self, seed=seed)

    def with_media(self, urls: Mapping[str, str]) -> I2VRequest:
        """Return a copy of the request with other URLs of its files, by the arguments' names."""
        return replace(self, **_name_media(I2VRequest, urls))


@dataclass(frozen=True)
class Wan27I2VRequest:
    """One image-to-video request to ``wan2.7-i2v``, with the documented fields and defaults.

    At least one of ``first_frame``, ``last_frame`` and ``first_clip`` has to be given: the clip would show nothing of
    yours, and be paid for.

    :param first_frame: http(s) URL of the image with which the clip begins.
    :param last_frame: http(s) URL of the image with which the clip ends.
    :param first_clip: http(s) URL of a video that the clip continues.
    :param driving_audio: http(s) URL of the sound.
    :param prompt: what happens in the clip; up to 1500 characters.
    :param negative_prompt: what the clip must not show; up to 500 characters.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: length of the clip in seconds: an integer from 2 to 15.
    :param prompt_extend: let the service elaborate the prompt.
    :param watermark: add the service's watermark to the clip.
    :param seed: 0-2147483647; ``None`` for a random one.
    :param model: the model id; case sensitive.
    :raises WanValidationError: naming the first invalid field, its value and the rule.

    Source: GMI Cloud, request queue API, model ``wan2.7-i2v``.
    """

    MEDIA_FIELDS: ClassVar[Mapping[str, str]] = {
        "img_url": "first_frame",
        "audio_url": "driving_audio",
        "last_frame": "last_frame",
        "first_clip": "first_clip",
    }

    first_frame: str | None = field(default=None, repr=False)
    last_frame: str | None = field(default=None, repr=False)
    first_clip: str | None = field(default=None, repr=False)
    driving_audio: str | None = field(default=None, repr=False)
    prompt: str = field(default="", repr=False)
    negative_prompt: str = field(default="", repr=False)
    resolution: str = Resolution.P1080
    duration: int = 5
    prompt_extend: bool = True
    watermark: bool = False
    seed: int | None = None
    model: str = WAN27_MODEL

    def __post_init__(self) -> None:
        for name in ("first_frame", "last_frame", "first_clip", "driving_audio"):
            if getattr(self, name) is not None:
                _check_url(name, getattr(self, name))
        if self.first_frame is None and self.last_frame is None and self.first_clip is None:
            raise WanValidationError("first_frame", None, "must be given, or else last_frame or first_clip")
        _check_text("prompt", self.prompt, MAX_PROMPT_LENGTH)
        _check_text("negative_prompt", self.negative_prompt, MAX_NEGATIVE_PROMPT_LENGTH)
        register_prompt(self.prompt)
        register_prompt(self.negative_prompt)
        _check_choice("resolution", self.resolution, Resolution)
        rule = f"must be an integer from {WAN27_DURATIONS[0]} to {WAN27_DURATIONS[1]} (seconds)"
        _check_integer("duration", self.duration, rule)
        if not WAN27_DURATIONS[0] <= self.duration <= WAN27_DURATIONS[1]:
            raise WanValidationError("duration", self.duration, rule)
        _check_flags(self, "prompt_extend", "watermark")
        _check_seed(self.seed)
        _check_model(self.model)

    def to_payload(self) -> dict[str, Any]:
        """Return the ``payload`` of the submission as plain JSON values, without ``None``."""
        return _build_payload(self)

    def with_seed(self, seed: int) -> Wan27I2VRequest:
        """Return a copy of the request with another seed."""
        return replace(self, seed=seed)

    def with_media(self, urls: Mapping[str, str]) -> Wan27I2VRequest:
        """Return a copy of the request with other URLs of its files, by the arguments' names."""
        return replace(self, **_name_media(Wan27I2VRequest, urls))


@dataclass(frozen=True)
class RawRequest:
    """One request with a payload as it is, to a model whose rules are not known here.

    :param model: the model id; case sensitive.
    :param payload: the payload, of JSON values. A ``seed`` is added to it when it is sent, if it has none: by it, the
        request is found again after a lost response.
    :param cost: US dollars that the request costs; ``None``: by the price for the model and the payload's
        ``resolution`` and ``duration``, if there is one.
    :raises WanValidationError: naming the invalid field.
    """

    MEDIA_FIELDS: ClassVar[Mapping[str, str]] = {}

    model: str
    payload: Mapping[str, Any] = field(repr=False)
    cost: float | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)
        if self.model in MODELS:
            raise WanValidationError("model", self.model, "is a model that WanI2VOperator validates", "Use it")
        if not isinstance(self.payload, Mapping) or not self.payload:
            raise WanValidationError("payload", "***", "must be an object with the model's parameters")
        try:
            copied = json.loads(json.dumps(dict(self.payload), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise WanValidationError("payload", "***", f"must consist of JSON values ({error})") from None
        _check_clean("payload", copied)
        object.__setattr__(self, "payload", copied)
        for prompt in find_prompts(copied):
            register_prompt(prompt)
        _check_seed(copied.get("seed"))

    @property
    def resolution(self) -> str:
        """The payload's ``resolution``; empty if it has none."""
        value = self.payload.get("resolution")
        return value if isinstance(value, str) else ""

    @property
    def duration(self) -> int:
        """The payload's ``duration`` in whole seconds; 0 if it has none."""
        value = self.payload.get("duration")
        text = str(value)
        return int(text) if not isinstance(value, bool) and text.isascii() and text.isdecimal() else 0

    @property
    def seed(self) -> int | None:
        """The payload's ``seed``."""
        value: int | None = self.payload.get("seed")
        return value

    def to_payload(self) -> dict[str, Any]:
        """Return the payload without ``None``."""
        return {name: value for name, value in self.payload.items() if value is not None}

    def with_seed(self, seed: int) -> RawRequest:
        """Return a copy of the request with another seed."""
        return replace(self, payload={**self.payload, "seed": seed})


#: The models whose rules are known: the class of their requests by their id.
MODELS: Mapping[str, type[I2VRequest] | type[Wan27I2VRequest]] = {
    DEFAULT_MODEL: I2VRequest,
    WAN27_MODEL: Wan27I2VRequest,
}

# Parameters of only some models, with the value that says nothing.
_NEUTRAL: Mapping[str, object] = {
    "shot_type": ShotType.SINGLE,
    "audio": True,
}


def get_request_class(model: object) -> type[I2VRequest] | type[Wan27I2VRequest]:
    """Return the class of the requests to a model.

    :param model: the model id.
    :raises WanValidationError: if its rules are not known: its payload may be another, and what a model does not know
        is ignored and paid for.
    """
    found = MODELS.get(model) if isinstance(model, str) else None
    if found is None:
        raise WanValidationError(
            "model",
            model,
            f"must be one of {_join(tuple(MODELS))}",
            "Model ids are case sensitive. WanRequestOperator sends a payload of your own to any other model",
        )
    return found


def build_clip_request(model: str, media: Mapping[str, str | None], **parameters: Any) -> ClipRequest:
    """Return the request to a model, with its files under the names that the model has for them.

    :param model: the model id.
    :param media: http(s) URLs by ``img_url``, ``audio_url``, ``last_frame`` and ``first_clip``.
    :param parameters: other parameters. One that the model does not have must say nothing, such as ``audio=True``.
    :raises WanValidationError: naming the invalid field.
    """
    cls = get_request_class(model)
    urls = {name: url for name, url in media.items() if url is not None}
    known = {each.name for each in fields(cls)}
    unknown = {name: url for name, url in urls.items() if name not in cls.MEDIA_FIELDS} | {
        name: value for name, value in parameters.items() if name not in known and value != _NEUTRAL.get(name, object())
    }
    for name, value in unknown.items():
        display = strip_query(value) if isinstance(value, str) else value
        raise WanValidationError(name, display, f"is not a parameter of {model}", "It would be ignored, and paid for")
    retained = {name: value for name, value in parameters.items() if name in known}
    return cls(model=model, **_name_media(cls, {"img_url": media.get("img_url"), **urls}), **retained)


def _name_media(cls: type[WanRequest], urls: Mapping[str, Any]) -> dict[str, Any]:
    return {cls.MEDIA_FIELDS[name]: url for name, url in urls.items()}


def _build_payload(request: I2VRequest | Wan27I2VRequest) -> dict[str, Any]:
    values = {each.name: getattr(request, each.name) for each in fields(request) if each.name != "model"}
    return {
        name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items() if value is not None
    }


_TYPED_REMEDY = "Pass an integer or a boolean, not text. Operators parse rendered templates themselves"


def _join(values: tuple[object, ...]) -> str:
    return ", ".join(str(value) for value in values)


def _check_url(field: str, value: object) -> None:
    rule = "must be an http or https URL that the API can fetch"
    if not isinstance(value, str) or not value.strip():
        raise WanValidationError(field, value, rule)
    _check_clean(field, value)
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


def _check_flags(request: object, *names: str) -> None:
    for name in names:
        if not isinstance(value := getattr(request, name), bool):
            raise WanValidationError(name, value, "must be true or false", _TYPED_REMEDY)


def _check_seed(seed: int | None) -> None:
    if seed is None:
        return
    rule = f"must be an integer from 0 to {MAX_SEED}"
    _check_integer("seed", seed, rule)
    if not 0 <= seed <= MAX_SEED:
        raise WanValidationError("seed", seed, rule)


def _check_model(model: object) -> None:
    if not isinstance(model, str) or not model.strip():
        raise WanValidationError("model", model, f"must be a model id such as {DEFAULT_MODEL!r}")


def _check_text(name: str, value: object, limit: int) -> None:
    if not isinstance(value, str):
        raise WanValidationError(name, value, "must be text")
    if len(value) > limit:
        rule = f"must have at most {limit} characters, and has {len(value)}"
        # Not the text itself: it would go into logs.
        raise WanValidationError(name, "…", rule, "Shorten it")
    _check_clean(name, value)


def _check_clean(name: str, value: object) -> None:
    # A service that echoes it could neither show this request nor list any other one.
    if not is_clean(value):
        rule = "must not contain half an emoji (a lone surrogate) or NUL"
        raise WanValidationError(name, "…", rule, "Remove these characters, or repair how the text was read")


def _check_choice(field: str, value: object, choices: type[StrEnum]) -> None:
    if not isinstance(value, str) or value not in tuple(choices):
        raise WanValidationError(field, value, f"must be one of {_join(tuple(choices))}")


def _check_integer(field: str, value: object, rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WanValidationError(field, value, rule, _TYPED_REMEDY if isinstance(value, str) else "")
